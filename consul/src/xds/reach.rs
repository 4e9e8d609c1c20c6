//! Where an agent's gRPC port is, and the way there.

use std::{io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::endpoint;
use crate::{
    address::Address,
    agent::XdsPorts,
    client::Client,
    config::ClientConfig,
    error::{ConfigError, Error},
};

/// Bytes both ways.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// A connection to the agent's gRPC port.
pub(super) struct Connection {
    pub(super) io: Box<dyn Bytes>,
    /// For requests' `:scheme` and `:authority`.
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    /// Most bytes of a message.
    pub(super) limit: usize,
}

/// Connects to the client's agent.
pub(super) async fn agent(client: &Client) -> Result<Connection, Error> {
    let config = client.config();
    let address = match &config.grpc {
        Some(address) => address.clone(),
        None => beside(&config.address, ports(client).await?)?,
    };
    let limit = config.limits.connect;
    let connecting = connect(config, &address);
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(Error::Timeout {
            endpoint: endpoint(),
            limit,
        }),
    }
}

async fn ports(client: &Client) -> Result<XdsPorts, Error> {
    match client.agent_self().once().await {
        Ok(agent) => Ok(agent.value.xds.ports),
        // A gateway's token needs no `agent:read`.
        Err(error) if error.is_forbidden() => Ok(XdsPorts::USUAL),
        Err(error) => Err(error),
    }
}

/// The gRPC port of the agent whose HTTP API is at `http`. Over TLS where the API is, so that the
/// token does not travel in the clear; otherwise in plain text where that is served.
fn beside(http: &Address, ports: XdsPorts) -> Result<Address, Error> {
    let (plain, tls) = (ports.plaintext(), ports.tls());
    let (scheme, port) = match (plain, tls) {
        (_, Some(port)) if http.is_tls() => ("https", port),
        (Some(port), _) if !http.is_tls() => ("http", port),
        (None, Some(port)) => ("https", port),
        _ => {
            let reason = "the agent has no gRPC port (`ports.grpc`, `ports.grpc_tls`)";
            return Err(Error::Unreachable {
                endpoint: endpoint(),
                source: reason.into(),
            });
        }
    };
    let host = match http {
        Address::Url(url) => url.host_str().unwrap_or(LOCAL),
        Address::Unix(_) => LOCAL,
    };
    Ok(Address::parse(&format!("{scheme}://{host}:{port}"), false)?)
}

const LOCAL: &str = "127.0.0.1";

async fn connect(config: &ClientConfig, address: &Address) -> Result<Connection, Error> {
    let limit = config.limits.response_body;
    let url = match address {
        Address::Unix(path) => {
            let io = UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(Connection {
                io: Box::new(io),
                scheme: "http",
                authority: "localhost".to_owned(),
                limit,
            });
        }
        Address::Url(url) => url,
    };
    let authority = url.authority().to_owned();
    let io = dial(url).await.map_err(unreachable)?;
    if !address.is_tls() {
        return Ok(Connection {
            io: Box::new(io),
            scheme: "http",
            authority,
            limit,
        });
    }
    let mut tls = config.tls.build(true)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let name = match config.tls.dns_name()? {
        Some(name) => name.to_owned(),
        None => host(url),
    };
    let name = name.try_into().map_err(|source| ConfigError::Tls {
        reason: "the agent's host is no name for TLS",
        source: Some(Box::new(source)),
    })?;
    let io = TlsConnector::from(Arc::new(tls)).connect(name, io).await;
    let io = io.map_err(|source| Error::Tls {
        endpoint: endpoint(),
        source: Box::new(source),
    })?;
    Ok(Connection {
        io: Box::new(io),
        scheme: "https",
        authority,
        limit,
    })
}

async fn dial(url: &Url) -> io::Result<TcpStream> {
    let port = url.port_or_known_default().unwrap_or(DEFAULT_PORT);
    let stream = TcpStream::connect((host(url), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

const DEFAULT_PORT: u16 = 8502;

/// Brackets belong to the URL's form of an IPv6 address, not to the address.
fn host(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => LOCAL.to_owned(),
    }
}

fn unreachable(source: io::Error) -> Error {
    Error::Unreachable {
        endpoint: endpoint(),
        source: Box::new(source),
    }
}

/// Silence before the agent is asked whether it is still there, and the time for its answer.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn address(http: &str, plain: i32, tls: i32) -> Result<Address, Error> {
        let ports = json!({"Plaintext": plain, "TLS": tls});
        let ports = serde_json::from_value(ports).unwrap();
        beside(&Address::parse(http, false).unwrap(), ports)
    }

    #[test]
    fn the_port_is_one_that_keeps_the_token_as_safe_as_the_api_does() {
        let cases = [
            (
                "http://10.0.0.1:8500",
                8502,
                8503,
                Some("http://10.0.0.1:8502"),
            ),
            (
                "https://a.test:8501",
                8502,
                8503,
                Some("https://a.test:8503"),
            ),
            ("http://[::1]:8500", -1, 8503, Some("https://[::1]:8503")),
            (
                "unix:///run/consul",
                8502,
                -1,
                Some("http://127.0.0.1:8502"),
            ),
            ("https://a.test:8501", 8502, -1, None),
            ("http://a.test:8500", -1, -1, None),
        ];
        for (http, plain, tls, expected) in cases {
            let found = address(http, plain, tls).ok();
            let expected = expected.map(|text| Address::parse(text, false).unwrap());
            assert_eq!(found, expected, "{http} {plain} {tls}");
        }
    }
}
