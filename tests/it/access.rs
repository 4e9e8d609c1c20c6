//! With ACLs and TLS on: what a sidecar does with the rights of its service and no
//! others, and what it does once its token is good for nothing.
//!
//! Every agent here has `default_policy = deny` and asks for certificates, and every
//! sidecar has a token of its own, with a service identity alone where nothing else
//! is said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use meridian_tests::admin::Admin;
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{AclToken, Consul, Secured, Service};
use meridian_tests::load::{Load, Plan, Target};
use meridian_tests::origin::{Origin, TcpOrigin};
use meridian_tests::sidecar::Sidecar;
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HTTP: u16 = 5001;
const TCP: u16 = 5002;
const RATE: u32 = 200;

/// The public key of RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// Load with nothing else going on: long enough for every pooled connection.
const CALM: Duration = Duration::from_secs(2);

/// A caller, an HTTP and a TCP destination, each with the least rights.
struct Mesh {
    consul: Consul,
    secured: Secured,
    caller: Sidecar,
    token: AclToken,
    token_file: PathBuf,
    _others: Vec<Sidecar>,
    _http: Origin,
    _tcp: TcpOrigin,
}

fn caller() -> Service {
    Service::new("caller", 8000)
        .sidecar(21000)
        .upstream("http", HTTP)
        .upstream("tcp", TCP)
}

impl Mesh {
    async fn start(world: &World) -> Self {
        let secured = Secured::new(world);
        let consul = Consul::start_secured(world, &secured).await;
        entries(&consul).await;
        let mut others = Vec::new();
        for service in [
            Service::new("http", 8001).sidecar(21001),
            Service::new("tcp", 8002).sidecar(21002),
        ] {
            consul.register(&service).await;
            let token = consul.service_token(&service.name).await;
            let mut words = secured.words();
            words.extend(["--token".to_owned(), token.secret]);
            others.push(Sidecar::launch_with(world, &service, &words));
        }
        consul.register(&caller()).await;
        let token = consul.service_token("caller").await;
        let token_file = world.write("caller.token", &token.secret);
        let mut words = secured.words();
        words.extend(by_file(&token_file));
        let mut caller = Sidecar::launch_with(world, &caller(), &words);
        caller.ready().await;
        for sidecar in &mut others {
            sidecar.ready().await;
        }
        let mesh = Self {
            consul,
            secured,
            caller,
            token,
            token_file,
            _others: others,
            _http: Origin::start("http", 8001).await,
            _tcp: TcpOrigin::start(8002).await,
        };
        wait::until("HTTP answers", PATIENCE, async || {
            status("/open", 200).await
        })
        .await;
        wait::until("TCP answers", PATIENCE, async || ping(TCP).await).await;
        mesh
    }

    async fn source(&self) -> Value {
        let snapshot = self.caller.admin.snapshot().await;
        let sources = snapshot["sources"].as_array().cloned().unwrap_or_default();
        let found = sources.into_iter().find(|one| one["name"] == "consul");
        found.expect("Consul is a source")
    }
}

