//! Two federated datacenters: gateways in every mode, failover and return,
//! redirects, and what is lost when one of them is cut off.
//!
//! Applications behind a gateway are registered at 127.0.0.1, so that nothing but
//! the gateway beside them can reach them.

mod http2;
mod stage;

use std::rc::Rc;
use std::time::Duration;

use http::Method;
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::datacenter::{FAR, FAR_ADDRESS, Federation, NEAR, NEAR_ADDRESS, Site};
use meridian_tests::load::{Load, Plan, Target};
use meridian_tests::mesh_gateway::{self, MeshGateway};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{isolated, open_connections};
use serde_json::{Value, json};
use stage::{Callee, answers, caller, caller_of, everything_speaks_http, replicated, serve};

/// Where callers find what lies behind their own datacenter's gateway, behind the
/// other's, and what needs none.
const BY_LOCAL: u16 = 5001;
const BY_REMOTE: u16 = 5002;
const DIRECT: u16 = 5003;
/// Added to these at the Envoy that calls too.
const ENVOY: u16 = 10;

/// Two settings that both ends of a handshake must get right.
fn rsa() -> Value {
    json!({"connect": {"enabled": true, "ca_config": {
        "private_key_type": "rsa", "private_key_bits": 2048}}})
}

#[test]
fn gateways_carry_every_mode_under_an_rsa_authority() {
    gateways_carry(Kind::Meshd, Kind::Meshd, rsa());
}

#[test]
fn gateways_carry_every_mode_from_an_envoy() {
    gateways_carry(Kind::Envoy, Kind::Meshd, json!({}));
}

#[test]
fn gateways_carry_every_mode_to_an_envoy() {
    gateways_carry(Kind::Meshd, Kind::Envoy, json!({}));
}

fn gateways_carry(near: Kind, far: Kind, settings: Value) {
    isolated(
        &format!("gateways {near:?} to {far:?}"),
        async move |world| {
            let federation = Federation::start(world, settings).await;
            everything_speaks_http(&federation).await;
            let _far = federation
                .far
                .within(async move |site: Rc<Site>| {
                    let (world, consul) = (&site.world, site.consul());
                    let callees = [
                        serve(world, consul, &Callee::new("by-local", 1), Kind::Meshd).await,
                        serve(world, consul, &Callee::new("by-remote", 2), Kind::Envoy).await,
                        serve(
                            world,
                            consul,
                            &Callee::new("direct", 3).at(FAR_ADDRESS),
                            Kind::Meshd,
                        )
                        .await,
                    ];
                    (
                        callees,
                        MeshGateway::start(world, far, FAR_ADDRESS, &[]).await,
                    )
                })
                .await;
            let mut gateway = MeshGateway::start(world, near, NEAR_ADDRESS, &[]).await;
            let modes = [
                ("by-local", "local", BY_LOCAL),
                ("by-remote", "remote", BY_REMOTE),
                ("direct", "none", DIRECT),
            ];
            let _callers = [
                caller(world, &federation.consul, Kind::Meshd, &modes, 0).await,
                caller(world, &federation.consul, Kind::Envoy, &modes, ENVOY).await,
            ];
            for offset in [0, ENVOY] {
                for (name, _, port) in modes {
                    answers(port + offset, name).await;
                }
            }
            gateway.process.kill();
            for offset in [0, ENVOY] {
                let status = get(BY_LOCAL + offset, Protocol::Http1, "/").await;
                assert_eq!(
                    status.expect("an answer").status,
                    503,
                    "its gateway is gone"
                );
                answers(BY_REMOTE + offset, "by-remote").await;
            }
            gateway.restart(world).await;
            for offset in [0, ENVOY] {
                answers(BY_LOCAL + offset, "by-local").await;
            }
        },
    );
}

#[test]
fn failover_crosses_and_returns_and_redirects_follow_the_real_health() {
    const API: u16 = 5001;
    const MOVED: u16 = 5002;
    isolated("failover", async |world| {
        let federation = Federation::start(world, json!({})).await;
        let consul = &federation.consul;
        everything_speaks_http(&federation).await;
        consul
            .config_entry(
                json!({"Kind": "service-defaults", "Name": "api", "Protocol": "http",
                "MeshGateway": {"Mode": "remote"}}),
            )
            .await;
        consul
            .config_entry(json!({"Kind": "service-resolver", "Name": "api",
                "Subsets": {"v2": {"Filter": "Service.Meta.version == v2"}},
                "Failover": {"*": {"Datacenters": [FAR]}}}))
            .await;
        consul
            .config_entry(
                json!({"Kind": "service-resolver", "Name": "moved", "Redirect": {
                "Service": "api", "ServiceSubset": "v2", "Datacenter": FAR}}),
            )
            .await;
        replicated(&federation, "service-resolver", 2).await;
        let mut far = federation
            .far
            .within(async move |site: Rc<Site>| {
                let callee = Callee::new("api", 1).version("v2").called("api-far");
                let callee = serve(&site.world, site.consul(), &callee, Kind::Meshd).await;
                let gateway = MeshGateway::start(&site.world, Kind::Meshd, FAR_ADDRESS, &[]).await;
                (callee, gateway)
            })
            .await;
        let near = Callee::new("api", 1).called("api-near");
        let mut near = serve(world, consul, &near, Kind::Meshd).await;
        let modes = [("api", "", API), ("moved", "", MOVED)];
        let _caller = caller_of(world, consul, Kind::Meshd, &modes, 0, None, json!({})).await;
        answers(API, "api-near").await;
        answers(MOVED, "api-far").await;

        near.sidecar.process.kill();
        consul.passing("api", 0).await;
        answers(API, "api-far").await;
        near.sidecar = Sidecar::start(world, Kind::Meshd, &near.service).await;
        answers(API, "api-near").await;

        // The gateway is well; what is behind it is not.
        far.0.sidecar.process.kill();
        wait::until("the real health", PATIENCE, async || {
            let reply = get(MOVED, Protocol::Http1, "/").await;
            let reply = reply.map_err(|error| error.to_string())?;
            let known = reply.status == 503 && reply.text() == "no healthy upstream";
            known.then_some(()).ok_or_else(|| reply.text())
        })
        .await;
        answers(API, "api-near").await;
    });
}

