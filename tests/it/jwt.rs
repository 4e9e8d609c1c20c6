//! Tokens that intentions ask for: who passes, what the application sees of it,
//! and what happens to keys.
//!
//! The table runs against Envoy too: it holds the test itself to the truth.

mod issuer;

use std::time::{SystemTime, UNIX_EPOCH};

use http::Request;
use issuer::{Issuer, JWKS, KeyServer};
use meridian_tests::client::{Connection, Protocol, Reply, empty, loopback};
use meridian_tests::consul::{Consul, HTTP_API, Service};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};

/// Where the caller's sidecar offers the destination.
const API: u16 = 5001;

#[test]
fn tokens_decide_at_meshd() {
    tokens_decide(Kind::Meshd);
}

#[test]
fn tokens_decide_at_envoy() {
    tokens_decide(Kind::Envoy);
}

fn tokens_decide(callee: Kind) {
    isolated(&format!("jwt at {callee:?}"), async move |world| {
        let (one, two) = (Issuer::new("one"), Issuer::new("two"));
        let mut mesh = Mesh::start(world, "deny").await;
        mesh.provider(
            &one,
            json!({"Local": {"JWKS": one.local_keys()}}),
            json!({
            "Audiences": ["api"], "Forwarding": {"HeaderName": "x-payload"}}),
        )
        .await;
        mesh.provider(&two, json!({"Local": {"JWKS": two.local_keys()}}), json!({
            "Locations": [{"Header": {"Name": "x-token", "ValuePrefix": "Tok ", "Forward": true}}]}))
            .await;
        let wants = |names: &[&str], path: &[&str], value: &str| {
            let claims = if path.is_empty() {
                json!([])
            } else {
                json!([{"Path": path, "Value": value}])
            };
            let provider = |name: &&str| json!({"Name": name, "VerifyClaims": claims});
            json!({"Providers": names.iter().map(provider).collect::<Vec<_>>()})
        };
        mesh.permissions(json!([
            permission("allow", "/one", wants(&["one"], &[], "")),
            permission("allow", "/one/open", Value::Null),
            permission("allow", "/either", wants(&["one", "two"], &[], "")),
            permission("allow", "/role", wants(&["one"], &["a", "role"], "admin")),
            permission("allow", "/groups", wants(&["one"], &["groups"], "g1")),
            permission("allow", "/open", Value::Null),
        ]))
        .await;
        mesh.join(world, callee).await;
        let token = |changes: Value| bearer(&one.token("one", &merged(&changes)));
        let good = token(json!({}));
        let second = two.token("two", &json!({"iss": "https://two"}));
        mesh.until("the destination answers", "/one", &good, 200)
            .await;

        let other_key = bearer(&two.token("one", &merged(&json!({}))));
        let elsewhere = vec![("x-token", format!("Tok {second}"))];
        let cases = [
            ("/one", vec![], 403),
            ("/one", token(json!({"exp": now() - 100})), 403),
            ("/one", token(json!({"exp": now() - 10})), 200),
            ("/one", token(json!({"nbf": now() + 100})), 403),
            ("/one", token(json!({"aud": "other"})), 403),
            ("/one", token(json!({"aud": ["x", "api"]})), 200),
            ("/one", token(json!({"iss": "https://one/"})), 403),
            ("/one", other_key, 403),
            ("/one", bearer("a.b.c"), 403),
            ("/one", elsewhere.clone(), 403),
            // The first permission that matches decides, token or not.
            ("/one/open", vec![], 403),
            ("/either", good.clone(), 200),
            ("/either", elsewhere, 200),
            ("/either", bearer(&second), 403),
            ("/role", good.clone(), 200),
            ("/role", token(json!({"a": {"role": "user"}})), 403),
            ("/role", token(json!({"a": {"role": ["admin"]}})), 403),
            ("/groups", good.clone(), 403),
            ("/open", vec![], 200),
            ("/open", bearer("bad"), 200),
        ];
        for (number, (path, headers, status)) in cases.into_iter().enumerate() {
            let reply = call(path, &headers).await.expect("a reply");
            assert_eq!(reply.status, status, "case {number}: {path}");
            if status == 403 {
                assert_eq!(reply.text(), "RBAC: access denied", "case {number}");
            }
        }
        the_application_sees_what_it_should(&good).await;
    });
}

