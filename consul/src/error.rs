//! What can go wrong: before the first request ([`ConfigError`]) and with one ([`Error`]).

use std::{error::Error as StdError, fmt, io, path::PathBuf, time::Duration};

use http::StatusCode;

/// The cause of a failure, as the HTTP or TLS library names it.
type Cause = Box<dyn StdError + Send + Sync>;

/// What was asked for: an operation in words, and the path it was asked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// In words, to follow "cannot": `read leaf certificate`.
    pub operation: &'static str,
    /// The URL's path without host and query.
    pub path: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} ({})", self.operation, self.path)
    }
}

/// A request that brought no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings are unusable; no request was made.
    #[error("invalid Consul client settings")]
    Config(#[from] ConfigError),

    /// No connection: refused, reset while connecting, name not found.
    #[error("{endpoint}: the agent is unreachable")]
    Unreachable {
        /// What was asked for.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: Cause,
    },

    /// The answer didn't come in time.
    #[error("{endpoint}: no answer within {limit:?}")]
    Timeout {
        /// What was asked for.
        endpoint: Endpoint,
        /// How long the client waited; connecting included.
        limit: Duration,
    },

    /// The TLS handshake failed: certificates or names don't fit.
    ///
    /// An agent that refuses the client's own certificate says so after a TLS 1.3 handshake, while
    /// the request is on its way: that is [`Error::Interrupted`].
    #[error("{endpoint}: TLS handshake failed")]
    Tls {
        /// What was asked for.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: Cause,
    },

    /// The connection broke before the whole answer was here.
    #[error("{endpoint}: the answer was cut short")]
    Interrupted {
        /// What was asked for.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: Cause,
    },

    /// The agent answered with another status than 200.
    #[error("{endpoint}: status {}: {excerpt}", .status.as_u16())]
    Status {
        /// What was asked for.
        endpoint: Endpoint,
        /// The agent's status.
        status: StatusCode,
        /// The start of the body, up to [`Error::EXCERPT`] bytes, control characters replaced.
        excerpt: String,
        /// `X-Consul-Index`, when the answer carried one.
        index: Option<u64>,
    },

    /// The body is larger than [`Limits::response_body`](crate::Limits::response_body).
    #[error("{endpoint}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        endpoint: Endpoint,
        /// The limit in bytes.
        limit: usize,
    },

    /// The body isn't what this client expects.
    #[error("{endpoint}: unexpected answer")]
    Decode {
        /// What was asked for.
        endpoint: Endpoint,
        /// Where the JSON departs from what was expected.
        #[source]
        source: Cause,
    },

    /// The request itself couldn't be put into words: a name that isn't a URL segment, a body
    /// that isn't JSON.
    #[error("{endpoint}: the request cannot be written")]
    Encode {
        /// What was asked for.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Bytes of an error's body kept in [`Error::Status`]: Consul's messages are one line, a
    /// proxy's error page in between is not.
    pub const EXCERPT: usize = 512;

    /// What was asked for; `None` when the settings were wrong.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Config(_) => None,
            Self::Unreachable { endpoint, .. }
            | Self::Timeout { endpoint, .. }
            | Self::Tls { endpoint, .. }
            | Self::Interrupted { endpoint, .. }
            | Self::Status { endpoint, .. }
            | Self::TooLarge { endpoint, .. }
            | Self::Decode { endpoint, .. }
            | Self::Encode { endpoint, .. } => Some(endpoint),
        }
    }

    /// The agent's status, when it answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// `X-Consul-Index` of an answer that was an error.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        match self {
            Self::Status { index, .. } => *index,
            _ => None,
        }
    }

    /// Whether the same request may succeed later without anyone changing something.
    ///
    /// True for a missing agent, timeouts, broken connections, 429 and 5xx; false for a rejected
    /// token, a missing object, wrong certificates and answers that aren't understood. A 403
    /// saying `ACL not found` is false too, although a token written a moment ago may need some
    /// milliseconds to reach the server asked.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
            }
            Self::Config(_)
            | Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Decode { .. }
            | Self::Encode { .. } => false,
        }
    }

    /// Whether the agent said that the thing doesn't exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the token was refused.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self.status(),
            Some(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
        )
    }

    /// Whether the token itself is refused: unknown, deleted or expired. Consul words it alike
    /// wherever it is asked, and forwards the wording of servers within its own sentences.
    #[must_use]
    pub fn is_token_refused(&self) -> bool {
        self.is_forbidden() && self.says("ACL not found")
    }

    /// Whether the agent has no ACLs, so that no token means anything to it.
    #[must_use]
    pub fn is_without_acls(&self) -> bool {
        self.is_forbidden() && self.says("ACL support disabled")
    }

    fn says(&self, words: &str) -> bool {
        matches!(self, Self::Status { excerpt, .. } if excerpt.contains(words))
    }

    /// Sorts what the HTTP library reports into the kinds above.
    pub(crate) fn transport(endpoint: Endpoint, error: reqwest::Error, limit: Duration) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            return Self::Timeout { endpoint, limit };
        }
        let (tls, connect, build) = (
            has_tls_cause(&error),
            error.is_connect(),
            error.is_builder(),
        );
        let source: Cause = Box::new(error);
        if tls {
            Self::Tls { endpoint, source }
        } else if connect {
            Self::Unreachable { endpoint, source }
        } else if build {
            Self::Encode { endpoint, source }
        } else {
            Self::Interrupted { endpoint, source }
        }
    }
}

