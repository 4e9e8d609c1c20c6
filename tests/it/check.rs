//! `meridian check`: all is well, and then one thing after the other is broken.

mod gateways;

use std::process::Command;

use http::Method;
use meridian_tests::certs::{Authority, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::loopback;
use meridian_tests::consul::{AclToken, Consul, HTTP_API, Secured, Service};
use meridian_tests::handshake::Impostor;
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};

/// What it says, and its exit code. On a thread of its own, since it may call servers
/// of the test.
async fn check(words: &[String]) -> (Value, i32) {
    let words = words.to_vec();
    let run = tokio::task::spawn_blocking(|| {
        Command::new(tools::ours("meridian"))
            .args(["check", "--json", "--timeout", "5"])
            .args(words)
            .env_clear()
            .output()
    });
    let output = run.await.expect("a thread");
    let output = output.expect("`meridian check` runs");
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (document, output.status.code().unwrap_or(-1))
}

/// The lines of one group with this state.
fn lines(document: &Value, group: &str, state: &str) -> Vec<(String, String)> {
    let groups = document["groups"].as_array().into_iter().flatten();
    let lines = groups
        .filter(|one| one["name"] == group)
        .filter_map(|one| one["checks"].as_array())
        .flatten()
        .filter(|line| line["state"] == state);
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    lines
        .map(|line| (text(line, "finding"), text(line, "remedy")))
        .collect()
}