/// One of each kind that a sidecar reads.
async fn entries(consul: &Consul) {
    consul.protocol("http", "http").await;
    consul
        .config_entry(json!({"Kind": "proxy-defaults", "Name": "global",
            "Config": {"local_connect_timeout_ms": 2000}}))
        .await;
    consul
        .config_entry(json!({"Kind": "mesh",
            "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": true}}}}))
        .await;
    consul
        .config_entry(json!({"Kind": "service-router", "Name": "http", "Routes": [
            {"Match": {"HTTP": {"PathPrefix": "/old"}}, "Destination": {"PrefixRewrite": "/open"}}]}))
        .await;
    consul
        .config_entry(
            json!({"Kind": "jwt-provider", "Name": "issuer", "Issuer": "https://issuer",
            "JSONWebKeySet": {"Local": {"JWKS": STANDARD.encode(KEYS)}}}),
        )
        .await;
    let jwt = json!({"Providers": [{"Name": "issuer"}]});
    consul
        .config_entry(
            json!({"Kind": "service-intentions", "Name": "http", "Sources": [
            {"Name": "caller", "Permissions": [
                {"Action": "allow", "HTTP": {"PathPrefix": "/open"}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/token"}, "JWT": jwt}]}]}),
        )
        .await;
    consul.intentions("tcp", &[("caller", "allow")]).await;
}

fn by_file(path: &std::path::Path) -> [String; 2] {
    ["--token-file".to_owned(), path.display().to_string()]
}

async fn status(path: &str, expected: u16) -> Result<(), String> {
    let reply = get(HTTP, Protocol::Http1, path).await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == expected {
        Ok(())
    } else {
        Err(format!("{path} answers {status}"))
    }
}

async fn ping(port: u16) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(loopback(port)).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match exchange.await {
        Ok(answer) if answer == *b"ping" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_rights_of_its_service_are_all_a_sidecar_needs() {
    isolated("least rights", async |world| {
        let mesh = Mesh::start(world).await;
        status("/old", 200).await.expect("the router's rewrite");
        status("//open", 200)
            .await
            .expect("the mesh entry's slashes");
        status("/other", 403).await.expect("no permission");
        status("/token", 403).await.expect("a token is asked for");
        ping(TCP).await.expect("an echo");
        for sidecar in mesh._others.iter().chain([&mesh.caller]) {
            let snapshot = sidecar.admin.snapshot().await;
            assert_eq!(snapshot["rejected"], json!([]), "{snapshot:#}");
            assert_eq!(snapshot["sources"][0]["state"], "current", "{snapshot:#}");
            let metrics = sidecar.admin.metrics().await;
            assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 0.0);
            assert_eq!(metrics.sum("meridian_source_watch_errors_total", &[]), 0.0);
        }
    });
}

/// Every response is counted: none is lost, neither while the token is refused nor
/// when another one takes its place.
#[test]
fn a_revoked_token_costs_no_request_and_is_named_until_it_is_replaced() {
    isolated("revoked", async |world| {
        let mesh = Mesh::start(world).await;
        let plan = Plan {
            rate: RATE,
            authority: "http.example".to_owned(),
            path: "/open?size=200".to_owned(),
        };
        let target = Target::new(loopback(HTTP), mesh.caller.admin);
        let load = Load::start(plan, vec![target]);

        mesh.consul.revoke(&mesh.token).await;
        let refused = async || {
            let source = mesh.source().await;
            (source["cause"] == "token").then_some(()).ok_or(source)
        };
        wait::until("the refusal is shown", PATIENCE, refused).await;
        let metrics = mesh.caller.admin.metrics().await;
        assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 1.0);
        assert_eq!(metrics.sum("meridian_source_connected", &[]), 0.0);
        assert_eq!(mesh.caller.admin.ready().await, Ok(200));
        // A query that waits was let in before: it learns this change, and no other.
        let kept = json!({"Match": {"HTTP": {"PathPrefix": "/old"}},
            "Destination": {"PrefixRewrite": "/open"}});
        let other = json!({"Match": {"HTTP": {"PathPrefix": "/other"}}});
        mesh.consul
            .config_entry(
                json!({"Kind": "service-router", "Name": "http", "Routes": [kept, other]}),
            )
            .await;
        wait::holds("the chain is refused, too", PATIENCE, async || {
            let metrics = mesh.caller.admin.metrics().await;
            let chain = [("watch", "chain")];
            metrics.sum("meridian_source_watch_errors_total", &chain) >= 2.0
        })
        .await;
        mesh.consul
            .config_entry(json!({"Kind": "service-router", "Name": "http", "Routes": []}))
            .await;
        status("/old", 200).await.expect("the last known route");
        tokio::time::sleep(CALM).await;

        let fresh = mesh.consul.service_token("caller").await;
        std::fs::write(&mesh.token_file, &fresh.secret).expect("the token file");
        wait::until("the new token is taken", PATIENCE, async || {
            let source = mesh.source().await;
            (source["state"] == "current").then_some(()).ok_or(source)
        })
        .await;
        wait::until("what was missed is learned", PATIENCE, async || {
            // The origin sees the path as it was sent, which no permission allows.
            status("/old", 403).await
        })
        .await;
        let report = load.stop().await;
        assert_eq!(report.lost(), 0, "{report:#?}");
        assert!(report.sent > u64::from(RATE), "too little load: {report:?}");
        let metrics = mesh.caller.admin.metrics().await;
        assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 0.0);
        let said = mesh.caller.process.log();
        assert_eq!(said.matches("the token is refused").count(), 1, "{said}");
    });
}

#[test]
fn a_missing_right_is_named_and_the_rest_works() {
    isolated("missing right", async |world| {
        let mesh = Mesh::start(world).await;
        // A token may read `tcp` and nothing else but what is its own.
        let rules = r#"
            service "narrow" { policy = "write" }
            service "narrow-sidecar-proxy" { policy = "write" }
            service_prefix "tcp" { policy = "read" }
            node_prefix "" { policy = "read" }"#;
        let token = mesh.consul.policy_token("narrow", rules).await;
        let narrow = Service::new("narrow", 8003)
            .sidecar(21003)
            .upstream("http", 5003)
            .upstream("tcp", 5004);
        mesh.consul.register(&narrow).await;
        let mut words = mesh.secured.words();
        words.extend(["--token".to_owned(), token.secret]);
        let sidecar = Sidecar::launch_with(world, &narrow, &words);
        wait::until(
            "ready without the upstream",
            PATIENCE,
            async || match sidecar.admin.ready().await? {
                200 => Ok(()),
                status => Err(status.to_string()),
            },
        )
        .await;
        let snapshot = sidecar.admin.snapshot().await;
        let rejected = snapshot["rejected"].as_array().expect("a list");
        let [rejection] = rejected.as_slice() else {
            panic!("{snapshot:#}");
        };
        assert_eq!(rejection["resource"], "upstream http");
        let reason = rejection["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("service:read"), "{reason}");
        // What may not be read is named; all else is as Consul says now.
        let sources = snapshot["sources"].as_array().expect("a list");
        let [consul, chain] = sources.as_slice() else {
            panic!("{snapshot:#}");
        };
        assert_eq!(
            (&consul["name"], &consul["state"]),
            (&json!("consul"), &json!("current"))
        );
        assert_eq!(
            (&chain["name"], &chain["cause"]),
            (&json!("consul/chain"), &json!("rights"))
        );
        let metrics = sidecar.admin.metrics().await;
        assert_eq!(metrics.sum("meridian_source_connected", &[]), 1.0);

        // Without any token nothing can be served, and `/ready` says why.
        let nobody = Service::new("nobody", 8004).sidecar(21004);
        mesh.consul.register(&nobody).await;
        let sidecar = Sidecar::launch_with(world, &nobody, &mesh.secured.words());
        let reason = wait::until("the reason", PATIENCE, async || {
            let reply = sidecar.admin.ask(Method::GET, "/ready", "").await?;
            let text = reply.text();
            (reply.status == 503 && text.contains("registration"))
                .then_some(text.clone())
                .ok_or(text)
        })
        .await;
        assert!(reason.contains("service:read"), "{reason}");
        let snapshot = sidecar.admin.snapshot().await;
        assert_eq!(snapshot["generation"], 0);
        assert_eq!(snapshot["sources"][0]["cause"], "rights", "{snapshot:#}");
    });
}

/// A gateway of each kind, with the policy that docs/operations.md names for it.
#[test]
fn gateways_work_with_the_policies_that_are_documented_for_them() {
    isolated("gateway rights", async |world| {
        let mesh = Mesh::start(world).await;
        let consul = &mesh.consul;
        let outside = Service::new("outside", 8005);
        let _outside = TcpOrigin::start(8005).await;
        consul.register(&outside).await;
        for entry in [
            json!({"Kind": "ingress-gateway", "Name": "ingress", "Listeners": [
                {"Port": 9001, "Protocol": "http", "Services": [
                    {"Name": "http", "Hosts": ["*"]}]}]}),
            json!({"Kind": "api-gateway", "Name": "api", "Listeners": [
                {"Name": "main", "Port": 9002, "Protocol": "http"}]}),
            json!({"Kind": "http-route", "Name": "all",
                "Parents": [{"Kind": "api-gateway", "Name": "api"}],
                "Rules": [{"Services": [{"Name": "http"}]}]}),
            json!({"Kind": "terminating-gateway", "Name": "egress",
                "Services": [{"Name": "outside"}]}),
        ] {
            consul.config_entry(entry).await;
        }
        let allow =
            json!([{"Name": "ingress", "Action": "allow"}, {"Name": "api", "Action": "allow"}]);
        consul
            .config_entry(json!({"Kind": "service-intentions", "Name": "http", "Sources": allow}))
            .await;
        consul.intentions("outside", &[("far", "allow")]).await;

        let reads = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
        let kinds = [
            ("gateway", "ingress", "ingress", 9011, ""),
            ("gateway", "api", "api", 9012, r#"mesh = "read""#),
            (
                "meshd",
                "mesh",
                "mesh-gateway",
                9013,
                r#"agent_prefix "" { policy = "read" }"#,
            ),
            (
                "meshd",
                "terminating",
                "egress",
                9014,
                r#"service "outside" { policy = "write" }"#,
            ),
        ];
        let mut running = Vec::new();
        for (program, kind, name, port, more) in kinds {
            let own = format!(r#"service "{name}" {{ policy = "write" }}"#);
            let token = consul
                .policy_token(kind, &format!("{own} {reads} {more}"))
                .await;
            let admin = loopback(world.fresh_port());
            let mut words = mesh.secured.words();
            let own = format!(
                "run --gateway {kind} --service {name} --address 127.0.0.1:{port} --register \
                 --admin-bind {admin} --token {}",
                token.secret
            );
            words.splice(0..0, own.split_whitespace().map(str::to_owned));
            let process = world.spawn(name, &tools::ours(program), &words);
            running.push((name, Admin::new(admin), process));
        }
        let far = Service::new("far", 8006)
            .sidecar(21006)
            .upstream("outside", 5006);
        consul.register(&far).await;
        let token = consul.service_token("far").await;
        let mut words = mesh.secured.words();
        words.extend(["--token".to_owned(), token.secret]);
        let mut sidecar = Sidecar::launch_with(world, &far, &words);
        sidecar.ready().await;

        for (name, admin, _) in &running {
            wait::until(
                &format!("{name} is ready"),
                PATIENCE,
                async || match admin.ready().await? {
                    200 => Ok(()),
                    status => Err(status.to_string()),
                },
            )
            .await;
        }
        for port in [9001, 9002] {
            wait::until("a gateway answers", PATIENCE, async || {
                let reply = get(port, Protocol::Http1, "/open").await;
                match reply.map_err(|error| error.to_string())?.status.as_u16() {
                    200 => Ok(()),
                    status => Err(format!("port {port}: {status}")),
                }
            })
            .await;
        }
        wait::until("the outside answers", PATIENCE, async || ping(5006).await).await;
        for (name, admin, _) in &running {
            let snapshot = admin.snapshot().await;
            assert_eq!(snapshot["rejected"], json!([]), "{name}: {snapshot:#}");
            assert_eq!(
                snapshot["sources"][0]["state"], "current",
                "{name}: {snapshot:#}"
            );
        }
    });
}
