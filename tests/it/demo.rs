//! `meridian demo` shows what it promises, and leaves only what it was asked to.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use meridian_tests::client::{Protocol, get};
use meridian_tests::process::Process;
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};
use serde_json::Value;

/// An agent, its CA, five programs and their checks, one after the other.
const WHOLE_DEMO: Duration = Duration::from_secs(120);

/// Where the demo looks for an agent, and starts one.
const CONSUL: u16 = 8500;

#[test]
fn the_demo_shows_two_hops_and_a_denial_and_stops_everything() {
    isolated("demo", async |world| {
        let mut demo = start(world, &[]);
        assert_eq!(
            demo.exit_code(WHOLE_DEMO).await,
            0,
            "the demo says:\n{}",
            demo.log()
        );
        assert_shown(&demo.log());
        let gateway = gateway_port(&demo.log());
        assert!(!listens(gateway), "the gateway was not stopped");
        assert!(!listens(CONSUL), "Consul was not stopped");
    });
}

#[test]
fn the_demo_with_an_envoy_goes_on_until_the_printed_line_ends_it() {
    isolated("kept demo", async |world| {
        let mut demo = start(world, &["--envoy", "--keep"]);
        let code = demo.exit_code(WHOLE_DEMO).await;
        let log = demo.log();
        let _kept = Kept(processes(&log));
        assert_eq!(code, 0, "the demo says:\n{log}");
        assert_shown(&log);
        assert!(log.contains("envoy-of-web"), "{log}");

        let gateway = gateway_port(&log);
        let reply = get(gateway, Protocol::Http1, "/").await.expect("a reply");
        let answer: Value = serde_json::from_slice(&reply.body).expect("a document");
        let callers = [&answer["caller"], &answer["upstream"]["caller"]];
        let [of_web, of_api] = callers.map(|caller| caller.as_str().unwrap_or_default());
        assert!(of_web.ends_with("/svc/demo-gateway"), "{answer}");
        assert!(of_api.ends_with("/svc/demo-web"), "{answer}");

        let ended = Command::new("bash").args(["-c", &kill_line(&log)]).status();
        assert!(ended.expect("a shell").success());
        wait::holds("everything ends", PATIENCE, async || {
            !listens(gateway) && !listens(CONSUL)
        })
        .await;
    });
}

fn start(world: &World, arguments: &[&str]) -> Process {
    let mut words = vec![
        format!("CONSUL_BIN={}", tools::consul().display()),
        format!("ENVOY_BIN={}", tools::envoy().display()),
        tools::ours("meridian").display().to_string(),
        "demo".to_owned(),
    ];
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    // The harness takes such variables away, and the demo may not rely on a cache here.
    world.spawn("demo", Path::new("env"), &words)
}

/// Both services saw who called them, and the intention denied.
fn assert_shown(log: &str) {
    for part in ["/svc/demo-gateway", "/svc/demo-web", "GET /api  403"] {
        assert!(log.contains(part), "{part:?} is missing from:\n{log}");
    }
}

/// From the first command to try: `curl http://127.0.0.1:PORT/`.
fn gateway_port(log: &str) -> u16 {
    let port = between(log, "curl http://127.0.0.1:", "/");
    port.parse()
        .unwrap_or_else(|_| panic!("no address of the gateway in:\n{log}"))
}

fn kill_line(log: &str) -> String {
    format!("kill {}", between(log, "stop it with: kill ", "\n"))
}

fn processes(log: &str) -> Vec<String> {
    let line = between(log, "stop it with: kill ", "\n");
    line.split_whitespace().map(str::to_owned).collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_default();
    rest.split_once(end).map_or(rest, |(inside, _)| inside)
}

/// What was left running on purpose ends with the test, however that ends.
struct Kept(Vec<String>);

impl Drop for Kept {
    fn drop(&mut self) {
        // Those that have ended already are an error to `kill`, and no fault.
        let _ = Command::new("kill").arg("-9").args(&self.0).output();
    }
}
