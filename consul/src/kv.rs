//! The key-value store, with compare-and-set and locks.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de};

use crate::{call::Call, client::Client, error::Error, query::Query, session::SessionId};

impl Client {
    /// One key; `None` when it doesn't exist (`GET /v1/kv/:key`). Blocks, also on a missing key.
    #[must_use]
    pub fn kv(&self, key: &str) -> Query<Option<Pair>> {
        Query::decoded(self, Call::get("read key", path(key)), |body| {
            serde_json::from_slice::<Vec<Pair>>(body).map(|pairs| pairs.into_iter().next())
        })
        .or_absent(|| None)
    }

    /// All keys that start with `prefix`; empty when there are none (`GET /v1/kv/:prefix?recurse`).
    /// Blocks. Deleting the newest key makes the index go backwards.
    #[must_use]
    pub fn kv_list(&self, prefix: &str) -> Query<Vec<Pair>> {
        let call = Call::get("list keys", path(prefix)).with("recurse", "");
        Query::new(self, call).or_absent(Vec::new)
    }

    /// Writes a key, under a condition or not; whether it was written
    /// (`PUT /v1/kv/:key`). A value has at most 512 KiB by Consul's default.
    pub async fn kv_put(&self, key: &str, value: &[u8], put: Put<'_>) -> Result<bool, Error> {
        let call = Call::put("write key", path(key)).bytes(value.to_vec());
        let call = match put {
            Put::Always => call,
            Put::IfIndex(index) => call.with("cas", index.to_string()),
            Put::Acquire(session) => call.with("acquire", session.as_str()),
            Put::Release(session) => call.with("release", session.as_str()),
        };
        self.send_for(&call).await
    }

    /// Deletes; whether it was done, which only [`Delete::IfIndex`] leaves open
    /// (`DELETE /v1/kv/:key`). A missing key counts as deleted.
    pub async fn kv_delete(&self, key: &str, delete: Delete) -> Result<bool, Error> {
        let call = Call::delete("delete key", path(key));
        let call = match delete {
            Delete::Key => call,
            Delete::IfIndex(index) => call.with("cas", index.to_string()),
            Delete::Prefix => call.with("recurse", ""),
        };
        self.send_for(&call).await
    }
}

/// When a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put<'a> {
    /// In any case.
    Always,
    /// When its [`Pair::modify_index`] is still this one; 0: when it doesn't exist.
    IfIndex(u64),
    /// When no other session holds it; the session then does.
    Acquire(&'a SessionId),
    /// When the session holds it; it then doesn't any more.
    Release(&'a SessionId),
}

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The key.
    Key,
    /// The key, when its [`Pair::modify_index`] is still this one.
    IfIndex(u64),
    /// Every key that starts so.
    Prefix,
}

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    #[serde(deserialize_with = "base64")]
    pub value: Vec<u8>,
    /// A number for the writer's own use.
    pub flags: u64,
    /// How often it was locked. With session and key, it makes a fencing token.
    pub lock_index: u64,
    /// The session that holds it.
    pub session: Option<SessionId>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

fn path(key: &str) -> impl Iterator<Item = &str> {
    ["v1", "kv"].into_iter().chain(key.split('/'))
}

/// An empty value is written as `null`.
fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    STANDARD.decode(text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_decoded() {
        let pair: Pair = serde_json::from_str(r#"{"Key": "a", "Value": "aGkA"}"#).unwrap();
        assert_eq!(pair.value, b"hi\0");
        let pair: Pair = serde_json::from_str(r#"{"Key": "a", "Value": null}"#).unwrap();
        assert_eq!(pair.value, b"");
        serde_json::from_str::<Pair>(r#"{"Value": "%"}"#).unwrap_err();
    }
}
