//! Properties of translation, over arbitrary chains, intentions and health answers:
//! never a panic, what is not understood denies or answers an error, and the rest
//! stays as it was. The promises that hold for any input are checked by
//! [`crate::fuzzing`]; here are those about what one stranger does to its neighbours.

use crate::chain::Traffic;
use crate::fuzzing::{authorized, listed, translated};
use meridian_model::intention::Decision;
use meridian_model::route::{Destination, PathMatch};
use meridian_model::{Route, RouteMatch};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Whatever an operator may have written, and some things that none would.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "web", "api", "*", "", "x-env", "/api", "/", "a b", "%", "(", "[a-z]+"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

fn path_conditions() -> impl Strategy<Value = Value> {
    let kind = select(vec!["PathExact", "PathPrefix", "PathRegex"]);
    vec((kind, word()), 0..2).prop_map(|pairs| {
        let pairs = pairs
            .into_iter()
            .map(|(kind, text)| (kind.to_owned(), json!(text)));
        Value::Object(pairs.collect())
    })
}

fn header_condition() -> impl Strategy<Value = Value> {
    let kind = select(vec!["Exact", "Prefix", "Suffix", "Regex"]);
    (word(), kind, word(), any::<bool>(), any::<bool>()).prop_map(
        |(name, kind, text, present, invert)| {
            json!({"Name": name, kind: text, "Present": present, "Invert": invert})
        },
    )
}

fn conditions() -> impl Strategy<Value = Value> {
    let methods = vec(select(vec!["GET", "get", "PUT", "A B", ""]), 0..2);
    let headers = vec(header_condition(), 0..3);
    (path_conditions(), headers, methods).prop_map(|(mut http, headers, methods)| {
        http["Header"] = json!(headers);
        http["Methods"] = json!(methods);
        http
    })
}

fn modifiers() -> impl Strategy<Value = Value> {
    (vec((word(), word()), 0..2), vec(word(), 0..2)).prop_map(|(set, remove)| {
        let set: Map<_, _> = set
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        json!({"Set": set, "Remove": remove})
    })
}

fn next_node() -> impl Strategy<Value = &'static str> {
    select(vec![
        "resolver:api",
        "resolver:db",
        "splitter:api",
        "router:api",
        "gone",
    ])
}

fn route() -> impl Strategy<Value = Value> {
    let words = select(vec!["5xx", "reset", "unknown-word", ""]);
    let destination = (modifiers(), modifiers(), word(), 0..5_u32, vec(words, 0..2));
    (conditions(), destination, next_node()).prop_map(|(http, destination, next)| {
        let (request, response, rewrite, retries, on) = destination;
        json!({
            "NextNode": next,
            "Definition": {
                "Match": {"HTTP": http},
                "Destination": {
                    "RequestHeaders": request, "ResponseHeaders": response,
                    "PrefixRewrite": rewrite, "NumRetries": retries, "RetryOn": on,
                },
            },
        })
    })
}

fn split() -> impl Strategy<Value = Value> {
    (-10.0..200.0_f32, modifiers(), next_node()).prop_map(|(weight, request, next)| {
        json!({"Weight": weight, "NextNode": next, "Definition": {"RequestHeaders": request}})
    })
}

/// A chain of a router, a splitter and two resolvers, wired anyhow.
fn chain() -> impl Strategy<Value = Value> {
    let protocol = select(vec!["http", "tcp", "grpc", "http2", "smoke signals", ""]);
    let nodes = (vec(route(), 0..6), vec(split(), 0..4));
    (protocol, next_node(), nodes, word()).prop_map(|(protocol, start, (routes, splits), kind)| {
        let resolver = |target: &str, others: &[&str]| {
            json!({"Type": "resolver", "Name": target, "Resolver": {
                "ConnectTimeout": "5s", "Target": target, "Failover": {"Targets": others},
            }})
        };
        json!({
            "ServiceName": "api", "Protocol": protocol, "StartNode": start,
            "Nodes": {
                "router:api": {"Type": "router", "Name": "api", "Routes": routes},
                "splitter:api": {"Type": "splitter", "Name": "api", "Splits": splits},
                "resolver:api": resolver("api", &["db", "gone"]),
                "resolver:db": resolver("db", &[]),
                "gone": {"Type": kind},
            },
            "Targets": {
                "api": {"ID": "api", "Service": "api", "Datacenter": "dc1", "SNI": "api.sni"},
                "db": {"ID": "db", "Service": "db", "Datacenter": "dc2",
                    "MeshGateway": {"Mode": kind}},
            },
        })
    })
}

