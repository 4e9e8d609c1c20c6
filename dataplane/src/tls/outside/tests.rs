//! Which servers outside the mesh are believed, over handshakes in memory.

use super::*;
use crate::tls::authority::{Authority, edge_certificate};
use crate::tls::{HandshakeFailure, edge_server_config};
use meridian_model::TlsTerms;
use meridian_model::listener::{EdgeTls, ServerCertificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the client makes of the handshake, and the name that the server was asked for.
async fn met(
    server: &ServerCertificate,
    transport: &TlsTransport,
) -> (Result<(), HandshakeFailure>, Option<String>) {
    let server = edge_server_config(&EdgeTls {
        certificates: vec![Arc::new(server.clone())],
        terms: TlsTerms::default(),
        alpn: Vec::new(),
    });
    let client = tls_client_config(transport, None).unwrap();
    let name = match &transport.server_name {
        Some(name) => ServerName::try_from(name.to_string()).unwrap(),
        None => ServerName::from(std::net::Ipv4Addr::UNSPECIFIED),
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connect = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await
    };
    let accept = async {
        let acceptor = TlsAcceptor::from(server.unwrap());
        let mut stream = acceptor.accept(far).await?;
        let asked = stream.get_ref().1.server_name().map(str::to_owned);
        stream.write_all(b"y").await?;
        stream.flush().await?;
        std::io::Result::Ok(asked)
    };
    let (client, asked) = tokio::join!(connect, accept);
    let client = client.map(drop).map_err(|e| HandshakeFailure::classify(&e));
    (client, asked.ok().flatten())
}

fn transport(name: Option<&str>, root: Arc<[u8]>) -> TlsTransport {
    TlsTransport {
        server_name: name.map(Arc::from),
        roots: vec![root],
        certificate: None,
    }
}

#[tokio::test]
async fn a_name_is_sent_and_verified() {
    let ca = Authority::new("ca");
    let server = ca.server(&["out.test", "*.wild.test"]);
    for (name, verdict) in [
        ("out.test", Ok(())),
        ("OUT.test", Ok(())),
        ("a.wild.test", Ok(())),
        ("other.test", Err(HandshakeFailure::WrongIdentity)),
    ] {
        let (client, asked) = met(&server, &transport(Some(name), ca.root())).await;
        assert_eq!(client, verdict, "{name}");
        if verdict.is_ok() {
            assert_eq!(asked, Some(name.to_ascii_lowercase()));
        }
    }
}

#[tokio::test]
async fn without_a_name_none_is_sent_and_the_authority_decides() {
    let ca = Authority::new("ca");
    let server = ca.server(&["out.test"]);
    let (client, asked) = met(&server, &transport(None, ca.root())).await;
    assert_eq!((client, asked), (Ok(()), None));
    let other = Authority::new("ca");
    let (client, _) = met(&server, &transport(None, other.root())).await;
    assert_eq!(client, Err(HandshakeFailure::UnknownIssuer));
}

#[tokio::test]
async fn a_certificate_may_be_its_own_authority_even_if_it_says_so() {
    let own = edge_certificate(&["out.test"]);
    let root = Arc::clone(&own.chain[0]);
    let (client, _) = met(&own, &transport(Some("out.test"), root)).await;
    assert_eq!(client, Ok(()));
    let mut authority = Authority::new("ca").server(&["out.test"]);
    let (chain, key) = Authority::itself("out.test");
    (authority.chain, authority.key) = (chain, key);
    let root = Arc::clone(&authority.chain[0]);
    let (client, _) = met(&authority, &transport(Some("out.test"), Arc::clone(&root))).await;
    assert_eq!(client, Ok(()));
    let (client, _) = met(&authority, &transport(Some("other.test"), root)).await;
    assert_eq!(client, Err(HandshakeFailure::WrongIdentity));
}

#[test]
fn the_roots_of_the_system_need_a_name() {
    let nobody = TlsTransport {
        server_name: None,
        roots: Vec::new(),
        certificate: None,
    };
    let error = tls_client_config(&nobody, None).unwrap_err();
    assert!(matches!(error, TlsError::NoServerName), "{error}");
}
