//! Mesh gateways: which a datacenter has, and how they are called from here.
//!
//! The catalog of the datacenter itself knows them best, so it is asked for their names and then
//! for each one's instances: what changes there is seen at once, and nothing has to travel through
//! the primary datacenter first, as federation states do.
//!
//! A gateway may be known to other datacenters by a host name, which is then resolved again and
//! again; all its addresses are called.

use crate::dns::Name;
use crate::knowledge::{InstancesQuery, Knowledge, Known, Topic};
use crate::translate::endpoint::{View, endpoints, health_and_weight, place};
use consul::health::ServiceEntry;
use meridian_model::{Endpoint, EndpointAddress, Health, Rejection};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A service may have ordinary instances under a gateway's name.
const GATEWAYS_ONLY: &str = "Service.Kind == \"mesh-gateway\"";

/// How often names are asked for again (`DnsRefreshRate` of Consul's Envoy).
const REFRESH: Duration = Duration::from_secs(10);

/// Everything to be followed for a datacenter's gateways, which are called from `home`.
pub(crate) fn wanted(knowledge: &Knowledge, datacenter: &str, home: &str) -> Vec<Topic> {
    let names = Topic::GatewayNames(datacenter.to_owned());
    let found = match knowledge.gateway_names(datacenter) {
        Known::Value(names) => names.keys().map(String::as_str).collect(),
        Known::Waiting | Known::Failed(_) => Vec::new(),
    };
    let instances = found.into_iter().map(|name| query(name, datacenter));
    let mut wanted: Vec<_> = std::iter::once(names)
        .chain(instances.map(Topic::Instances))
        .collect();
    if let Some(Ok(found)) = of(knowledge, datacenter) {
        wanted.extend(names_of(found, home));
    }
    wanted
}

/// The host names among the addresses of gateways, to be followed too.
pub(crate) fn names_of<'a>(
    gateways: impl IntoIterator<Item = &'a ServiceEntry>,
    home: &str,
) -> Vec<Topic> {
    let named = gateways.into_iter().filter_map(|one| name(one, home));
    named.map(|(name, _)| Topic::Addresses(name)).collect()
}

/// The host name and port of a gateway that has no IP address.
fn name(gateway: &ServiceEntry, home: &str) -> Option<(Name, u16)> {
    let (host, port) = place(gateway, Some(home));
    let named = !host.is_empty() && host.parse::<IpAddr>().is_err();
    named.then(|| (Name::new(host, REFRESH), port))
}

/// A datacenter's gateways: `None` while its catalog has not answered, an error where it cannot be
/// asked and nothing is known from before.
pub(crate) fn of<'a>(
    knowledge: &'a Knowledge,
    datacenter: &str,
) -> Option<Result<Vec<&'a ServiceEntry>, String>> {
    let names = match knowledge.gateway_names(datacenter) {
        Known::Value(names) => names,
        Known::Waiting => return None,
        Known::Failed(reason) => return Some(Err(reason.to_owned())),
    };
    let mut found = Vec::new();
    for name in names.keys() {
        match knowledge.instances(&query(name, datacenter)) {
            Known::Value(instances) => found.extend(instances),
            Known::Waiting => return None,
            Known::Failed(reason) => return Some(Err(reason.to_owned())),
        }
    }
    Some(Ok(found))
}

fn query(gateway: &str, datacenter: &str) -> InstancesQuery {
    InstancesQuery {
        service: gateway.to_owned(),
        mesh: false,
        datacenter: Some(datacenter.to_owned()),
        namespace: None,
        partition: None,
        filter: Some(GATEWAYS_ONLY.to_owned()),
    }
}

/// Gateways as endpoints, called from the datacenter `home`: those of others at their WAN address.
/// One whose name has no address yet is nobody to call.
///
/// A gateway that fails its checks is left alone while another one passes. Where all of them fail,
/// all are tried: a check runs every ten seconds, and a gateway that was started again would be
/// out of use until its next run.
pub(crate) fn as_endpoints<'a>(
    knowledge: &Knowledge,
    gateways: impl IntoIterator<Item = &'a ServiceEntry>,
    home: &str,
) -> (Arc<[Endpoint]>, Vec<Rejection>) {
    let view = View {
        only_passing: false,
        local_datacenter: Some(home),
    };
    let (named, addressed): (Vec<_>, Vec<_>) = gateways
        .into_iter()
        .partition(|gateway| name(gateway, home).is_some());
    let (found, mut rejected) = endpoints(addressed, view);
    let mut found = found.to_vec();
    for gateway in named {
        match resolved(knowledge, gateway, home) {
            Ok(resolved) => found.extend(resolved),
            Err(reason) => rejected.push(Rejection {
                resource: format!("instance {}", gateway.service.id),
                reason,
            }),
        }
    }
    if found.iter().all(|one| one.health == Health::Unhealthy) {
        for one in &mut found {
            one.health = Health::Healthy;
        }
    }
    (found.into(), rejected)
}

