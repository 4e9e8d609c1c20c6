//! A terminating gateway, on a real Consul: what callers in the mesh reach outside of it, under
//! which name and with whose certificates, and who is kept from it.

mod stage;

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use http::Method;
use meridian_tests::certs::{Authority, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::grpc;
use meridian_tests::client::{Connection, Protocol, Reply, get, loopback};
use meridian_tests::consul::Consul;
use meridian_tests::handshake;
use meridian_tests::origin::{FAREWELL, NameServer, Origin, Seen};
use meridian_tests::sidecar::Kind;
use meridian_tests::terminating::{self, TerminatingGateway};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;
use stage::{
    GRPC, HTTP, NAMED, SECOND, Stage, TCP, TLS_TCP, UNKNOWN, WRONG_AUTHORITY, WRONG_NAME, ends,
    exchange, opened, seen,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn every_kind_of_service_is_reached_from_meshd_through_meshd() {
    cross(Kind::Meshd, Kind::Meshd);
}

#[test]
fn every_kind_of_service_is_reached_from_envoy_through_meshd() {
    cross(Kind::Envoy, Kind::Meshd);
}

#[test]
fn every_kind_of_service_is_reached_from_meshd_through_envoy() {
    cross(Kind::Meshd, Kind::Envoy);
}

fn cross(caller: Kind, gateway: Kind) {
    let title = format!("{caller:?} through {gateway:?}");
    isolated(&title, async move |world| {
        let stage = Stage::start(world, caller, gateway).await;
        for port in [TCP, TLS_TCP] {
            let answer = exchange(port, b"hello").await.expect("an answer over TCP");
            assert_eq!(answer, [b"hello", FAREWELL].concat());
        }
        let call = grpc::unary(loopback(GRPC), "/echo.Echo/Unary", b"question").await;
        let (answer, trailers) = call.expect("a unary call");
        assert_eq!(answer, &b"question"[..]);
        assert_eq!(trailers["grpc-status"], "0");
        let seen = seen(HTTP, "/a/../b?x=1").await.expect("a report");
        assert_eq!(seen.origin, "plain");
        assert_eq!(seen.target, "/a/../b?x=1", "left as it came");
        assert_eq!(seen.header("host"), [format!("127.0.0.1:{HTTP}")]);
        let caller = format!("URI={}", stage.consul.spiffe_id("caller").await);
        let forwarded = seen.header("x-forwarded-client-cert").join(",");
        assert!(forwarded.contains(&caller), "{forwarded:?}");
        let named = self::seen(NAMED, "/").await.expect("a report by name");
        assert_eq!(named.origin, "first");
        assert_eq!(named.header("host"), ["named.test"]);
        stage.tls_is_as_the_link_says().await;
        stage.subset_is_one_of_two().await;
    });
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused_for_its_reason() {
    isolated("refusals", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let cases = [
            (WRONG_NAME, "wrong_identity", "wrong_identity"),
            (WRONG_AUTHORITY, "unknown_issuer", "unknown_issuer"),
            // The server is right, and wants to know who we are.
            (UNKNOWN, "other", "refused"),
        ];
        for (port, result, reason) in cases {
            let before = stage.refusals(result).await;
            let reply = get(port, Protocol::Http1, "/").await.expect("an answer");
            assert_eq!(reply.status, 503, "{result}");
            wait::until(result, PATIENCE, async || {
                let now = stage.refusals(result).await;
                let reason = format!("\"reason\":\"{reason}\"");
                let logged = stage.gateway.process.log().contains(&reason);
                (now > before && logged)
                    .then_some(())
                    .ok_or_else(|| format!("{before} became {now}, logged: {logged}"))
            })
            .await;
        }
        stage.files_are_read_again().await;
    });
}

#[test]
fn names_are_asked_for_again_and_outlive_a_failing_server() {
    isolated("names", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let reaches = async |origin: &str| {
            let what = format!("{origin} is reached");
            wait::until(&what, PATIENCE, async || match seen(NAMED, "/").await {
                Ok(seen) if seen.origin == origin => Ok(()),
                Ok(seen) => Err(format!("{} answers", seen.origin)),
                Err(reason) => Err(reason),
            })
            .await;
        };
        reaches("first").await;
        stage.names.set("named.test", &[SECOND]);
        reaches("second").await;
        stage.names.fail(true);
        wait::until("the failure is named", PATIENCE, async || {
            let rejected = stage.gateway.admin.snapshot().await["rejected"].to_string();
            let named = rejected.contains("cannot resolve `named.test`");
            named.then_some(()).ok_or(rejected)
        })
        .await;
        reaches("second").await;
        stage.names.fail(false);
        stage.names.set("named.test", &[Ipv4Addr::LOCALHOST]);
        reaches("first").await;
    });
}

#[test]
fn intentions_and_links_act_on_what_is_open() {
    isolated("intentions", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let consul = &stage.consul;
        let mut open = opened().await;
        consul.intentions("tcp", &[("caller", "deny")]).await;
        ends(&mut open).await;
        consul.intentions("tcp", &[("caller", "allow")]).await;
        let mut open = opened().await;

        consul
            .config_entry(
                json!({"Kind": "service-intentions", "Name": "http", "Sources": [
                {"Name": "caller", "Permissions": [
                    {"Action": "deny", "HTTP": {"PathPrefix": "/secret"}},
                    {"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]}),
            )
            .await;
        let mut connection = Connection::open(loopback(HTTP), Protocol::Http1)
            .await
            .expect("a connection");
        for path in ["/secret", "/a/../secret"] {
            wait::until("the secret is kept", PATIENCE, async || {
                let reply = connection.get(path).await.map_err(|e| e.to_string())?;
                (reply.status == 403 && reply.text() == "RBAC: access denied")
                    .then_some(())
                    .ok_or_else(|| format!("{path}: {}", reply.status))
            })
            .await;
        }
        assert!(seen(HTTP, "/open").await.is_ok());

        // Unlinked, a service has nobody to stand for it; the others stay.
        stage.link(|name| name != "tcp").await;
        ends(&mut open).await;
        wait::until("tcp is gone", PATIENCE, async || {
            exchange(TCP, b"x").await.err().ok_or("it still answers")
        })
        .await;
        assert!(seen(HTTP, "/open").await.is_ok());
        stage.link(|_| true).await;
        wait::until("tcp is back", PATIENCE, async || exchange(TCP, b"x").await).await;
        let mut open = opened().await;
        stage.link_everything().await;
        // Another link to the same services changes nothing for those who call them.
        assert!(seen(HTTP, "/open").await.is_ok());
        wait::until("tcp stays", PATIENCE, async || exchange(TCP, b"x").await).await;
        open.write_all(b"y").await.expect("an open connection");
        assert_eq!(open.read_u8().await.expect("an echo"), b'y');
    });
}

#[test]
fn a_name_that_is_not_served_is_reset_and_the_check_passes() {
    isolated("unknown", async |world| {
        let consul = Consul::start(world).await;
        let names = NameServer::start().await;
        let file = NameServer::resolver_file(world);
        let gateway = TerminatingGateway::start(world, Kind::Meshd, &file).await;
        drop(names);
        // Without any service, and without a configuration entry.
        let refused = handshake::connect(loopback(terminating::PORT), None).await;
        let error = refused.expect_err("nobody is served");
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{error}");
        wait::until("the gateway's check passes", PATIENCE, async || {
            let path = format!("/v1/health/service/{}?passing", terminating::NAME);
            let found = consul.api(Method::GET, &path, None).await;
            let found = found.as_array().map_or(0, Vec::len);
            (found == 1).then_some(()).ok_or(found)
        })
        .await;
        assert_eq!(gateway.admin.ready().await, Ok(200));
    });
}

#[test]
fn a_destination_without_instances_is_reached_by_its_address_through_meshd() {
    destination(Kind::Meshd);
}

#[test]
fn a_destination_without_instances_is_reached_by_its_address_through_envoy() {
    destination(Kind::Envoy);
}

/// Sidecars of transparent mode call such a service; here the test does, as they would.
fn destination(gateway: Kind) {
    isolated(&format!("destination, {gateway:?}"), async move |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let settings = json!({"connect": authority.consul_settings()});
        let consul = Consul::start_with(world, settings).await;
        let names = NameServer::start().await;
        names.set("named.test", &[Ipv4Addr::LOCALHOST]);
        let origin = Origin::start("nowhere", 0).await;
        let addresses = ["127.0.0.1", "named.test"];
        consul
            .config_entry(
                json!({"Kind": "service-defaults", "Name": "out", "Protocol": "http",
                "Destination": {"Addresses": addresses, "Port": origin.address().port()}}),
            )
            .await;
        consul
            .config_entry(
                json!({"Kind": "terminating-gateway", "Name": terminating::NAME,
                "Services": [{"Name": "out"}]}),
            )
            .await;
        consul.intentions("out", &[("stranger", "deny")]).await;
        let file = NameServer::resolver_file(world);
        let _gateway = TerminatingGateway::start(world, gateway, &file).await;
        for address in ["127-0-0-1", "named-test"] {
            let name = format!("destination.{address}.out.default.dc1.internal.{TRUST_DOMAIN}");
            wait::until(&name, PATIENCE, async || {
                let seen = ask(&authority, "caller", &name).await?;
                let seen = Seen::from_reply(&seen)?;
                assert_eq!(seen.origin, "nowhere");
                assert_eq!(seen.header("host"), ["whoever.test"]);
                Ok::<_, String>(())
            })
            .await;
            let refused = ask(&authority, "stranger", &name).await.expect("an answer");
            assert_eq!(refused.status, 403);
        }
    });
}

/// Asks the gateway for a name as a service's sidecar would.
async fn ask(authority: &Authority, service: &str, name: &str) -> Result<Reply, String> {
    let identity = authority.leaf(&[&spiffe_id(TRUST_DOMAIN, service)]);
    let gateway = loopback(terminating::PORT);
    let reply = async {
        let stream = handshake::connect_as(gateway, name, Some(identity)).await?;
        let authority = "whoever.test".parse()?;
        let mut connection = Connection::over(stream, Protocol::Http1, authority).await?;
        connection.get("/").await
    };
    reply.await.map_err(|error| error.to_string())
}
