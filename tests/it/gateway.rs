//! The edge gateway on a configuration file: routes, reload, validation.

use std::net::SocketAddr;

use http::Request;
use meridian_tests::client::{Connection, Protocol, empty, get, loopback};
use meridian_tests::gateway::{Gateway, static_configuration, validate};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::process::Signal;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;

const LISTENER: u16 = 8080;

/// Two origins told apart by host, path, method and header.
fn routes(one: SocketAddr, two: SocketAddr) -> String {
    format!(
        "\
version: edge/v1
listeners:
- {{name: main, address: 127.0.0.1, port: {LISTENER}, protocol: HTTP}}
backends:
- name: one
  discovery: {{static: {{endpoints: [{{address: \"{one}\"}}]}}}}
- name: two
  discovery: {{static: {{endpoints: [{{address: \"{two}\"}}]}}}}
routes:
- name: first
  parentRefs: [{{name: main}}]
  hostnames: [first.example]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /orders}}}}]
    backendRefs: [{{name: one}}]
  - matches: [{{path: {{type: Exact, value: /orders/special}}}}]
    backendRefs: [{{name: two}}]
  - matches: [{{method: POST, path: {{type: PathPrefix, value: /orders}}}}]
    backendRefs: [{{name: two}}]
  - matches:
    - path: {{type: PathPrefix, value: /orders}}
      headers: [{{name: x-beta, value: \"1\"}}]
    backendRefs: [{{name: two}}]
- name: second
  parentRefs: [{{name: main}}]
  hostnames: [\"*.second.example\"]
  rules:
  - matches: [{{path: {{type: RegularExpression, value: \"/v[0-9]+/.*\"}}}}]
    backendRefs: [{{name: two}}]
"
    )
}

#[test]
fn requests_go_where_the_most_specific_match_says() {
    isolated("routes", async |world| {
        let one = Origin::start("one", 0).await;
        let two = Origin::start("two", 0).await;
        let configuration = routes(one.address(), two.address());
        let _gateway = Gateway::start(world, "gateway", &configuration).await;
        let get = |path| Request::get(path);
        assert_eq!(reach("first.example", get("/orders")).await, "one");
        assert_eq!(reach("first.example", get("/orders/7")).await, "one");
        assert_eq!(reach("first.example", get("/orders/special")).await, "two");
        assert_eq!(
            reach("first.example", Request::post("/orders/7")).await,
            "two"
        );
        assert_eq!(
            reach("first.example", get("/orders/7").header("x-beta", "1")).await,
            "two"
        );
        assert_eq!(reach("first.example", get("/ordersX")).await, "404");
        assert_eq!(reach("a.second.example", get("/v1/x")).await, "two");
        assert_eq!(reach("a.second.example", get("/vx/x")).await, "404");
        assert_eq!(reach("third.example", get("/orders")).await, "404");
    });
}

#[test]
fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
    isolated("reload", async |world| {
        let one = Origin::start("one", 0).await;
        let two = Origin::start("two", 0).await;
        let configuration = static_configuration(LISTENER, one.address());
        let mut gateway = Gateway::start(world, "gateway", &configuration).await;
        assert_eq!(serving().await, "one");

        gateway.reconfigure(&static_configuration(LISTENER, two.address()));
        wait::holds("the new origin", PATIENCE, async || {
            serving().await == "two"
        })
        .await;

        gateway.reconfigure("listeners: [{nmae: broken}]\n");
        gateway.process.signal(Signal::SIGHUP);
        wait::holds("the mistake is logged", PATIENCE, async || {
            gateway.process.log().contains("nmae")
        })
        .await;
        gateway.process.assert_running();
        assert_eq!(serving().await, "two");
        assert_eq!(gateway.admin.ready().await, Ok(200));
    });
}

#[test]
fn validation_reports_every_mistake_with_its_place() {
    isolated("validate", async |world| {
        let origin = loopback(9000);
        let good = world.write("good.yaml", &static_configuration(LISTENER, origin));
        assert_eq!(validate(&good).status.code(), Some(0));

        let broken = static_configuration(LISTENER, origin)
            .replace("protocol:", "protocl:")
            .replace(
                "- backendRefs: [{name: origin}]",
                "- backendRefs: [{name: orgin}]",
            );
        let broken = world.write("broken.yaml", &broken);
        let output = validate(&broken);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [
            "broken.yaml:3",
            "protocl",
            "protocol",
            "broken.yaml:11",
            "orgin",
        ] {
            assert!(text.contains(part), "{part:?} is missing from:\n{text}");
        }
    });
}

/// Name of the origin that answered, or else the status.
async fn reach(host: &str, request: http::request::Builder) -> String {
    let connection = Connection::open(loopback(LISTENER), Protocol::Http1).await;
    let mut connection = connection.expect("a connection").authority(host);
    let request = request.body(empty()).expect("a request");
    let reply = connection.send(request).await.expect("a reply");
    match Seen::from_reply(&reply) {
        Ok(seen) => seen.origin,
        Err(_) => reply.status.as_str().to_owned(),
    }
}

async fn serving() -> String {
    let reply = get(LISTENER, Protocol::Http1, "/").await.expect("a reply");
    Seen::from_reply(&reply).map_or_else(|error| error, |seen| seen.origin)
}