/// The first broken thing: a line of this group, with these words and a remedy. Others may follow
/// from it.
fn breaks(document: &Value, group: &str, finding: &str, remedy: &str) {
    let groups = document["groups"].as_array().into_iter().flatten();
    let names = groups.filter_map(|one| one["name"].as_str());
    let first = names
        .flat_map(|name| {
            lines(document, name, "failed")
                .into_iter()
                .map(move |line| (name, line))
        })
        .next();
    let (broken, (said, help)) = first.unwrap_or_else(|| panic!("{finding}: {document:#}"));
    assert!(
        broken == group && said.contains(finding) && help.contains(remedy),
        "{finding}: {document:#}"
    );
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn all_is_well_and_each_broken_thing_has_its_own_line() {
    isolated("check", async |world| {
        let mut stage = Stage::start(world).await;
        let (document, code) = stage.check("web", &stage.web.secret).await;
        assert_eq!(code, 0, "{document:#}");
        assert_eq!(document["ok"], true);
        let shaken = lines(&document, "handshakes", "ok");
        let proof = stage.consul.spiffe_id("api").await;
        assert!(
            shaken.iter().any(|(line, _)| line.contains(&proof)),
            "{document:#}"
        );
        stage.options_that_do_not_do().await;
        stage.a_sidecar_that_is_not_there().await;
        stage.a_token_with_few_rights().await;
        stage.an_intention_that_denies().await;
        stage.an_impostor().await;
        stage.what_ends_is_named().await;
    });
}

/// `web`, which calls `api`, each with its sidecar, on a Consul with TLS and ACLs.
struct Stage {
    secured: Secured,
    consul: Consul,
    web: AclToken,
    api: AclToken,
    _web: Sidecar,
    callee: Sidecar,
    _origin: Origin,
}

impl Stage {
    async fn start(world: &World) -> Self {
        let secured = Secured::new(world);
        let consul = Consul::start_secured(world, &secured).await;
        let web = Service::new("web", 8001)
            .sidecar(21001)
            .upstream("api", 5001);
        let api = Service::new("api", 8002).sidecar(21002);
        let launch = async |service: &Service| {
            consul.register(service).await;
            let token = consul.service_token(&service.name).await;
            let mut how = secured.words();
            how.extend(["--token".to_owned(), token.secret.clone()]);
            (token, Sidecar::launch_with(world, service, &how))
        };
        let (web, mut caller) = launch(&web).await;
        let (api, mut callee) = launch(&api).await;
        caller.ready().await;
        callee.ready().await;
        let origin = Origin::start("api", 8002).await;
        consul.intentions("api", &[("web", "allow")]).await;
        consul.passing("api", 1).await;
        consul.passing("web", 1).await;
        Self {
            secured,
            consul,
            web,
            api,
            _web: caller,
            callee,
            _origin: origin,
        }
    }

    async fn check(&self, service: &str, token: &str) -> (Value, i32) {
        let mut all = self.secured.words();
        all.extend(words(&format!("--sidecar-for {service} --token {token}")));
        check(&all).await
    }

    async fn options_that_do_not_do(&self) {
        // Address and authority alone: the agent asks for a certificate of ours, too.
        let mut bare = self.secured.words()[..4].to_vec();
        bare.extend(words("--sidecar-for web"));
        let (document, code) = check(&bare).await;
        assert_eq!(code, 1);
        breaks(&document, "agent", "/v1/status/leader", "--c");

        let unknown = "00000000-0000-0000-0000-000000000001";
        let (document, code) = self.check("web", unknown).await;
        assert_eq!(code, 1);
        breaks(&document, "token", "ACL not found", "--token-file");
    }

    async fn a_sidecar_that_is_not_there(&self) {
        let (document, code) = self.check("nobody", &self.web.secret).await;
        assert_eq!(code, 1);
        let remedy = "consul services register";
        breaks(&document, "registration", "no sidecar of nobody", remedy);

        let lone = Service::new("lone", 8003).sidecar(21003);
        self.consul.register(&lone).await;
        let (document, code) = self.check("lone", &self.api.secret).await;
        assert_eq!(code, 1);
        breaks(&document, "registration", "nobody listens", "meshd run");
    }

    /// It may be `web`, and read nothing about `api`.
    async fn a_token_with_few_rights(&self) {
        let rules = r#"service_prefix "web" { policy = "write" }
            node_prefix "" { policy = "read" }"#;
        let narrow = self.consul.policy_token("narrow", rules).await;
        let (document, code) = self.check("web", &narrow.secret).await;
        assert_eq!(code, 1);
        let right = "service:read on \"api\"";
        breaks(&document, "upstream api", "Permission denied", right);
    }

    async fn an_intention_that_denies(&self) {
        self.consul.intentions("api", &[("web", "deny")]).await;
        wait::holds("the intention is seen", PATIENCE, async || {
            let (document, code) = self.check("web", &self.web.secret).await;
            code == 1
                && lines(&document, "upstream api", "failed")
                    .iter()
                    .any(|(line, help)| line.contains("denies web") && help.contains("-allow"))
        })
        .await;
        self.consul.intentions("api", &[("web", "allow")]).await;
    }

    /// Somebody else at the registered address, signed by an authority of his own.
    async fn an_impostor(&mut self) {
        self.callee.process.kill();
        let (document, code) = self.check("web", &self.web.secret).await;
        assert_eq!(code, 1);
        let down = lines(&document, "handshakes", "failed");
        assert_eq!(down.len(), 1, "{document:#}");
        assert!(down[0].1.contains("start"), "{document:#}");
        let domain = self.consul.trust_domain().await;
        let identity = Authority::new(&domain).leaf(&[&spiffe_id(&domain, "api")]);
        let _impostor = Impostor::start(loopback(21002), identity, b"hello").await;
        wait::until("the impostor is found out", PATIENCE, async || {
            let (document, _) = self.check("web", &self.web.secret).await;
            let failed = lines(&document, "handshakes", "failed");
            let found = failed.iter().any(|(line, help)| {
                line.contains("no trusted root") && help.contains("another cluster")
            });
            found.then_some(()).ok_or_else(|| format!("{document:#}"))
        })
        .await;
    }

    /// The token, and then Consul itself.
    async fn what_ends_is_named(&mut self) {
        self.consul.revoke(&self.web).await;
        let (document, code) = self.check("web", &self.web.secret).await;
        assert_eq!(code, 1);
        breaks(&document, "token", "ACL not found", "revoked");

        self.consul.kill();
        let (document, code) = self.check("web", &self.web.secret).await;
        assert_eq!(code, 1);
        breaks(&document, "agent", "unreachable", "--http-addr");
        assert_eq!(
            document["groups"].as_array().map(Vec::len),
            Some(1),
            "{document:#}"
        );
    }
}

/// The authority is the right one, and so is the name: only its time has passed.
#[test]
fn an_upstream_whose_certificate_has_expired_is_reported_as_such() {
    isolated("check expired", async |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let settings = json!({"connect": authority.consul_settings()});
        let consul = Consul::start_with(world, settings).await;
        let web = Service::new("web", 8001)
            .sidecar(21001)
            .upstream("api", 5001);
        consul.register(&web).await;
        consul
            .register(&Service::new("api", 8002).sidecar(21002))
            .await;
        let api = spiffe_id(TRUST_DOMAIN, "api");
        let impostor = Impostor::start(loopback(21002), authority.leaf(&[&api]), b"hello").await;
        let _sidecar = Sidecar::start(world, Kind::Meshd, &web).await;
        consul.passing("api", 1).await;
        consul.passing("web", 1).await;
        let words = words(&format!("--sidecar-for web --http-addr {HTTP_API}"));
        let (document, code) = check(&words).await;
        assert_eq!(code, 0, "{document:#}");

        impostor.present(authority.expired_leaf(&[&api]));
        let (document, code) = check(&words).await;
        assert_eq!(code, 1);
        breaks(
            &document,
            "handshakes",
            "certificate has expired",
            "not renewed",
        );
    });
}