/// Requests a second while a datacenter is cut off.
const RATE: u32 = 40;
/// How long a connection may take there.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a request may take there.
const PATIENCE_OF_REQUESTS: Duration = Duration::from_secs(3);

/// What may be lost, and why: requests that were sent, or were about to be, on a
/// connection that was open when the link was cut. Nobody can tell whether they
/// arrived before their time is up, and the caller asked for no second try. They
/// are at most as many as the connections, since an HTTP/1.1 connection carries
/// one request at a time. All others need a new connection, which does not come
/// about, so that nothing was sent and the next target is asked.
#[test]
fn a_datacenter_that_is_cut_off_loses_only_what_was_on_its_way() {
    const API: u16 = 5001;
    isolated("cut off", async |world| {
        let federation = Federation::start(world, json!({})).await;
        let consul = &federation.consul;
        everything_speaks_http(&federation).await;
        consul
            .config_entry(json!({"Kind": "service-resolver", "Name": "api",
                "ConnectTimeout": format!("{}s", CONNECT.as_secs()),
                "RequestTimeout": format!("{}s", PATIENCE_OF_REQUESTS.as_secs()),
                "Failover": {"*": {"Targets": [{"Datacenter": NEAR}]}}}))
            .await;
        replicated(&federation, "service-resolver", 1).await;
        let _far = federation
            .far
            .within(async move |site: Rc<Site>| {
                let callee = Callee::new("api", 1).called("api-far");
                let callee = serve(&site.world, site.consul(), &callee, Kind::Meshd).await;
                let gateway = MeshGateway::start(&site.world, Kind::Meshd, FAR_ADDRESS, &[]).await;
                (callee, gateway)
            })
            .await;
        let near = Callee::new("api", 1).called("api-near");
        let near = serve(world, consul, &near, Kind::Meshd).await;
        let modes = [("api", "remote", API)];
        let ejection = json!({"passive_health_check": {"BaseEjectionTime": 2_000_000_000_u64}});
        let caller = caller_of(world, consul, Kind::Meshd, &modes, 0, Some(FAR), ejection).await;
        answers(API, "api-far").await;

        let plan = Plan {
            rate: RATE,
            authority: "api.example".to_owned(),
            path: "/".to_owned(),
        };
        let load = Load::start(plan, vec![Target::new(loopback(API), caller.admin)]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(near.origin.requests(), 0, "nobody needs it yet");
        federation.cut().await;
        let open = federation
            .far
            .within(async |_: Rc<Site>| open_connections(mesh_gateway::PORT))
            .await;
        wait::holds("the other target is asked", PATIENCE, async || {
            near.origin.requests() > u64::from(RATE)
        })
        .await;
        // Long enough for every request that was on its way to be given up.
        tokio::time::sleep(PATIENCE_OF_REQUESTS).await;
        federation.mend().await;
        answers(API, "api-far").await;
        let report = load.stop().await;

        let timeouts = report.statuses.get(&504).copied().unwrap_or_default();
        assert_eq!(report.lost(), timeouts, "nothing else is lost: {report:#?}");
        assert!(
            timeouts <= open as u64,
            "{open} connections were open: {report:#?}"
        );
        // A new connection is tried for its time, and then one at the other target; the machine may
        // be busy.
        let longest = PATIENCE_OF_REQUESTS + CONNECT * 3;
        assert!(report.slowest < longest, "{report:#?}");
    });
}

#[test]
fn servers_federate_through_gateways_alone() {
    isolated("federation through gateways", async |world| {
        let (federation, mut gateway) = Federation::through_gateways(world).await;
        written_in_both(&federation).await;
        gateway.process.kill();
        let path = format!("/v1/kv/without?dc={FAR}");
        let refused = federation
            .consul
            .try_api(Method::PUT, &path, Some(json!(1)))
            .await;
        assert!(refused.is_err(), "there is no other way: {refused:?}");
        gateway.restart(world).await;
        written_in_both(&federation).await;
    });
}

/// Writes a key into each datacenter from the other.
async fn written_in_both(federation: &Federation) {
    let path = |datacenter| format!("/v1/kv/key?dc={datacenter}");
    wait::until("a key in the other datacenter", PATIENCE, async || {
        let body = Some(json!(1));
        federation
            .consul
            .try_api(Method::PUT, &path(FAR), body)
            .await
    })
    .await;
    wait::until("a key in this datacenter", PATIENCE, async || {
        let path = path(NEAR);
        let there = async move |site: Rc<Site>| {
            site.consul()
                .try_api(Method::PUT, &path, Some(json!(1)))
                .await
        };
        federation.far.within(there).await
    })
    .await;
}
