//! Sessions: what locks belong to, and what ends them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    call::Call,
    client::Client,
    error::Error,
    wire::{duration, write_duration},
};

impl Client {
    /// Begins a session (`PUT /v1/session/create`).
    pub async fn create_session(&self, session: &SessionRequest) -> Result<SessionId, Error> {
        let call = Call::put("create session", ["v1", "session", "create"]).json(session);
        self.send_for::<Created>(&call)
            .await
            .map(|created| created.id)
    }

    /// Lets a session live for another TTL (`PUT /v1/session/renew/:id`). Returns the TTL that
    /// counts, which a busy server may raise; `None` when the session has none. An ended session
    /// is a 404 error.
    pub async fn renew_session(&self, session: &SessionId) -> Result<Option<Duration>, Error> {
        let path = ["v1", "session", "renew", session.as_str()];
        let renewed: Vec<Renewed> = self.send_for(&Call::put("renew session", path)).await?;
        Ok(renewed.into_iter().next().and_then(|session| session.ttl))
    }

    /// Ends a session and lets go of its locks (`PUT /v1/session/destroy/:id`). Ending it twice
    /// is no error.
    pub async fn destroy_session(&self, session: &SessionId) -> Result<(), Error> {
        let path = ["v1", "session", "destroy", session.as_str()];
        self.send_unit(&Call::put("destroy session", path)).await
    }
}

/// A session's ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a session shall be. The default lives as long as the agent's node is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionRequest {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The node it depends on; empty is the agent's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// How long nobody gets a lock that the session lost by force; `None` is 15 s.
    #[serde(
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub lock_delay: Option<Duration>,
    /// Node checks it depends on; `None` is `serfHealth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_checks: Option<Vec<String>>,
    /// What happens to its keys when it ends.
    pub behavior: SessionEnd,
    /// It ends when not renewed for so long, 10 s to 24 h; it may take twice as long.
    #[serde(
        rename = "TTL",
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<Duration>,
}

/// What happens to keys that an ending session holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionEnd {
    /// Nobody holds them any more.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: SessionId,
}

#[derive(Deserialize)]
struct Renewed {
    #[serde(default, rename = "TTL", deserialize_with = "duration")]
    ttl: Option<Duration>,
}
