//! Whom the verifiers let through, over handshakes in memory.

use super::authority::{Authority, Flaw};
use super::*;
use meridian_model::cluster::MeshTransport;
use meridian_model::{CipherSuite, Identity, TlsTerms, TrustBundle};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What may be wrong with a leaf of the mesh, and what that is called.
const FLAWS: [(Flaw, HandshakeFailure); 6] = [
    (Flaw::Expired, HandshakeFailure::Expired),
    (Flaw::NotYetValid, HandshakeFailure::NotYetValid),
    (Flaw::NoUri, HandshakeFailure::BadSpiffe),
    (Flaw::TwoUris, HandshakeFailure::BadSpiffe),
    (Flaw::NoSpiffe, HandshakeFailure::BadSpiffe),
    (Flaw::Authority, HandshakeFailure::BadSpiffe),
];

type Server = tokio_rustls::server::TlsStream<DuplexStream>;

/// What each side makes of the handshake: its failure, or the server's stream.
struct Met {
    client: Result<(), HandshakeFailure>,
    server: Result<Server, HandshakeFailure>,
}

async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Met {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("web.default.dc1.internal.td").unwrap();
    let connect = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"x").await?;
        // In TLS 1.3 the server's refusal arrives only now.
        stream.read_u8().await
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"y").await?;
        stream.flush().await?;
        std::io::Result::Ok(stream)
    };
    let (client, server) = tokio::join!(connect, accept);
    Met {
        client: client.map(drop).map_err(|e| HandshakeFailure::classify(&e)),
        server: server.map_err(|e| HandshakeFailure::classify(&e)),
    }
}

async fn mesh(server: &Identity, client: &Identity, transport: &MeshTransport) -> Met {
    meet(
        mesh_server_config(server, &[], &TlsTerms::default()).unwrap(),
        mesh_client_config(client, transport, None).unwrap(),
    )
    .await
}

#[tokio::test]
async fn services_of_one_mesh_meet_and_know_each_other() {
    let ca = Authority::new("td");
    let (web, api) = (
        ca.identity("web", Flaw::None),
        ca.identity("api", Flaw::None),
    );
    let met = mesh(&api, &web, &ca.transport(&web, "api")).await;
    assert_eq!(met.client, Ok(()));
    let stream = met.server.unwrap();
    let peer = PeerCertificate::of(stream.get_ref().1.peer_certificates())
        .unwrap()
        .unwrap();
    assert_eq!(peer.spiffe, web.spiffe);
    assert_eq!(peer.hash.len(), 64);
    assert_eq!(&*peer.chain[0], &*web.chain[0]);
}

#[tokio::test]
async fn clients_with_flawed_leaves_are_refused_each_for_its_reason() {
    let ca = Authority::new("td");
    let api = ca.identity("api", Flaw::None);
    for (flaw, failure) in FLAWS {
        let web = ca.identity("web", flaw);
        let met = mesh(&api, &web, &ca.transport(&web, "api")).await;
        assert_eq!(met.server.err(), Some(failure), "{flaw:?}");
        assert_eq!(met.client, Err(HandshakeFailure::Refused), "{flaw:?}");
    }
}

#[tokio::test]
async fn servers_with_flawed_leaves_are_refused_each_for_its_reason() {
    let ca = Authority::new("td");
    let web = ca.identity("web", Flaw::None);
    for (flaw, failure) in FLAWS {
        let api = ca.identity("api", flaw);
        let met = mesh(&api, &web, &ca.transport(&web, "api")).await;
        assert_eq!(met.client, Err(failure), "{flaw:?}");
    }
}

#[tokio::test]
async fn a_valid_server_that_was_not_expected_is_refused() {
    let ca = Authority::new("td");
    let (web, other) = (
        ca.identity("web", Flaw::None),
        ca.identity("other", Flaw::None),
    );
    let met = mesh(&other, &web, &ca.transport(&web, "api")).await;
    assert_eq!(met.client, Err(HandshakeFailure::WrongIdentity));
    let mut nobody = ca.transport(&web, "other");
    nobody.expected.clear();
    let met = mesh(&other, &web, &nobody).await;
    assert_eq!(met.client, Err(HandshakeFailure::WrongIdentity));
}

