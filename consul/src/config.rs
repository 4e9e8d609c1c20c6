//! What a client needs to know about its agent, and the `consul` CLI's variables that say it.

use std::time::Duration;

use crate::{
    address::Address,
    error::ConfigError,
    secret::{Secret, Token},
    tls::{Authorities, ClientPair, TlsConfig},
};

/// Everything that a [`Client`](crate::Client) is built from. Printing it shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Where the agent listens.
    pub address: Address,
    /// Where its gRPC port is; `None` is as the agent says. What comes by it alone, an ingress
    /// gateway's certificate, is asked for there.
    pub grpc: Option<Address>,
    /// The ACL token.
    pub token: Token,
    /// User and password of a reverse proxy in front of the agent.
    pub auth: Option<BasicAuth>,
    /// TLS; used when the address is `https://`.
    pub tls: TlsConfig,
    /// The datacenter asked when a request names none; `None` is the agent's own.
    pub datacenter: Option<String>,
    /// The namespace (Consul Enterprise); `None` is the token's.
    pub namespace: Option<String>,
    /// The admin partition (Consul Enterprise); `None` is the agent's.
    pub partition: Option<String>,
    /// Bounds of time and size.
    pub limits: Limits,
}

/// HTTP basic authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user.
    pub user: String,
    /// The password, when one was given.
    pub password: Option<Secret>,
}

/// Bounds of time and size that every request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect. 5 s: the agent is local or nearby, and a lost SYN is sent again after 1 s
    /// and 3 s.
    pub connect: Duration,
    /// Time for the whole answer; a blocking query gets its waiting time on top. 30 s: signing a
    /// leaf certificate may wait that long for an external CA.
    pub request: Duration,
    /// Bytes of an answer's body. 64 MiB: some 25,000 instances of one service.
    pub response_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            response_body: 64 << 20,
        }
    }
}

impl ClientConfig {
    /// Settings for the agent at `address`, everything else at its default.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            grpc: None,
            token: Token::default(),
            auth: None,
            tls: TlsConfig::default(),
            datacenter: None,
            namespace: None,
            partition: None,
            limits: Limits::default(),
        }
    }

    /// Reads the variables that the `consul` CLI honours, with its meaning; an empty variable is
    /// an unset one.
    ///
    /// `lookup` is usually `|name| std::env::var(name).ok()`. Read are `CONSUL_HTTP_ADDR`,
    /// `CONSUL_HTTP_TOKEN`, `CONSUL_HTTP_TOKEN_FILE` (wins over the token unless the file is
    /// empty), `CONSUL_HTTP_AUTH` (`user` or `user:password`), `CONSUL_HTTP_SSL`,
    /// `CONSUL_HTTP_SSL_VERIFY`, `CONSUL_CACERT` (wins over the path), `CONSUL_CAPATH`,
    /// `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`, `CONSUL_TLS_SERVER_NAME`, `CONSUL_GRPC_ADDR`,
    /// `CONSUL_NAMESPACE` and `CONSUL_PARTITION`.
    ///
    /// Where the CLI warns about a malformed boolean and goes on, this is an error.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let var = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let tls = boolean("CONSUL_HTTP_SSL", var("CONSUL_HTTP_SSL"))?.unwrap_or(false);
        let address = var("CONSUL_HTTP_ADDR");
        let address = Address::parse(address.as_deref().unwrap_or(Address::DEFAULT), tls)?;
        let grpc = var("CONSUL_GRPC_ADDR").map(|text| Address::parse(&text, false));
        Ok(Self {
            grpc: grpc.transpose()?,
            token: token(var("CONSUL_HTTP_TOKEN"), var("CONSUL_HTTP_TOKEN_FILE")),
            auth: var("CONSUL_HTTP_AUTH").map(|text| BasicAuth::parse(&text)),
            tls: tls_from_env(&var)?,
            namespace: var("CONSUL_NAMESPACE"),
            partition: var("CONSUL_PARTITION"),
            ..Self::new(address)
        })
    }
}

impl BasicAuth {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, password)) => Self {
                user: user.to_owned(),
                password: Some(Secret::new(password)),
            },
            None => Self {
                user: text.to_owned(),
                password: None,
            },
        }
    }
}