fn intention() -> impl Strategy<Value = Value> {
    let action = select(vec!["allow", "deny", "maybe", ""]);
    let permission = (action.clone(), conditions())
        .prop_map(|(action, http)| json!({"Action": action, "HTTP": http}));
    let peer = prop_oneof![9 => Just(""), 1 => Just("cloud")];
    (word(), peer, action, vec(permission, 0..4)).prop_map(|(source, peer, action, permissions)| {
        json!({"SourceName": source, "SourceNS": "default", "SourcePeer": peer,
                "Action": action, "Permissions": permissions})
    })
}

fn instance() -> impl Strategy<Value = Value> {
    let status = select(vec!["passing", "warning", "critical", "maintenance", "odd"]);
    let address = select(vec!["10.0.0.1", "::1", "", "host.example", "10.0.0.256"]);
    (
        word(),
        address,
        0..=u16::MAX,
        vec(status, 0..3),
        -2..300_i32,
    )
        .prop_map(|(id, address, port, statuses, weight)| {
            let checks: Vec<_> = statuses.iter().map(|one| json!({"Status": one})).collect();
            json!({
                "Node": {"Node": "n", "Address": "10.9.9.9", "Datacenter": "dc1"},
                "Service": {"ID": id, "Address": address, "Port": port,
                    "Weights": {"Passing": weight, "Warning": 1}},
                "Checks": checks,
            })
        })
}

/// The routes of an HTTP chain.
fn routes(chain: &Value) -> Vec<Route> {
    let chain = serde_json::from_value(chain.clone()).expect("a chain of known shape");
    match translated(&chain, &[]).traffic {
        Traffic::Http(table) => table
            .hosts
            .into_iter()
            .flat_map(|host| host.routes)
            .collect(),
        Traffic::Tcp(_) => Vec::new(),
    }
}

proptest! {
    #[test]
    fn any_chain_answers_every_request(chain in chain(), instances in vec(instance(), 0..4)) {
        let chain = serde_json::from_value(chain).expect("a chain of known shape");
        let instances: Vec<_> = instances
            .into_iter()
            .filter_map(|one| serde_json::from_value(one).ok())
            .collect();
        translated(&chain, &instances);
    }

    /// A route that is not understood answers for what lies behind it, and the
    /// routes before it stay what they were.
    #[test]
    fn an_unknown_condition_touches_nothing_before_it(
        mut chain in chain(),
        at in any::<prop::sample::Index>(),
        depth in 0..3_usize,
    ) {
        chain["StartNode"] = json!("router:api");
        chain["Protocol"] = json!("http");
        let before = routes(&chain);
        let count = chain["Nodes"]["router:api"]["Routes"].as_array().map_or(0, Vec::len);
        prop_assume!(count > 0);
        let at = at.index(count);
        let place = ["/Definition", "/Definition/Match", "/Definition/Match/HTTP"][depth];
        let route = &mut chain["Nodes"]["router:api"]["Routes"][at];
        route.pointer_mut(place).expect("a part of the route")["Future"] = json!(true);
        let after = routes(&chain);
        if let Some(last) = after.get(at) {
            prop_assert_eq!(after.len(), at + 1);
            let failed = matches!(last.action.destination, Destination::Unroutable { status: 500, .. });
            prop_assert!(failed, "{:?}", last);
            prop_assert_eq!(&*last.matches, &RouteMatch::default());
            prop_assert_eq!(&last.matches.path, &PathMatch::Any);
            prop_assert_eq!(&after[..at], &before[..at]);
        } else {
            // An earlier one was not understood either.
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn any_intention_is_a_rule_in_its_place(written in vec(intention(), 0..5)) {
        let written: Vec<_> = written
            .into_iter()
            .map(|one| serde_json::from_value(one).expect("an intention of known shape"))
            .collect();
        authorized(&written);
    }

    #[test]
    fn an_intention_with_an_unknown_field_denies_and_no_other_changes(
        written in vec(intention(), 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let read = |written: &[Value]| -> Vec<consul::intention::Intention> {
            let one = |one: &Value| serde_json::from_value(one.clone());
            written.iter().map(|value| one(value).expect("an intention")).collect()
        };
        let mut written: Vec<_> = written
            .into_iter()
            .map(|mut one| {
                one["SourcePeer"] = json!("");
                one
            })
            .collect();
        let (before, _) = authorized(&read(&written));
        let at = at.index(written.len());
        written[at]["Future"] = json!({"anything": 1});
        let (mut after, rejected) = authorized(&read(&written));
        prop_assert!(!rejected.is_empty());
        prop_assert_eq!(&after.intentions[at].decision, &Decision::Deny);
        prop_assert_eq!(&after.intentions[at].source, &before.intentions[at].source);
        after.intentions[at] = before.intentions[at].clone();
        prop_assert_eq!(after, before);
    }

    #[test]
    fn any_health_answer_is_endpoints_or_rejections(instances in vec(instance(), 0..6)) {
        let instances: Vec<_> = instances
            .into_iter()
            .filter_map(|one| serde_json::from_value(one).ok())
            .collect();
        listed(&instances);
    }
}
