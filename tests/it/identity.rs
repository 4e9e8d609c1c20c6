//! Whom a sidecar talks to: every certificate but the right one is refused, on
//! either side of the handshake, and each kind has its own metric and log line.
//!
//! The test signs with the mesh's own root, so that what is wrong with each
//! certificate is one thing only.

use meridian_tests::admin::Metrics;
use meridian_tests::certs::{Authority, Identity, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::handshake::{Impostor, answer};
use meridian_tests::origin::TcpOrigin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OTHER_DOMAIN: &str = "99999999-8888-7777-6666-555555555555.consul";
const GREETING: &[u8] = b"greetings from the destination";

/// Counts handshakes by `side` and `result`.
const HANDSHAKES: &str = "meridian_tls_handshakes_total";

#[test]
fn a_listener_refuses_every_client_certificate_but_the_right_one() {
    isolated("clients", async |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let consul = consul(world, &authority).await;
        let service = Service::new("web", 8001).sidecar(21001);
        consul.register(&service).await;
        let _origin = TcpOrigin::start(service.port).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &service).await;
        let caller = spiffe_id(TRUST_DOMAIN, "caller");

        let good = answer(loopback(21001), Some(authority.leaf(&[&caller])), b"hello").await;
        assert_eq!(good.expect("an answer to a good client"), b"hello");

        for (client, result) in wrong_clients(&authority, &caller) {
            let before = sidecar.admin.metrics().await;
            let log = sidecar.process.log().len();
            let got = answer(loopback(21001), client, b"hello").await;
            assert!(
                got.as_ref().map_or(true, Vec::is_empty),
                "{result}: got {got:?}"
            );
            refused(&sidecar, &before, log, "server", result).await;
        }
    });
}

#[test]
fn an_intention_refuses_the_certificate_of_another_service() {
    isolated("intention", async |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let consul = consul(world, &authority).await;
        let service = Service::new("web", 8001).sidecar(21001);
        consul.register(&service).await;
        consul
            .intentions("web", &[("caller", "allow"), ("*", "deny")])
            .await;
        let _origin = TcpOrigin::start(service.port).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &service).await;

        let caller = authority.leaf(&[&spiffe_id(TRUST_DOMAIN, "caller")]);
        let good = answer(loopback(21001), Some(caller), b"hello").await;
        assert_eq!(good.expect("an answer to the allowed service"), b"hello");

        let stranger = authority.leaf(&[&spiffe_id(TRUST_DOMAIN, "stranger")]);
        let got = answer(loopback(21001), Some(stranger), b"hello").await;
        assert!(got.as_ref().map_or(true, Vec::is_empty), "got {got:?}");
        wait::until("a verdict and a log line", PATIENCE, async || {
            let labels = [("layer", "l4"), ("verdict", "deny")];
            let metrics = sidecar.admin.metrics().await;
            let denied = metrics.sum("meridian_authorization_verdicts_total", &labels);
            let logged = sidecar.process.log().contains("svc/stranger");
            let seen = denied == 1.0 && logged;
            seen.then_some(())
                .ok_or_else(|| format!("{denied} verdicts, logged: {logged}"))
        })
        .await;
    });
}

#[test]
fn an_upstream_refuses_every_server_certificate_but_the_right_one() {
    isolated("servers", async |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let consul = consul(world, &authority).await;
        let destination = Service::new("web", 8001).sidecar(21001);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("web", 5000);
        consul.register(&destination).await;
        consul.register(&caller).await;
        let web = spiffe_id(TRUST_DOMAIN, "web");
        let impostor = Impostor::start(loopback(21001), authority.leaf(&[&web]), GREETING).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &caller).await;
        consul.passing("web", 1).await;
        wait::until("the right destination", PATIENCE, async || {
            match ask(5000).await {
                Ok(bytes) if bytes == GREETING => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        for (server, result) in wrong_servers(&authority, &web) {
            impostor.present(server);
            let before = sidecar.admin.metrics().await;
            let log = sidecar.process.log().len();
            let got = ask(5000).await;
            assert!(
                got.as_ref().map_or(true, Vec::is_empty),
                "{result}: got {got:?}"
            );
            refused(&sidecar, &before, log, "client", result).await;
        }
    });
}

/// An agent that signs with the test's root.
async fn consul(world: &World, authority: &Authority) -> Consul {
    let settings = json!({"connect": authority.consul_settings()});
    let consul = Consul::start_with(world, settings).await;
    assert_eq!(consul.trust_domain().await, TRUST_DOMAIN);
    consul
}

/// Everything wrong with a client, and what the sidecar calls it.
fn wrong_clients(authority: &Authority, caller: &str) -> Vec<(Option<Identity>, &'static str)> {
    let other = spiffe_id(OTHER_DOMAIN, "caller");
    let second = spiffe_id(TRUST_DOMAIN, "second");
    vec![
        (None, "no_certificate"),
        (Some(authority.expired_leaf(&[caller])), "expired"),
        (Some(authority.leaf(&[caller, &second])), "bad_spiffe"),
        (Some(authority.leaf(&[])), "bad_spiffe"),
        (Some(authority.leaf(&[&other])), "unknown_trust_domain"),
        (
            Some(Authority::new(OTHER_DOMAIN).leaf(&[&other])),
            "unknown_trust_domain",
        ),
        (
            Some(Authority::new(TRUST_DOMAIN).leaf(&[caller])),
            "unknown_issuer",
        ),
    ]
}

/// Everything wrong with a server, and what the sidecar calls it.
fn wrong_servers(authority: &Authority, web: &str) -> Vec<(Identity, &'static str)> {
    let other_service = spiffe_id(TRUST_DOMAIN, "api");
    let other_domain = spiffe_id(OTHER_DOMAIN, "web");
    let other_datacenter = web.replace("/dc/dc1/", "/dc/dc2/");
    vec![
        (authority.leaf(&[&other_service]), "wrong_identity"),
        (authority.leaf(&[&other_datacenter]), "wrong_identity"),
        (authority.leaf(&[&other_domain]), "unknown_trust_domain"),
        (authority.expired_leaf(&[web]), "expired"),
        (authority.leaf(&[web, &other_service]), "bad_spiffe"),
        (authority.leaf(&[]), "bad_spiffe"),
        (
            Authority::new(OTHER_DOMAIN).leaf(&[&other_domain]),
            "unknown_trust_domain",
        ),
        (Authority::new(TRUST_DOMAIN).leaf(&[web]), "unknown_issuer"),
    ]
}

/// Waits until a refusal was counted under its own name and logged, and fails when
/// it was counted under another.
async fn refused(sidecar: &Sidecar, before: &Metrics, log: usize, side: &str, result: &str) {
    let counted =
        |metrics: &Metrics| metrics.sum(HANDSHAKES, &[("side", side), ("result", result)]);
    wait::until(
        &format!("{result} counted and logged"),
        PATIENCE,
        async || {
            let after = sidecar.admin.metrics().await;
            let more = counted(&after) - counted(before);
            let logged = sidecar.process.log()[log..].contains(result);
            if more > 0.0 && logged {
                return Ok(());
            }
            let samples: Vec<_> = after.named(HANDSHAKES).collect();
            Err(format!(
                "counted {more}, logged: {logged}, all: {samples:?}"
            ))
        },
    )
    .await;
}

/// Says hello through an upstream listener and reads to the end.
async fn ask(port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(loopback(port)).await?;
    stream.write_all(b"hello").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
