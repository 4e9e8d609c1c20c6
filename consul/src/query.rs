//! A read as a value: described first, then sent once or followed.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use serde::de::DeserializeOwned;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::{
    blocking::{Pacing, Position, Watch},
    call::Call,
    client::{Client, text},
    error::Error,
    wire::go_duration,
};

/// One read of the API that yields a `T`.
///
/// The methods set parameters; which of them an endpoint understands is Consul's matter, and
/// unknown ones are ignored by it. Datacenter, namespace and partition win over the client's.
pub struct Query<T> {
    client: Client,
    call: Call,
    decode: Decode<T>,
    absent: Option<fn() -> T>,
}

type Decode<T> = fn(&[u8]) -> serde_json::Result<T>;

/// How fresh an answer must be. The default asks the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Any server may answer, usually less than 50 ms behind; works without a leader.
    Stale,
    /// The leader asks a quorum first.
    Consistent,
    /// The leader, even when `discovery_max_stale` makes stale reads the agent's default.
    Leader,
}

/// An answer: the value, and what the headers say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response<T> {
    /// The answer itself.
    pub value: T,
    /// What the headers say.
    pub meta: Meta,
    /// The answer as it came.
    pub raw: Raw,
}

/// An answer as it came, for those who keep it: [`Query::read`] makes a value of it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// The object isn't there; only where that is an answer.
    Absent,
    /// The body.
    Body(Vec<u8>),
}

/// What an answer's headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `X-Consul-Index`: the position for a blocking query.
    pub index: Option<u64>,
    /// `X-Consul-ContentHash`: the position of hash-based blocking queries.
    pub content_hash: Option<String>,
    /// `X-Consul-KnownLeader`: whether the cluster has a leader.
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long ago the answering server heard from the leader.
    pub last_contact: Option<Duration>,
    /// `X-Cache`: whether the agent's cache answered; `None` when the cache wasn't asked.
    pub cache_hit: Option<bool>,
    /// `Age` of a cached answer; above zero, the agent has been cut off that long.
    pub cache_age: Option<Duration>,
    /// `X-Consul-Results-Filtered-By-ACLs`: the token hides part of the answer. For a proxy, that
    /// is a wrong token.
    pub filtered_by_acls: bool,
    /// `X-Consul-Default-ACL-Policy`: `allow` or `deny`.
    pub default_acl_policy: Option<String>,
    /// `Date`: the agent's clock, in whole seconds.
    pub date: Option<SystemTime>,
}

impl Meta {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let number = |name| text(headers, name).and_then(|t| t.parse::<u64>().ok());
        Self {
            index: number("x-consul-index"),
            content_hash: text(headers, "x-consul-contenthash").map(ToOwned::to_owned),
            known_leader: text(headers, "x-consul-knownleader").map(|t| t == "true"),
            last_contact: number("x-consul-lastcontact").map(Duration::from_millis),
            cache_hit: text(headers, "x-cache").map(|t| t.eq_ignore_ascii_case("hit")),
            cache_age: number("age").map(Duration::from_secs),
            filtered_by_acls: text(headers, "x-consul-results-filtered-by-acls") == Some("true"),
            default_acl_policy: text(headers, "x-consul-default-acl-policy").map(ToOwned::to_owned),
            date: text(headers, "date").and_then(date),
        }
    }
}

/// The form of dates in HTTP is one that mail has, too.
fn date(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok().map(Into::into)
}

impl<T: DeserializeOwned> Query<T> {
    pub(crate) fn new(client: &Client, call: Call) -> Self {
        Self::decoded(client, call, |body| serde_json::from_slice(body))
    }
}

impl<T> Query<T> {
    /// A query whose answer isn't a `T` right away.
    pub(crate) fn decoded(client: &Client, call: Call, decode: Decode<T>) -> Self {
        Self {
            client: client.clone(),
            call,
            decode,
            absent: None,
        }
    }

    /// Makes a 404 an answer: `absent` is what then comes out.
    pub(crate) fn or_absent(mut self, absent: fn() -> T) -> Self {
        self.call.may_be_absent = true;
        self.absent = Some(absent);
        self
    }

    /// Asks another datacenter; the agent forwards (`dc`).
    #[must_use]
    pub fn datacenter(self, datacenter: &str) -> Self {
        self.with("dc", datacenter)
    }