fn token(token: Option<String>, file: Option<String>) -> Token {
    match (file, token.map(Secret::new)) {
        (Some(file), otherwise) => Token::File {
            path: file.into(),
            otherwise,
        },
        (None, Some(token)) => Token::Fixed(token),
        (None, None) => Token::Anonymous,
    }
}

fn tls_from_env(var: &impl Fn(&str) -> Option<String>) -> Result<TlsConfig, ConfigError> {
    let verify = boolean("CONSUL_HTTP_SSL_VERIFY", var("CONSUL_HTTP_SSL_VERIFY"))?;
    let authorities = match (var("CONSUL_CACERT"), var("CONSUL_CAPATH")) {
        (Some(file), _) => Authorities::File(file.into()),
        (None, Some(directory)) => Authorities::Directory(directory.into()),
        (None, None) => Authorities::System,
    };
    let client = match (var("CONSUL_CLIENT_CERT"), var("CONSUL_CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some(ClientPair {
            certificate: certificate.into(),
            key: key.into(),
        }),
        (None, None) => None,
        _ => return Err(ConfigError::HalfPair),
    };
    Ok(TlsConfig {
        authorities,
        client,
        server_name: var("CONSUL_TLS_SERVER_NAME"),
        insecure: !verify.unwrap_or(true),
    })
}

/// Go's `strconv.ParseBool`.
fn boolean(name: &'static str, value: Option<String>) -> Result<Option<bool>, ConfigError> {
    match value.as_deref() {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(_) => Err(ConfigError::Variable {
            name,
            expected: "true or false",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ClientConfig, ConfigError> {
        ClientConfig::from_env(|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_the_local_agent() {
        let config = read(&[("CONSUL_HTTP_ADDR", ""), ("CONSUL_HTTP_TOKEN", "")]).unwrap();
        let address = Address::parse("http://127.0.0.1:8500", false).unwrap();
        assert_eq!(config, ClientConfig::new(address));
    }

    #[test]
    fn every_variable_is_honoured() {
        let config = read(&[
            ("CONSUL_HTTP_ADDR", "agent:8501"),
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_HTTP_SSL_VERIFY", "0"),
            ("CONSUL_HTTP_TOKEN", "t0ken"),
            ("CONSUL_HTTP_TOKEN_FILE", "/t"),
            ("CONSUL_HTTP_AUTH", "me:pass:word"),
            ("CONSUL_CACERT", "/ca"),
            ("CONSUL_CAPATH", "/cas"),
            ("CONSUL_CLIENT_CERT", "/cert"),
            ("CONSUL_CLIENT_KEY", "/key"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "n"),
            ("CONSUL_PARTITION", "p"),
        ])
        .unwrap();
        assert!(config.address.is_tls());
        let otherwise = Some(Secret::new("t0ken"));
        assert_eq!(
            config.token,
            Token::File {
                path: "/t".into(),
                otherwise
            }
        );
        let password = Some(Secret::new("pass:word"));
        assert_eq!(
            config.auth,
            Some(BasicAuth {
                user: "me".to_owned(),
                password
            })
        );
        let client = ClientPair {
            certificate: "/cert".into(),
            key: "/key".into(),
        };
        let expected = TlsConfig {
            authorities: Authorities::File("/ca".into()),
            client: Some(client),
            server_name: Some("server.dc1.consul".to_owned()),
            insecure: true,
        };
        assert_eq!(config.tls, expected);
        assert_eq!(config.namespace.as_deref(), Some("n"));
        assert_eq!(config.partition.as_deref(), Some("p"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = read(&[
            ("CONSUL_HTTP_TOKEN", "t0ken"),
            ("CONSUL_HTTP_AUTH", "me:hunter2"),
        ])
        .unwrap();
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("t0ken") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn malformed_values_are_named() {
        let error = read(&[("CONSUL_HTTP_SSL", "yes")]).unwrap_err();
        assert_eq!(error.to_string(), "CONSUL_HTTP_SSL is not true or false");
        assert!(matches!(
            read(&[("CONSUL_CLIENT_CERT", "/c")]),
            Err(ConfigError::HalfPair)
        ));
    }
}
