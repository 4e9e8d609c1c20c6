//! `ValidateClusters` of the `mesh` entry, and what a route that leads to nobody does to others.

use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::process::Process;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};

/// Where the caller's sidecar offers the destination.
const API: u16 = 5001;

#[test]
fn a_route_to_nobody_answers_for_itself_at_meshd() {
    a_route_to_nobody_answers_for_itself(Kind::Meshd);
}

#[test]
fn a_route_to_nobody_answers_for_itself_at_envoy() {
    a_route_to_nobody_answers_for_itself(Kind::Envoy);
}

/// Consul has a cluster for every service that a router names, also where that does not exist.
fn a_route_to_nobody_answers_for_itself(kind: Kind) {
    isolated(&format!("route to nobody {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        let to_nobody = json!({"Match": {"HTTP": {"PathPrefix": "/ghost"}},
            "Destination": {"Service": "ghost"}});
        for entry in [
            json!({"Kind": "mesh", "ValidateClusters": true}),
            json!({"Kind": "service-defaults", "Name": "api", "Protocol": "http"}),
            json!({"Kind": "service-defaults", "Name": "ghost", "Protocol": "http"}),
            json!({"Kind": "service-router", "Name": "api", "Routes": [to_nobody]}),
        ] {
            consul.config_entry(entry).await;
        }
        let api = Service::new("api", 8001).sidecar(21001);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("api", API);
        consul.register(&api).await;
        consul.register(&caller).await;
        let _origin = Origin::start("api", api.port).await;
        let _sidecars = [
            Sidecar::start(world, Kind::Meshd, &api).await,
            Sidecar::start(world, kind, &caller).await,
        ];
        answers("/", 200).await;
        let reply = get(API, Protocol::Http1, "/ghost").await.expect("a reply");
        assert_eq!(reply.status, 503);
        assert_eq!(reply.text(), "no healthy upstream");
        answers("/", 200).await;
    });
}

/// What the field means to Envoy, with a table that names a cluster which is not there.
#[test]
fn only_with_it_envoy_refuses_the_table_of_a_missing_cluster() {
    isolated("missing cluster at Envoy", async |world| {
        let origin = Origin::start("api", 0).await;
        for (validate, expected) in [(false, [200, 503]), (true, [404, 404])] {
            let mut envoy = Envoy::start(world, &origin, validate).await;
            for (path, status) in ["/", "/ghost"].into_iter().zip(expected) {
                let reply = get(API, Protocol::Http1, path).await.expect("a reply");
                assert_eq!(reply.status, status, "{path} with {validate}");
            }
            envoy.0.kill();
        }
    });
}

/// An Envoy on a file: one cluster, and a table with a route to another one as well.
struct Envoy(Process);

impl Envoy {
    async fn start(world: &World, origin: &Origin, validate: bool) -> Self {
        let table = world.write("routes.json", &table(validate).to_string());
        let bootstrap = bootstrap(origin.address().port(), &table.display().to_string());
        let file = world.write("envoy.json", &bootstrap.to_string());
        let words = format!(
            "-c {} --concurrency 1 -l warn --disable-hot-restart",
            file.display()
        );
        let words: Vec<_> = words.split_whitespace().collect();
        let envoy = Self(world.spawn("envoy", &tools::envoy(), words));
        wait::until("Envoy answers", PATIENCE, async || {
            let reply = get(API, Protocol::Http1, "/").await;
            reply.map_err(|error| error.to_string())
        })
        .await;
        envoy
    }
}

fn table(validate: bool) -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "table", "validate_clusters": validate,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/ghost"}, "route": {"cluster": "ghost"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "api"}},
        ]}],
    }]})
}

fn bootstrap(origin: u16, table: &str) -> Value {
    let at = |port: u16| {
        let address = loopback(port).ip().to_string();
        json!({"socket_address": {"address": address, "port_value": port}})
    };
    let filters = "type.googleapis.com/envoy.extensions.filters";
    let http = json!({
        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "rds": {"route_config_name": "table", "config_source": {
            "path_config_source": {"path": table}, "resource_api_version": "V3"}},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{filters}.http.router.v3.Router")}}],
    });
    json!({"node": {"id": "one", "cluster": "one"}, "static_resources": {
        "listeners": [{"name": "in", "address": at(API),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}]}],
        "clusters": [{"name": "api", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": at(origin)}}]}]}}],
    }})
}

/// Waits until the caller's requests are answered so.
async fn answers(path: &str, status: u16) {
    wait::until(&format!("{status} for {path}"), PATIENCE, async || {
        let reply = get(API, Protocol::Http1, path).await;
        let seen = reply.map_err(|error| error.to_string())?.status;
        (seen == status)
            .then_some(())
            .ok_or_else(|| seen.to_string())
    })
    .await;
}