/// Looks for a rustls error below `error`. An `io::Error` hides the error it carries from
/// `source()`, so it is opened as well.
fn has_tls_cause(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        let carried = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    false
}

/// Settings that no client can be built from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The agent's address cannot be read.
    #[error("agent address `{address}`: {reason}")]
    Address {
        /// As it was written, unless it held a password.
        address: String,
        /// Why not.
        reason: String,
    },

    /// An environment variable holds something else than it should.
    #[error("{name} is not {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },

    /// A file that the settings name cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },

    /// A file holds no certificate or key in PEM.
    #[error("{} holds no usable {expected}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What the PEM reader says.
        #[source]
        source: Option<Cause>,
    },

    /// Only one half of the client certificate and its key was given.
    #[error("a client certificate needs its key, and a key its certificate")]
    HalfPair,

    /// The TLS library refuses the settings.
    #[error("unusable TLS settings: {reason}")]
    Tls {
        /// What is wrong.
        reason: &'static str,
        /// The cause.
        #[source]
        source: Option<Cause>,
    },

    /// The HTTP library refuses the settings.
    #[error("cannot set up the HTTP client")]
    Http(#[source] Cause),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: StatusCode) -> Error {
        let endpoint = Endpoint {
            operation: "read key",
            path: "/v1/kv/a".to_owned(),
        };
        Error::Status {
            endpoint,
            status,
            excerpt: "rate limit".to_owned(),
            index: Some(7),
        }
    }

    #[test]
    fn overload_is_retryable_and_refusal_is_not() {
        assert!(status(StatusCode::TOO_MANY_REQUESTS).is_retryable());
        assert!(status(StatusCode::INTERNAL_SERVER_ERROR).is_retryable());
        assert!(!status(StatusCode::FORBIDDEN).is_retryable());
        assert!(!status(StatusCode::NOT_FOUND).is_retryable());
    }

    #[test]
    fn a_refused_token_is_told_from_a_missing_right() {
        let refused = |words: &str| {
            let Error::Status {
                endpoint, index, ..
            } = status(StatusCode::FORBIDDEN)
            else {
                unreachable!("it is made above");
            };
            Error::Status {
                endpoint,
                status: StatusCode::FORBIDDEN,
                excerpt: words.to_owned(),
                index,
            }
        };
        assert!(refused("rpc error making call: ACL not found").is_token_refused());
        let right = refused("Permission denied: token lacks permission 'service:write' on \"web\"");
        assert!(right.is_forbidden() && !right.is_token_refused());
        assert!(refused("ACL support disabled").is_without_acls());
    }

    #[test]
    fn message_names_operation_path_and_status() {
        let error = status(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            error.to_string(),
            "cannot read key (/v1/kv/a): status 429: rate limit"
        );
        assert_eq!(error.index(), Some(7));
    }

    #[test]
    fn tls_cause_is_found_inside_an_io_error() {
        let io = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert!(has_tls_cause(&io));
        assert!(has_tls_cause(&io::Error::other(io)));
        assert!(!has_tls_cause(&io::Error::other("plain")));
    }

    #[test]
    fn errors_stay_small_enough_to_return() {
        assert!(size_of::<Error>() <= 128);
    }
}