/// A verified token is taken out and its claims are told, even where nobody asked for it; what a
/// client tells under that name is not.
async fn the_application_sees_what_it_should(good: &[(&'static str, String)]) {
    let mut headers = good.to_vec();
    headers.push(("x-payload", "spoofed".to_owned()));
    let seen =
        Seen::from_reply(&call("/open", &headers).await.expect("a reply")).expect("a report");
    assert_eq!(seen.header("authorization"), Vec::<&str>::new());
    let [payload] = seen.header("x-payload")[..] else {
        panic!("{seen:?}")
    };
    assert!(good[0].1.contains(payload), "{payload}");

    let spoofed = [("x-payload", "spoofed".to_owned())];
    let seen =
        Seen::from_reply(&call("/open", &spoofed).await.expect("a reply")).expect("a report");
    assert_eq!(seen.header("x-payload"), Vec::<&str>::new());
}

#[test]
fn a_rule_without_its_token_leaves_it_to_the_default_at_meshd() {
    missing_tokens_leave_it_to_the_default(Kind::Meshd);
}

#[test]
fn a_rule_without_its_token_leaves_it_to_the_default_at_envoy() {
    missing_tokens_leave_it_to_the_default(Kind::Envoy);
}

/// The default is to allow here, so a denial that asks for a token denies those who have it.
fn missing_tokens_leave_it_to_the_default(callee: Kind) {
    isolated(&format!("jwt default at {callee:?}"), async move |world| {
        let one = Issuer::new("one");
        let mut mesh = Mesh::start(world, "allow").await;
        mesh.provider(
            &one,
            json!({"Local": {"JWKS": one.local_keys()}}),
            json!({}),
        )
        .await;
        let wants = json!({"Providers": [{"Name": "one"}]});
        mesh.intentions(json!({"JWT": wants, "Sources": [{"Name": "caller", "Action": "deny"}]}))
            .await;
        mesh.join(world, callee).await;
        let good = bearer(&one.token("one", &merged(&json!({}))));
        mesh.until("the denial", "/", &good, 403).await;
        assert_eq!(call("/", &[]).await.expect("a reply").status, 200);
        mesh.intentions(json!({"JWT": wants, "Sources": [{"Name": "caller", "Action": "allow"}]}))
            .await;
        mesh.until("the permission", "/", &good, 200).await;
        assert_eq!(call("/", &[]).await.expect("a reply").status, 200);
    });
}

#[test]
fn keys_are_fetched_rotated_and_outlive_their_issuer() {
    isolated("jwks", async |world| {
        let one = Issuer::new("one");
        let server = KeyServer::start(&one.keys(&["old"])).await;
        let mut mesh = Mesh::start(world, "deny").await;
        let remote = json!({"Remote": {
            "URI": format!("http://127.0.0.1:{JWKS}/"), "CacheDuration": "1s",
            "RequestTimeoutMs": 1000}});
        // No token is good because it was good before.
        let cache = json!({"CacheConfig": {"Size": 100}});
        mesh.provider(&one, remote, cache).await;
        let wants = json!({"Providers": [{"Name": "one"}]});
        mesh.permissions(json!([permission("allow", "/", wants)]))
            .await;
        mesh.join(world, Kind::Meshd).await;
        let token = |kid: &str| bearer(&one.token(kid, &merged(&json!({}))));
        mesh.until("the first keys", "/", &token("old"), 200).await;
        assert_eq!(call("/", &token("new")).await.expect("a reply").status, 403);

        server.publish(&one.keys(&["old", "new"]));
        mesh.until("the new key", "/", &token("new"), 200).await;
        assert_eq!(call("/", &token("old")).await.expect("a reply").status, 200);
        server.publish(&one.keys(&["new"]));
        mesh.until("the end of the old key", "/", &token("old"), 403)
            .await;

        let seen = server.requests();
        server.fail();
        wait::holds("failing fetches", PATIENCE, async || {
            server.requests() > seen + 2
        })
        .await;
        assert_eq!(call("/", &token("new")).await.expect("a reply").status, 200);
    });
}

#[test]
fn remembered_keys_verify_after_a_restart_while_their_issuer_is_away() {
    isolated("jwks restart", async |world| {
        let one = Issuer::new("one");
        let server = KeyServer::start(&one.keys(&["one"])).await;
        let mut mesh = Mesh::start(world, "deny").await;
        let uri = format!("http://127.0.0.1:{JWKS}/");
        let remote = json!({"Remote": {"URI": uri, "RequestTimeoutMs": 1000}});
        mesh.provider(&one, remote, json!({})).await;
        let wants = json!({"Providers": [{"Name": "one"}]});
        mesh.permissions(json!([permission("allow", "/", wants)]))
            .await;
        mesh.join(world, Kind::Meshd).await;
        let token = bearer(&one.token("one", &merged(&json!({}))));

        let state = world.directory().join("state");
        let words = format!("--http-addr {HTTP_API} --state-dir {}", state.display());
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        mesh.restart_callee(world, &words).await;
        mesh.until("the issuer's keys", "/", &token, 200).await;
        wait::holds("they are kept", PATIENCE, async || {
            let files = std::fs::read_dir(&state).into_iter().flatten().flatten();
            let names: Vec<_> = files.map(|file| file.file_name()).collect();
            let has = |start: &str| {
                let mut names = names.iter().filter_map(|name| name.to_str());
                names.any(|name| name.starts_with(start) && name.ends_with(".json"))
            };
            has("jwks") && has("owner")
        })
        .await;

        server.fail();
        mesh.restart_callee(world, &words).await;
        mesh.until("remembered keys", "/", &token, 200).await;
        assert_eq!(call("/", &[]).await.expect("a reply").status, 403);
        let snapshot = mesh.sidecars[0].admin.snapshot().await;
        let mut sources = snapshot["sources"].as_array().into_iter().flatten();
        let memory = sources.find(|source| source["name"] == "memory");
        let memory = memory.unwrap_or_else(|| panic!("no memory: {snapshot:#}"));
        let age = memory["ageSeconds"].as_f64();
        assert!(age.is_some_and(|age| age < 120.0), "{memory}");

        server.publish(&one.keys(&["one"]));
        wait::until("its issuer's again", PATIENCE, async || {
            let sources = mesh.sidecars[0].admin.snapshot().await["sources"].to_string();
            match sources.contains("memory") {
                false => Ok(()),
                true => Err(sources),
            }
        })
        .await;
    });
}

/// A caller and a destination, under a default policy. Rules that must hold from the first
/// request are written before the sidecars start: Envoy leaves connections that are open to the
/// rules before.
struct Mesh {
    consul: Consul,
    sidecars: Vec<Sidecar>,
    _origin: Origin,
}

impl Mesh {
    async fn start(world: &World, default: &str) -> Self {
        let settings = json!({"default_intention_policy": default});
        let consul = Consul::start_with(world, settings).await;
        consul.protocol("api", "http").await;
        Self {
            consul,
            sidecars: Vec::new(),
            _origin: Origin::start("api", 8001).await,
        }
    }

    async fn join(&mut self, world: &World, callee: Kind) {
        let caller = Service::new("caller", 8000).sidecar(21000);
        let services = [
            (Service::new("api", 8001).sidecar(21001), callee),
            (caller.upstream("api", API), Kind::Meshd),
        ];
        for (service, kind) in &services {
            self.consul.register(service).await;
            let sidecar = Sidecar::start(world, *kind, service).await;
            self.sidecars.push(sidecar);
        }
    }

    /// Kills the destination's sidecar and starts meshd in its place.
    async fn restart_callee(&mut self, world: &World, words: &[String]) {
        self.sidecars[0].process.kill();
        let service = Service::new("api", 8001).sidecar(21001);
        self.sidecars[0] = Sidecar::launch_with(world, &service, words);
        self.sidecars[0].ready().await;
    }

    /// Writes a `jwt-provider`.
    async fn provider(&self, issuer: &Issuer, keys: Value, more: Value) {
        let mut entry = json!({
            "Kind": "jwt-provider", "Name": issuer.name,
            "Issuer": format!("https://{}", issuer.name), "JSONWebKeySet": keys,
        });
        extend(&mut entry, &more);
        self.consul.config_entry(entry).await;
    }

    /// Lets the caller do what permissions say.
    async fn permissions(&self, permissions: Value) {
        self.intentions(json!({"Sources": [{"Name": "caller", "Permissions": permissions}]}))
            .await;
    }

    async fn intentions(&self, rules: Value) {
        let mut entry = json!({"Kind": "service-intentions", "Name": "api"});
        extend(&mut entry, &rules);
        self.consul.config_entry(entry).await;
    }

    async fn until(&self, what: &str, path: &str, headers: &[(&'static str, String)], status: u16) {
        wait::until(what, PATIENCE, async || {
            let reply = call(path, headers).await?;
            (reply.status == status)
                .then_some(())
                .ok_or_else(|| reply.status.to_string())
        })
        .await;
    }
}

async fn call(path: &str, headers: &[(&'static str, String)]) -> Result<Reply, String> {
    let text = |error: meridian_tests::client::Error| error.to_string();
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(empty()).expect("a request");
    let mut connection = Connection::open(loopback(API), Protocol::Http1)
        .await
        .map_err(text)?;
    connection.send(request).await.map_err(text)
}

fn permission(action: &str, path: &str, jwt: Value) -> Value {
    let mut written = json!({"Action": action, "HTTP": {"PathPrefix": path}});
    if !jwt.is_null() {
        written["JWT"] = jwt;
    }
    written
}

fn bearer(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}"))]
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}

/// What issuer `one` usually says, with some of it changed.
fn merged(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://one", "aud": "api", "exp": now() + 600, "groups": ["g1"],
        "a": {"role": "admin"},
    });
    extend(&mut claims, changes);
    claims
}

fn extend(value: &mut Value, more: &Value) {
    for (name, more) in more.as_object().expect("an object") {
        value[name] = more.clone();
    }
}
