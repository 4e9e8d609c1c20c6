//! What a caller sees of a destination that comes, rests, moves, speaks otherwise and goes.

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;

/// Where the caller finds the destination.
const WEB: u16 = 5001;
/// What it reads while nobody is there.
const NOBODY: &str = "503 no healthy upstream";

#[test]
fn a_caller_follows_its_destination_at_meshd() {
    follows(Kind::Meshd);
}

#[test]
fn a_caller_follows_its_destination_at_envoy() {
    follows(Kind::Envoy);
}

fn follows(kind: Kind) {
    isolated(&format!("changes at {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        consul
            .config_entry(json!({"Kind": "proxy-defaults", "Name": "global",
                "Config": {"protocol": "http"}}))
            .await;
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("web", WEB);
        consul.register(&caller).await;
        let _caller = Sidecar::start(world, kind, &caller).await;
        becomes("nobody has come yet", NOBODY).await;

        let web = |port| Service::new("web", port);
        let first = web(8001).sidecar(21001);
        consul.register(&first).await;
        let _one = Origin::start("one", 8001).await;
        let _web = Sidecar::start(world, kind, &first).await;
        becomes("it has come", "one").await;
        rests(&consul).await;

        let _two = Origin::start("two", 8002).await;
        consul.register(&web(8002).sidecar(21001)).await;
        becomes("its application has moved", "two").await;
        consul.register(&web(8002).sidecar(21002)).await;
        becomes("its sidecar has moved", "two").await;

        consul.protocol("web", "tcp").await;
        becomes("its protocol is TCP", "two, untouched").await;
        consul.delete_config_entry("service-defaults", "web").await;
        becomes("its protocol is HTTP again", "two").await;

        let second = web(8001).id("web-2").sidecar(21003);
        consul.register(&second).await;
        let _second = Sidecar::start(world, kind, &second).await;
        becomes("another instance has come", "one").await;
        consul.deregister("web").await;
        stays("one of them has gone", "one").await;
        consul.deregister("web-2").await;
        becomes("all have gone", NOBODY).await;
    });
}

/// Maintenance, of the instance and of its node, begins and ends.
async fn rests(consul: &Consul) {
    consul.maintenance("web-sidecar-proxy", true).await;
    becomes("it rests", NOBODY).await;
    consul.maintenance("web-sidecar-proxy", false).await;
    becomes("it is back", "one").await;
    let node = |enable| format!("/v1/agent/maintenance?enable={enable}");
    consul.api(Method::PUT, &node(true), None).await;
    becomes("its node rests", NOBODY).await;
    consul.api(Method::PUT, &node(false), None).await;
    becomes("its node is back", "one").await;
}

/// Waits until the caller gets an answer.
async fn becomes(what: &str, expected: &str) {
    wait::until(what, PATIENCE, async || {
        let answer = answer().await?;
        if answer == expected {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}

/// Waits until the caller gets an answer and no other, as often as asked.
async fn stays(what: &str, expected: &str) {
    wait::until(what, PATIENCE, async || {
        for _ in 0..20 {
            let answer = answer().await?;
            if answer != expected {
                return Err(answer);
            }
        }
        Ok(())
    })
    .await;
}

/// Who answers, and whether proxies have touched the request; or the error that comes instead.
async fn answer() -> Result<String, String> {
    let reply = get(WEB, Protocol::Http1, "/").await;
    let reply = reply.map_err(|error| error.to_string())?;
    if reply.status != 200 {
        return Ok(format!("{} {}", reply.status.as_u16(), reply.text()));
    }
    let seen = Seen::from_reply(&reply)?;
    let touched = !seen.header("x-request-id").is_empty();
    Ok(match touched {
        true => seen.origin,
        false => format!("{}, untouched", seen.origin),
    })
}
