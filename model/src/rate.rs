//! Rate limits: how many requests a listener takes.

use crate::route::PathMatch;
use std::num::NonZeroU32;
use std::time::Duration;

/// One limit on the requests of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Limits of some paths, instead of the one below: the first that matches holds.
    pub routes: Vec<RouteRate>,
    /// Limit of all other requests together; `None` where they have none.
    pub bucket: Option<TokenBucket>,
    /// Share of the requests that the limit looks at, in percent.
    pub enabled: u8,
    /// Share of the requests above the limit that are refused, in percent; the others are only
    /// counted.
    pub enforced: u8,
}

/// The limit of some paths.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRate {
    /// The normalized paths, without the query.
    pub path: PathMatch,
    /// Their limit; `None` where they have none.
    pub bucket: Option<TokenBucket>,
}

/// So many at once, and so many more with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Requests that may come at once after a pause.
    pub capacity: NonZeroU32,
    /// Requests that may come in each interval.
    pub fill: NonZeroU32,
    /// The interval; not zero.
    pub interval: Duration,
}

impl RateLimit {
    /// A limit that holds for all requests and refuses all above it.
    pub fn of(bucket: TokenBucket) -> Self {
        Self {
            routes: Vec::new(),
            bucket: Some(bucket),
            enabled: 100,
            enforced: 100,
        }
    }
}