#[test]
fn a_prepared_query_is_executed_and_what_it_finds_is_called() {
    isolated("check query", async |world| {
        let consul = Consul::start(world).await;
        let api = Service::new("api", 8001).sidecar(21001);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .prepared_query("nearest", 5001);
        for service in [&api, &caller] {
            consul.register(service).await;
        }
        let mut sidecar = Sidecar::start(world, Kind::Meshd, &api).await;
        let _caller = Sidecar::start(world, Kind::Meshd, &caller).await;
        let _origin = Origin::start("api", api.port).await;
        consul.passing("api", 1).await;
        consul.passing("caller", 1).await;
        let words = words(&format!("--sidecar-for caller --http-addr {HTTP_API}"));
        let group = "upstream nearest";
        let (document, code) = check(&words).await;
        assert_eq!(code, 1);
        breaks(&document, group, "execute prepared query", "POST /v1/query");

        let query = json!({"Name": "nearest", "Service": {"Service": "api"}});
        consul.api(Method::POST, "/v1/query", Some(query)).await;
        let (document, code) = check(&words).await;
        assert_eq!(code, 0, "{document:#}");
        let found = &lines(&document, group, "ok")[0].0;
        assert!(found.contains("finds 1 instance(s) of api"), "{found}");
        let proof = consul.spiffe_id("api").await;
        let shaken = lines(&document, "handshakes", "ok");
        let proved = shaken.iter().any(|(line, _)| line.contains(&proof));
        assert!(proved, "{document:#}");

        consul.intentions("api", &[("caller", "deny")]).await;
        wait::until("the denial", PATIENCE, async || {
            let (document, _) = check(&words).await;
            let failed = lines(&document, group, "failed");
            let denied = failed
                .iter()
                .any(|(line, _)| line.contains("denies caller"));
            denied.then_some(()).ok_or_else(|| format!("{document:#}"))
        })
        .await;
        sidecar.process.kill();
        consul.passing("api", 0).await;
        let (document, _) = check(&words).await;
        breaks(&document, group, "finds no instance of api", "start one");
    });
}

#[test]
fn settings_at_fault_are_told_from_a_mesh_at_fault() {
    isolated("check settings", async |_| {
        let (document, code) = check(&words(
            "--sidecar-for web --http-addr https://127.0.0.1:1 --ca-file /nonexistent",
        ))
        .await;
        assert_eq!(code, 2);
        breaks(&document, "settings", "/nonexistent", "option");
    });
}

/// For people there are signs, and the help teaches.
#[test]
fn the_help_says_what_is_looked_at() {
    let output = Command::new(tools::ours("meridian"))
        .args(["check", "--help"])
        .output()
        .expect("`meridian check --help` runs");
    let help = String::from_utf8_lossy(&output.stdout);
    for word in ["handshakes", "datacenters", "Exit codes", "--json", "√"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
