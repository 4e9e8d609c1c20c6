//! Where the agent listens, read as the `consul` CLI reads `CONSUL_HTTP_ADDR`.

use std::{fmt, path::PathBuf};

use url::Url;

use crate::error::ConfigError;

/// Where the agent's HTTP API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http://` or `https://`, with an optional path in front of `/v1` (a reverse proxy's).
    Url(Url),
    /// A unix socket, spoken to in plain HTTP.
    Unix(PathBuf),
}

impl Address {
    /// The address that the `consul` CLI uses when nothing is said.
    pub const DEFAULT: &'static str = "127.0.0.1:8500";

    /// Reads `host:port`, `http://…`, `https://…` or `unix:///path`.
    ///
    /// An address without a scheme is `https` when `tls` is set. `tls` also turns `http://` into
    /// `https://`, because the CLI never goes back to plain text once TLS was asked for.
    pub fn parse(text: &str, tls: bool) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::Address {
            address: text.to_owned(),
            reason,
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => return Ok(Self::Unix(path.into())),
            Some(("http", rest)) if !tls => ("http", rest),
            Some(("http" | "https", rest)) => ("https", rest),
            Some((other, _)) => return Err(invalid(format!("unknown scheme `{other}`"))),
            None if tls => ("https", text),
            None => ("http", text),
        };
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|e| invalid(e.to_string()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("no host".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // It would be printed with every error.
            return Err(ConfigError::Address {
                address: "(withheld)".to_owned(),
                reason: "credentials belong in CONSUL_HTTP_AUTH".to_owned(),
            });
        }
        Ok(Self::Url(url))
    }

    /// Whether requests travel over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Url(url) if url.scheme() == "https")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, tls: bool) -> String {
        match Address::parse(text, tls).unwrap() {
            Address::Url(url) => url.to_string(),
            Address::Unix(path) => panic!("unexpected socket {}", path.display()),
        }
    }

    #[test]
    fn scheme_is_optional() {
        assert_eq!(url("127.0.0.1:8500", false), "http://127.0.0.1:8500/");
        assert_eq!(url("agent.local:8501", true), "https://agent.local:8501/");
        assert_eq!(url("[::1]:8500", false), "http://[::1]:8500/");
    }

    #[test]
    fn tls_never_falls_back_to_plain_text() {
        assert_eq!(url("http://a:8501", true), "https://a:8501/");
        assert_eq!(url("https://a:8501", false), "https://a:8501/");
    }

    #[test]
    fn reverse_proxy_path_is_kept() {
        assert_eq!(url("https://a/consul", false), "https://a/consul");
    }

    #[test]
    fn unix_socket_is_a_path() {
        let socket = Address::parse("unix:///run/consul.sock", true).unwrap();
        assert_eq!(socket, Address::Unix("/run/consul.sock".into()));
        assert!(!socket.is_tls());
    }

    #[test]
    fn credentials_in_the_address_are_refused_unseen() {
        let error = Address::parse("http://root:hunter2@a:8500", false).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn unknown_scheme_is_refused() {
        Address::parse("ftp://a", false).unwrap_err();
        Address::parse("unix://", false).unwrap_err();
        Address::parse("http://", false).unwrap_err();
    }
}
