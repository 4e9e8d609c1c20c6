//! One topic's place in memory: what is put there, and what was found.

use super::{FORMAT, Memory, seconds, split};
use crate::causes::chain_of;
use crate::knowledge::Topic;
use consul::Raw;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// An answer of the last run.
#[derive(Debug)]
pub(crate) enum Kept {
    /// As it was.
    Answer(Raw, SystemTime),
    /// Without the private key that it had.
    WithoutKey(SystemTime),
}

/// One topic's place in memory.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    pub(super) memory: Memory,
    pub(super) file: String,
    pub(super) request: String,
    pub(super) secrets: &'static [&'static str],
}

impl Shelf {
    /// Puts an answer of Consul's there in place of the one before.
    pub(crate) fn keep(&self, answer: &Raw) {
        self.put(answer, None);
    }

    /// The same with somebody else's answer, which is as old as it is, however fresh Consul's are.
    pub(crate) fn keep_of(&self, answer: &Raw, at: SystemTime) {
        self.put(answer, Some(at));
    }

    fn put(&self, answer: &Raw, at: Option<SystemTime>) {
        let is_kept = self.memory.shared.keep_keys || self.secrets.is_empty();
        let (body, redacted) = match answer {
            Raw::Absent => (Vec::new(), false),
            Raw::Body(body) if is_kept => (body.clone(), false),
            Raw::Body(body) => match without(body, self.secrets) {
                Some(body) => (body, true),
                // It was read a moment ago, so it is JSON. Nothing is better than a key.
                None => return,
            },
        };
        let head = json!({
            "format": FORMAT,
            "request": self.request,
            "at": at.map(seconds),
            "absent": *answer == Raw::Absent,
            "withoutKey": redacted,
            "withKey": !redacted && !self.secrets.is_empty(),
        });
        let mut bytes = head.to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend(body);
        let mut state = self.memory.state();
        state.pending.insert(self.file.clone(), Some(bytes));
        drop(state);
        self.memory.shared.news.notify_one();
    }

    /// What the last run left there.
    pub(crate) fn recall(&self) -> Option<Kept> {
        let shared = &self.memory.shared;
        let last_run = shared.last_run?;
        let bytes = match shared.folder.read(&self.file) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), "memory is not used");
                return None;
            }
        };
        let (head, body) = split(&bytes)?;
        // The name is a digest: the words are compared.
        if head["request"] != *self.request {
            return None;
        }
        let own = head["at"].as_u64();
        let at = own.map_or(last_run, |at| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(at)
        });
        if head["withoutKey"] == true {
            return Some(Kept::WithoutKey(at));
        }
        let answer = if head["absent"] == true {
            Raw::Absent
        } else {
            Raw::Body(body.to_vec())
        };
        Some(Kept::Answer(answer, at))
    }
}

/// Fields of an answer that hold a private key.
pub(super) fn secrets(topic: &Topic) -> &'static [&'static str] {
    match topic {
        Topic::Leaf(_) => &["PrivateKeyPEM"],
        Topic::Entry(kind, _) if *kind == "inline-certificate" => &["PrivateKey"],
        _ => &[],
    }
}

fn without(body: &[u8], fields: &[&str]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let object = value.as_object_mut()?;
    for field in fields {
        object.remove(*field);
    }
    serde_json::to_vec(&value).ok()
}
