//! Ways to the agent: tokens, TLS with client certificates, unix socket.

use std::{fs, path::PathBuf, time::Duration};

use consul::{
    Address, Authorities, Client, ClientConfig, ClientPair, Error, Secret, TlsConfig, Token,
    blocking::Pacing, kv::Put,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    DEADLINE,
    agent::{Agent, free_port},
    until,
};

const MANAGEMENT: &str = "5f4dcc3b-5aa7-65d6-1d83-27deb882cf99";

#[tokio::test]
async fn token_decides_what_is_allowed() {
    let acl = format!(
        r#"acl {{ enabled = true, default_policy = "deny",
            tokens {{ initial_management = "{MANAGEMENT}" }} }}"#
    );
    let agent = Agent::start(&[&acl]);
    let with = |token| {
        Client::new(ClientConfig {
            token,
            ..agent.config()
        })
        .unwrap()
    };
    let manager = with(Token::Fixed(Secret::new(MANAGEMENT)));
    agent.ready(&manager).await;
    manager.kv_put("key", b"x", Put::Always).await.unwrap();

    let error = with(Token::Anonymous)
        .kv_put("key", b"y", Put::Always)
        .await
        .unwrap_err();
    assert!(error.is_forbidden() && !error.is_retryable(), "{error:?}");
    let wrong = "00000000-1111-2222-3333-444444444444";
    let error = with(Token::Fixed(Secret::new(wrong)))
        .leaf("web")
        .once()
        .await
        .unwrap_err();
    assert!(error.is_forbidden(), "{error:?}");
    assert!(!format!("{error} {error:?} {manager:?}").contains(MANAGEMENT));
    assert!(!format!("{error:?}").contains(wrong));

    // A token file counts from the moment it is rewritten.
    let path = agent.dir().join("token");
    fs::write(&path, wrong).unwrap();
    let from_file = with(Token::File {
        path: path.clone(),
        otherwise: None,
    });
    assert!(
        from_file
            .leaf("web")
            .once()
            .await
            .unwrap_err()
            .is_forbidden()
    );
    fs::write(&path, format!("{MANAGEMENT}\n")).unwrap();
    let leaf = from_file.leaf("web").once().await.unwrap().value;
    // The agent shows the leaf that it has now to everybody, and says who may have it all the same.
    with(Token::Anonymous).leaf("web").once().await.unwrap();
    let asked = with(Token::Anonymous).authorize("web", &leaf).once().await;
    assert!(asked.unwrap_err().is_forbidden());
    let verdict = manager.authorize("web", &leaf).once().await.unwrap().value;
    assert!(!verdict.authorized, "by the agent's default: {verdict:?}");

    let policy = manager
        .agent_self()
        .once()
        .await
        .unwrap()
        .value
        .default_intention();
    assert_eq!(policy, consul::intention::Action::Deny);
}

#[tokio::test]
async fn agent_and_client_prove_themselves_by_certificate() {
    let pki = Pki::new();
    let port = free_port();
    let agent = Agent::start(&[&pki.https(port)]);
    agent.ready(&agent.client()).await;
    let with = |tls: TlsConfig| {
        let address = Address::parse(&format!("https://127.0.0.1:{port}"), false).unwrap();
        Client::new(ClientConfig {
            tls,
            ..ClientConfig::new(address)
        })
        .unwrap()
    };
    let good = TlsConfig {
        authorities: Authorities::File(pki.path("ca.pem")),
        client: Some(pki.pair()),
        server_name: Some("server.dc1.consul".to_owned()),
        insecure: false,
    };
    let client = with(good.clone());
    client.agent_self().once().await.unwrap();
    let mut watch = client.kv("tls").watch(Pacing::default());
    until(&mut watch, Option::is_none).await;
    client.kv_put("tls", b"x", Put::Always).await.unwrap();
    until(&mut watch, Option::is_some).await;

    // The agent's certificate isn't for 127.0.0.1.
    let unnamed = with(TlsConfig {
        server_name: None,
        ..good.clone()
    });
    assert_tls(unnamed.agent_self().once().await.unwrap_err());
    let other = Pki::new();
    let stranger = with(TlsConfig {
        authorities: Authorities::File(other.path("ca.pem")),
        ..good.clone()
    });
    assert_tls(stranger.agent_self().once().await.unwrap_err());
    let anonymous = with(TlsConfig {
        client: None,
        ..good.clone()
    });
    // TLS 1.3 tells a client that its certificate is missing when the client is already sending.
    let error = anonymous.agent_self().once().await.unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { .. } | Error::Tls { .. }),
        "{error:?}"
    );
    let careless = with(TlsConfig {
        authorities: Authorities::Directory(pki.path("cas")),
        server_name: None,
        insecure: true,
        ..good
    });
    careless.agent_self().once().await.unwrap();
}