    /// Asks in a namespace (`ns`, Enterprise).
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        self.with("ns", namespace)
    }

    /// Asks in an admin partition (`partition`, Enterprise).
    #[must_use]
    pub fn partition(self, partition: &str) -> Self {
        self.with("partition", partition)
    }

    /// Asks for what a cluster peer exports to this cluster (`peer`; health and catalog).
    #[must_use]
    pub fn peer(self, peer: &str) -> Self {
        self.with("peer", peer)
    }

    /// Keeps only what matches a go-bexpr expression (`filter`), such as a resolver subset's.
    #[must_use]
    pub fn filter(self, expression: &str) -> Self {
        self.with("filter", expression)
    }

    /// Sorts by distance from a node, `_agent` being the agent's own (`near`; health, catalog).
    /// Turns the agent's streaming of health off.
    #[must_use]
    pub fn near(self, node: &str) -> Self {
        self.with("near", node)
    }

    /// Keeps only instances with all checks passing (`passing`; health). Not for failover, which
    /// must see warnings.
    #[must_use]
    pub fn passing(self) -> Self {
        self.with("passing", "true")
    }

    /// Merges proxy-defaults and service-defaults into proxies' definitions
    /// (`merge-central-config`; health, node services).
    #[must_use]
    pub fn merge_central_config(self) -> Self {
        self.with("merge-central-config", "")
    }

    /// Lets the agent's cache answer (`cached`). Not together with [`Consistency::Consistent`].
    #[must_use]
    pub fn cached(self) -> Self {
        self.with("cached", "")
    }

    /// Says how fresh the answer must be.
    #[must_use]
    pub fn consistency(self, consistency: Consistency) -> Self {
        let name = match consistency {
            Consistency::Stale => "stale",
            Consistency::Consistent => "consistent",
            Consistency::Leader => "leader",
        };
        self.with(name, "")
    }

    /// Sends the query and takes the answer as it is now.
    pub async fn once(&self) -> Result<Response<T>, Error> {
        self.at(&Position::Start, Duration::ZERO).await
    }

    /// Sends the query as a blocking one: it answers when something after `position` has
    /// happened, or after `wait` (plus Consul's own jitter of a 16th).
    ///
    /// For those who drive the loop themselves; others use [`Query::watch`].
    pub async fn at(&self, position: &Position, wait: Duration) -> Result<Response<T>, Error> {
        let (call, waiting) = match position {
            Position::Start => (self.call.clone(), Duration::ZERO),
            Position::Index(index) => (self.call.clone().with("index", index.to_string()), wait),
            Position::Hash(hash) => (self.call.clone().with("hash", hash.clone()), wait),
        };
        // Without a position there is nothing to wait for. A blocking query may take its time and
        // the server's jitter on top of what any request may take.
        let (call, waiting) = match waiting {
            Duration::ZERO => (call, waiting),
            wait => (call.with("wait", go_duration(wait)), wait + wait / 16),
        };
        let answer = self.client.send(&call, waiting).await?;
        let raw = if answer.absent {
            Raw::Absent
        } else {
            Raw::Body(answer.body)
        };
        Ok(Response {
            value: self.read(&raw)?,
            meta: answer.meta,
            raw,
        })
    }

    /// Reads an answer to this query that was kept.
    pub fn read(&self, answer: &Raw) -> Result<T, Error> {
        let body: &[u8] = match (answer, self.absent) {
            (Raw::Absent, Some(absent)) => return Ok(absent()),
            // No JSON at all, which the decoder says best.
            (Raw::Absent, None) => &[],
            (Raw::Body(body), _) => body,
        };
        (self.decode)(body).map_err(|e| Error::Decode {
            endpoint: self.call.endpoint(),
            source: Box::new(e),
        })
    }

    /// What is asked, in words: two queries with the same words ask the same of one agent.
    #[must_use]
    pub fn words(&self) -> String {
        self.call.words()
    }

    /// Follows the answer from now on. Nothing is sent before the first
    /// [`Watch::next`](crate::blocking::Watch::next); dropping the watch ends it.
    #[must_use]
    pub fn watch(self, pacing: Pacing) -> Watch<T> {
        Watch::new(self, pacing)
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.call = self.call.with(name, value);
        self
    }
}

impl<T> Clone for Query<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            call: self.call.clone(),
            decode: self.decode,
            absent: self.absent,
        }
    }
}

impl<T> fmt::Debug for Query<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-consul-index", "42"),
            ("x-consul-knownleader", "true"),
            ("x-consul-lastcontact", "15"),
            ("x-cache", "HIT"),
            ("age", "3"),
            ("x-consul-results-filtered-by-acls", "true"),
            ("date", "Thu, 01 Jan 1970 00:01:00 GMT"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let meta = Meta::read(&headers);
        let expected = Meta {
            index: Some(42),
            known_leader: Some(true),
            last_contact: Some(Duration::from_millis(15)),
            cache_hit: Some(true),
            cache_age: Some(Duration::from_secs(3)),
            filtered_by_acls: true,
            date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)),
            ..Meta::default()
        };
        assert_eq!(meta, expected);
    }
}