/// All that DNS says of a gateway's name; nothing before it has answered.
fn resolved(
    knowledge: &Knowledge,
    gateway: &ServiceEntry,
    home: &str,
) -> Result<Vec<Endpoint>, String> {
    let Some((name, port)) = name(gateway, home) else {
        return Ok(Vec::new());
    };
    let addresses = match knowledge.addresses(&name) {
        Known::Value(addresses) => addresses.as_slice(),
        Known::Waiting => &[],
        Known::Failed(reason) => {
            return Err(format!(
                "its address `{}` cannot be resolved: {reason}",
                name.host
            ));
        }
    };
    let (health, weight) = health_and_weight(gateway, false);
    let endpoints = addresses.iter().map(|ip| Endpoint {
        address: EndpointAddress::Tcp(SocketAddr::new(*ip, port)),
        weight,
        health,
        instance: gateway.service.id.as_str().into(),
    });
    Ok(endpoints.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::{Fact, News};
    use serde_json::{Value, json};
    use std::time::SystemTime;

    fn gateway(id: &str, status: &str) -> Value {
        json!({"Node": {"Address": "10.0.0.9", "Datacenter": "dc2"},
            "Service": {"ID": id, "Port": 8443, "TaggedAddresses": {
                "wan": {"Address": "1.2.3.4", "Port": 443}}},
            "Checks": [{"Status": status, "Output": "ran"}]})
    }

    fn learned(knowledge: &mut Knowledge, topic: Topic, fact: Fact) {
        knowledge.take(topic, News::Learned(fact), SystemTime::UNIX_EPOCH);
    }

    fn names(knowledge: &mut Knowledge, names: &[&str]) {
        let names = names.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let fact = Fact::Services(Arc::new(names.collect()));
        learned(knowledge, Topic::GatewayNames("dc2".to_owned()), fact);
    }

    #[test]
    fn names_are_asked_for_first_and_then_instances() {
        let mut knowledge = Knowledge::default();
        let all = Topic::GatewayNames("dc2".to_owned());
        assert_eq!(wanted(&knowledge, "dc2", "dc1"), std::slice::from_ref(&all));
        assert_eq!(of(&knowledge, "dc2"), None);
        names(&mut knowledge, &["east", "west"]);
        let instances = |name: &str| Topic::Instances(query(name, "dc2"));
        let expected = [all, instances("east"), instances("west")];
        assert_eq!(wanted(&knowledge, "dc2", "dc1"), expected);
        assert_eq!(of(&knowledge, "dc2"), None, "no instances yet");
        for name in ["east", "west"] {
            let found: Vec<ServiceEntry> =
                serde_json::from_value(json!([gateway(name, "passing")])).unwrap();
            learned(
                &mut knowledge,
                instances(name),
                Fact::Instances(Arc::new(found)),
            );
        }
        let found = of(&knowledge, "dc2").unwrap().unwrap();
        let ids: Vec<_> = found.iter().map(|one| one.service.id.as_str()).collect();
        assert_eq!(ids, ["east", "west"]);
    }

    #[test]
    fn a_catalog_that_refuses_is_an_error_and_an_empty_one_is_none() {
        let mut knowledge = Knowledge::default();
        let topic = Topic::GatewayNames("dc2".to_owned());
        knowledge.take(
            topic,
            News::Failed(crate::knowledge::Trouble::answer("forbidden")),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(of(&knowledge, "dc2"), Some(Err("forbidden".to_owned())));
        names(&mut knowledge, &[]);
        assert_eq!(of(&knowledge, "dc2"), Some(Ok(Vec::new())));
    }

    #[test]
    fn host_names_are_resolved_to_all_their_addresses() {
        let mut written = gateway("far", "passing");
        written["Service"]["TaggedAddresses"]["wan"]["Address"] = json!("gw.example");
        let found: Vec<ServiceEntry> = serde_json::from_value(json!([written])).unwrap();
        assert_eq!(
            names_of(&found, "dc2"),
            [],
            "its own datacenter has an address"
        );
        let topics = names_of(&found, "dc1");
        let mut knowledge = Knowledge::default();
        let called = |knowledge: &Knowledge| {
            let (endpoints, rejected) = as_endpoints(knowledge, &found, "dc1");
            let addresses = endpoints.iter().map(|one| one.address.to_string());
            (addresses.collect::<Vec<_>>(), rejected.len())
        };
        assert_eq!(called(&knowledge), (Vec::new(), 0), "not asked for yet");
        let [topic] = topics.as_slice() else {
            panic!("{topics:?}")
        };
        let failed = News::Failed(crate::knowledge::Trouble::answer("no such name"));
        knowledge.take(topic.clone(), failed, SystemTime::UNIX_EPOCH);
        assert_eq!(called(&knowledge), (Vec::new(), 1));
        let addresses = ["1.1.1.1", "2.2.2.2"].map(|ip| ip.parse().unwrap());
        let fact = Fact::Addresses(Arc::new(addresses.to_vec()));
        learned(&mut knowledge, topic.clone(), fact);
        let all = vec!["1.1.1.1:443".to_owned(), "2.2.2.2:443".to_owned()];
        assert_eq!(called(&knowledge), (all, 0));
    }

    #[test]
    fn failing_ones_are_left_alone_while_another_passes() {
        let seen = |gateways: &[(&str, &str)], home: &str| {
            let found = gateways.iter().map(|(id, status)| gateway(id, status));
            let found: Vec<ServiceEntry> =
                serde_json::from_value(found.collect::<Value>()).unwrap();
            let (endpoints, rejected) = as_endpoints(&Knowledge::default(), &found, home);
            assert_eq!(rejected, []);
            let seen = endpoints
                .iter()
                .map(|one| (one.address.to_string(), one.health == Health::Healthy));
            seen.collect::<Vec<_>>()
        };
        let far = |healthy| ("1.2.3.4:443".to_owned(), healthy);
        assert_eq!(
            seen(&[("a", "critical"), ("b", "passing")], "dc1"),
            [far(false), far(true)]
        );
        assert_eq!(
            seen(&[("a", "critical"), ("b", "critical")], "dc1"),
            [far(true), far(true)]
        );
        let near = ("10.0.0.9:8443".to_owned(), true);
        assert_eq!(seen(&[("a", "critical")], "dc2"), [near]);
    }
}