/// A process outlives its certificates: files that were replaced count without a new client.
#[tokio::test]
async fn certificates_are_read_again_when_their_files_change() {
    let (known, other) = (Pki::new(), Pki::new());
    let port = free_port();
    let agent = Agent::start(&[&known.https(port)]);
    agent.ready(&agent.client()).await;
    let files = Pki::new();
    let install = |from: &Pki, names: &[&str]| {
        for name in names {
            fs::copy(from.path(name), files.path(name)).unwrap();
        }
    };
    let pair = ["client.pem", "client.key"];
    install(&known, &["ca.pem"]);
    install(&known, &pair);
    let address = Address::parse(&format!("https://127.0.0.1:{port}"), false).unwrap();
    let client = Client::new(ClientConfig {
        tls: TlsConfig {
            authorities: Authorities::File(files.path("ca.pem")),
            client: Some(files.pair()),
            server_name: Some("server.dc1.consul".to_owned()),
            insecure: false,
        },
        ..ClientConfig::new(address)
    })
    .unwrap();
    let asked = async || client.agent_self().once().await;
    asked().await.unwrap();

    install(&other, &pair);
    settles("another authority's certificate is refused", async || {
        matches!(
            asked().await,
            Err(Error::Interrupted { .. } | Error::Tls { .. })
        )
    })
    .await;
    install(&known, &pair);
    settles("the right one is taken", async || asked().await.is_ok()).await;
    install(&other, &["ca.pem"]);
    settles("the agent's is refused", async || {
        matches!(asked().await, Err(Error::Tls { .. }))
    })
    .await;
    install(&known, &["ca.pem"]);
    settles("and taken again", async || asked().await.is_ok()).await;
}

async fn settles(what: &str, holds: impl AsyncFn() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = tokio::time::timeout(DEADLINE, asking).await;
    settled.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

fn assert_tls(error: Error) {
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn unix_socket_is_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", dir.path().join("http.sock").display());
    let agent = Agent::start(&[&format!(r#"addresses {{ http = "{socket}" }}"#)]);
    let address = Address::parse(&socket, false).unwrap();
    let client = Client::new(ClientConfig::new(address)).unwrap();
    agent.ready(&client).await;
    assert_eq!(client.datacenters().once().await.unwrap().value, ["dc1"]);
}

/// A CA with a certificate for the agent and one for the client.
struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::create_dir(dir.path().join("cas")).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        fs::write(dir.path().join("cas/ca.pem"), ca.pem()).unwrap();
        for (file, name) in [
            ("agent", "server.dc1.consul"),
            ("client", "client.dc1.consul"),
        ] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            fs::write(dir.path().join(format!("{file}.pem")), certificate.pem()).unwrap();
            fs::write(dir.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings of an agent that asks for its certificates there.
    fn https(&self, port: u16) -> String {
        format!(
            r#"ports {{ https = {port} }} tls {{ https {{ verify_incoming = true,
                ca_file = "{}", cert_file = "{}", key_file = "{}" }} }}"#,
            self.path("ca.pem").display(),
            self.path("agent.pem").display(),
            self.path("agent.key").display(),
        )
    }

    fn pair(&self) -> ClientPair {
        ClientPair {
            certificate: self.path("client.pem"),
            key: self.path("client.key"),
        }
    }
}
