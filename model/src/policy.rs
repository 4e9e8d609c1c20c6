//! Policies of resilience: timeouts, retries, limits, ejection, balancing.

use http::HeaderName;
use std::time::Duration;

/// How long a request may take. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// From the end of the request's head to the end of the response. Not
    /// applied to upgraded connections.
    pub request: Option<Duration>,
    /// One try, from choosing an endpoint to the response's head.
    pub per_try: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
}

impl Default for RouteTimeouts {
    /// Envoy's route defaults, which Consul leaves in force: 15 s a request,
    /// 5 min idle.
    fn default() -> Self {
        Self {
            request: Some(Duration::from_secs(15)),
            per_try: None,
            idle: Some(Duration::from_secs(300)),
        }
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Status codes that are tried again.
    pub statuses: Vec<u16>,
    /// Wait before the first retry; doubles for each further one, with full jitter.
    pub backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
}

impl RetryPolicy {
    /// Envoy's back-off: 25 ms, at most ten times that.
    pub fn new(retries: u32, on: RetryOn) -> Self {
        Self {
            retries,
            on,
            statuses: Vec::new(),
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
        }
    }
}

/// Conditions of a retry, named as in Envoy's `x-envoy-retry-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// Any 5xx, or no response at all.
    pub server_error: bool,
    /// 502, 503, 504.
    pub gateway_error: bool,
    /// The upstream reset or closed before a response.
    pub reset: bool,
    /// The reset came before the request was sent.
    pub reset_before_request: bool,
    /// The connection could not be made.
    pub connect_failure: bool,
    /// 409.
    pub retriable_4xx: bool,
    /// HTTP/2 REFUSED_STREAM.
    pub refused_stream: bool,
    /// A status of [`RetryPolicy::statuses`].
    pub retriable_status_codes: bool,
    /// gRPC statuses in the response's head: cancelled (1), deadline-exceeded (4),
    /// resource-exhausted (8), internal (13), unavailable (14), as bits of `1 << code`.
    pub grpc_statuses: u32,
}

/// How much of an upstream a proxy may use at once (Consul's `UpstreamConfig.Limits`).
/// `None` is Envoy's default of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitLimits {
    /// Connections.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending_requests: Option<u32>,
    /// Requests under way.
    pub requests: Option<u32>,
}

/// When an endpoint is left out for a while (Consul's `PassiveHealthCheck`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// How often the tables are looked through.
    pub interval: Duration,
    /// First length of an ejection; it grows with each further one.
    pub base_ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// Share of the endpoints that may be ejected, in percent. One may be in any
    /// case, if another stays available; 0 ejects none.
    pub max_ejected_percent: u8,
    /// Chance in percent that an endpoint over the threshold is really ejected.
    pub enforcing_percent: u8,
}

impl Default for OutlierPolicy {
    /// Envoy's, which Consul turns on for every upstream.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 10,
            enforcing_percent: 100,
        }
    }
}

/// How an endpoint is chosen (service-resolver `LoadBalancer.Policy`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoadBalancing {
    /// In turn, by weight. Envoy's default.
    #[default]
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// The least busy of `choices` drawn ones.
    LeastRequest {
        /// How many are drawn; Envoy draws 2.
        choices: u32,
    },
    /// Consistent hashing over a ring.
    RingHash {
        /// Least number of points on the ring.
        min_size: u64,
        /// Most.
        max_size: u64,
        /// What is hashed.
        hash: Vec<HashPolicy>,
    },
    /// Consistent hashing over a table of 65537 places.
    Maglev {
        /// What is hashed.
        hash: Vec<HashPolicy>,
    },
    /// Lowest moving average of latency times requests under way, of two drawn.
    PeakEwma,
}

/// One source of the hash (service-resolver `HashPolicies`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPolicy {
    /// What is hashed.
    pub on: HashOn,
    /// Whether later policies are skipped once this one gave a hash.
    pub terminal: bool,
}

/// What a request is hashed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A header's value.
    Header(HeaderName),
    /// A cookie's value; generated where `ttl` is given and the request has none.
    Cookie {
        /// Name of the cookie.
        name: String,
        /// `Some(ZERO)` makes a session cookie, `None` only reads.
        ttl: Option<Duration>,
        /// Path attribute of a generated cookie.
        path: String,
    },
    /// A query parameter's value.
    Query(String),
    /// The client's address.
    SourceIp,
}