#[tokio::test]
async fn a_client_without_certificate_is_shown_ours_and_refused() {
    let ca = Authority::new("td");
    let api = ca.identity("api", Flaw::None);
    let roots = root_store("td", &[ca.root()]).unwrap();
    // An ordinary client fails over the name, so that it has seen the leaf.
    let client = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let met = meet(
        mesh_server_config(&api, &[], &TlsTerms::default()).unwrap(),
        Arc::new(client),
    )
    .await;
    assert_eq!(met.client, Err(HandshakeFailure::WrongIdentity));
    // One that accepts any mesh leaf is refused for its lack of one.
    let web = ca.identity("web", Flaw::None);
    let mut config =
        ClientConfig::clone(&mesh_client_config(&web, &ca.transport(&web, "api"), None).unwrap());
    config.client_auth_cert_resolver = Arc::new(Nothing);
    let met = meet(
        mesh_server_config(&api, &[], &TlsTerms::default()).unwrap(),
        Arc::new(config),
    )
    .await;
    assert_eq!(met.server.err(), Some(HandshakeFailure::NoCertificate));
    assert_eq!(met.client, Err(HandshakeFailure::Refused));
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn roots_of_one_domain_vouch_for_no_other() {
    let (ours, theirs) = (Authority::new("td"), Authority::new("other"));
    let both = TrustBundle {
        roots: [&ours, &theirs]
            .map(|ca| (ca.domain.clone(), vec![ca.root()]))
            .into(),
    };
    let api = ours.identity("api", Flaw::None);
    let tolerant = ours.identity_trusting("api", Flaw::None, both.clone());
    // A stranger of an unknown domain, then of a known one, then an impostor
    // whose leaf of `td` is signed by the other domain's CA.
    let stranger = theirs.identity_trusting("web", Flaw::None, both);
    let to_api = ours.transport(&stranger, "api");
    let met = mesh(&api, &stranger, &to_api).await;
    assert_eq!(met.server.err(), Some(HandshakeFailure::UnknownTrustDomain));
    let met = mesh(&tolerant, &stranger, &to_api).await;
    assert!(met.server.is_ok());
    let forger = Authority::new("td");
    let impostor = forger.identity_trusting("web", Flaw::None, api.trust.clone());
    let met = mesh(&api, &impostor, &ours.transport(&impostor, "api")).await;
    assert_eq!(met.server.err(), Some(HandshakeFailure::UnknownIssuer));
    // And the other way: a server of another domain, or forged.
    let web = ours.identity("web", Flaw::None);
    let foreign = theirs.identity_trusting("api", Flaw::None, api.trust.clone());
    let met = mesh(&foreign, &web, &ours.transport(&web, "api")).await;
    assert_eq!(met.client, Err(HandshakeFailure::UnknownTrustDomain));
    let forged = forger.identity_trusting("api", Flaw::None, api.trust.clone());
    let met = mesh(&forged, &web, &ours.transport(&web, "api")).await;
    assert_eq!(met.client, Err(HandshakeFailure::UnknownIssuer));
}

#[test]
fn a_target_without_roots_is_an_error_before_any_connection() {
    let ca = Authority::new("td");
    let web = ca.identity("web", Flaw::None);
    let elsewhere = Authority::new("elsewhere").transport(&web, "api");
    let error = mesh_client_config(&web, &elsewhere, None).unwrap_err();
    assert_eq!(error.to_string(), "no roots of trust domain elsewhere");
}

#[test]
fn unusable_material_is_an_error_that_names_its_owner() {
    let ca = Authority::new("td");
    let mut web = ca.identity("web", Flaw::None);
    web.key = meridian_model::PrivateKey::from_der(*b"nonsense");
    let error = mesh_server_config(&web, &[], &TlsTerms::default()).unwrap_err();
    assert!(matches!(error, TlsError::Key { owner, .. } if &*owner == "web"));
    let mut web = ca.identity("web", Flaw::None);
    web.key = ca.identity("api", Flaw::None).key;
    let error = mesh_server_config(&web, &[], &TlsTerms::default()).unwrap_err();
    assert!(matches!(error, TlsError::Certificate { .. }), "{error:?}");
}

#[tokio::test]
async fn only_agreed_versions_and_suites_are_spoken() {
    let ca = Authority::new("td");
    let (web, api) = (
        ca.identity("web", Flaw::None),
        ca.identity("api", Flaw::None),
    );
    let terms = |tls12: &[CipherSuite], tls13| TlsTerms {
        tls12: tls12.to_vec(),
        tls13,
    };
    let (aes, chacha) = (CipherSuite::EcdsaAes128, CipherSuite::EcdsaChaCha20);
    let cases = [
        (terms(&[aes], false), terms(&[aes], true), true),
        (terms(&[], true), terms(&[chacha], true), true),
        (terms(&[aes], false), terms(&[chacha], true), false),
        (terms(&[aes], false), terms(&[], true), false),
        (terms(&[], true), terms(&[aes], false), false),
        (terms(&[], false), TlsTerms::default(), false),
    ];
    for (server, client, meets) in cases {
        let transport = MeshTransport {
            terms: client.clone(),
            ..ca.transport(&web, "api")
        };
        let met = meet(
            mesh_server_config(&api, &[], &server).unwrap(),
            mesh_client_config(&web, &transport, None).unwrap(),
        )
        .await;
        let case = format!("{server:?} meets {client:?}");
        assert_eq!(met.server.is_ok(), meets, "{case}");
        assert_eq!(met.client.is_ok(), meets, "{case}");
    }
    let nothing = MeshTransport {
        terms: terms(&[], false),
        ..ca.transport(&web, "api")
    };
    let error = mesh_client_config(&web, &nothing, None).unwrap_err();
    assert!(matches!(error, TlsError::NothingSpoken), "{error:?}");
}
