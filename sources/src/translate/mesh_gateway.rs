//! A mesh gateway: bytes of the mesh pass by the name in their handshake, to the services of its
//! own datacenter, or to the gateways of another. It holds no key and reads nothing.

use super::endpoint::{View, endpoints};
use super::inbound::TCP_IDLE;
use super::sni_gateway::{self, SniGateway, place, plain_cluster};
use crate::knowledge::{Knowledge, Known, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::entry::ServiceResolver;
use meridian_model::sni::{SniAction, SniChain, SniName};
use meridian_model::{Snapshot, UpstreamProtocol};
use std::collections::BTreeSet;

/// A mesh gateway.
#[derive(Debug, Clone)]
pub(crate) struct MeshGateway(pub(crate) SniGateway);

impl Role for MeshGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::from([
            Topic::Registration(self.0.name.clone()),
            Topic::Roots,
            Topic::Services,
            Topic::MeshGateways,
            Topic::Resolvers,
        ]);
        for place in places(knowledge) {
            wanted.insert(Topic::Instances(place.query(true)));
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let datacenter = &knowledge.registration(&self.0.name)?.datacenter;
        let trust_domain = &knowledge.roots()?.trust_domain;
        let gateways = knowledge.mesh_gateways()?;
        knowledge.services()?;
        knowledge.resolvers()?;
        let mut contents = Contents::default();
        let mut chains = Vec::new();
        for place in places(knowledge) {
            let found = match knowledge.instances(&place.query(true)) {
                Known::Value(found) => found.as_slice(),
                Known::Waiting if previous.generation == 0 => return None,
                // Nobody to call yet.
                Known::Waiting | Known::Failed(_) => &[],
            };
            let view = View {
                only_passing: place.only_passing,
                local_datacenter: None,
            };
            let (endpoints, rejected) = endpoints(found, view);
            contents.rejected.extend(rejected);
            let names = place.names(datacenter, trust_domain);
            let label = place.label();
            contents.cluster(plain_cluster(&label, UpstreamProtocol::Tcp, endpoints));
            chains.push(passthrough(names, &label));
        }
        for (remote, found) in gateways.iter().filter(|(name, _)| *name != datacenter) {
            let view = View {
                only_passing: false,
                local_datacenter: Some(datacenter),
            };
            let (endpoints, rejected) = endpoints(found, view);
            contents.rejected.extend(rejected);
            let label = format!("dc/{remote}");
            contents.cluster(plain_cluster(&label, UpstreamProtocol::Tcp, endpoints));
            let suffix = format!(".{remote}.internal.{trust_domain}").to_ascii_lowercase();
            chains.push(passthrough(vec![SniName::Suffix(suffix)], &label));
        }
        contents.listener(sni_gateway::listener(self.0.address, chains));
        Some(contents)
    }
}

/// Services and their subsets. A service that only a resolver names has no instances here.
fn places(knowledge: &Knowledge) -> Vec<place::Place> {
    let (Some(services), Some(resolvers)) = (knowledge.services(), knowledge.resolvers()) else {
        return Vec::new();
    };
    let resolver = |service: &str| -> Option<&ServiceResolver> {
        resolvers.iter().find(|resolver| resolver.name == service)
    };
    let services = services.keys().filter(|name| *name != CONSUL);
    services
        .flat_map(|service| place::of_service(service, resolver(service)))
        .collect()
}

/// The servers' own service, which is no part of the mesh.
const CONSUL: &str = "consul";

fn passthrough(names: Vec<SniName>, cluster: &str) -> SniChain {
    SniChain {
        names,
        action: SniAction::Passthrough {
            cluster: cluster.into(),
            idle_timeout: Some(TCP_IDLE),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::{Fact, News};
    use consul::agent::Roots;
    use meridian_model::Service;
    use serde_json::json;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn gateway() -> MeshGateway {
        MeshGateway(SniGateway {
            name: "mgw".to_owned(),
            address: "10.0.0.1:8443".parse().unwrap(),
        })
    }

    /// Answers to everything that is wanted, again and again.
    fn known() -> Knowledge {
        let mut knowledge = Knowledge::default();
        for _ in 0..3 {
            for topic in gateway().wanted(&knowledge) {
                let fact = match &topic {
                    Topic::Registration(_) => Fact::Registration(Arc::new(
                        serde_json::from_value(json!({"ID": "mgw", "Datacenter": "dc1"})).unwrap(),
                    )),
                    Topic::Roots => Fact::Roots(Arc::new(Roots {
                        trust_domain: "td".to_owned(),
                        ..Roots::default()
                    })),
                    Topic::Services => Fact::Services(Arc::new(
                        ["consul", "web"]
                            .map(|name| (name.to_owned(), Vec::new()))
                            .into(),
                    )),
                    Topic::MeshGateways => Fact::MeshGateways(Arc::new(
                        serde_json::from_value(json!({"dc1": [], "dc2": [
                            {"Node": {"Address": "10.0.9.9", "Datacenter": "dc2"},
                             "Service": {"ID": "mgw", "Port": 8443, "TaggedAddresses": {
                                "wan": {"Address": "1.2.3.4", "Port": 443}}}}]}))
                        .unwrap(),
                    )),
                    Topic::Resolvers => Fact::Resolvers(Arc::new(
                        serde_json::from_value(json!([{"Name": "web", "Subsets": {"v1": {}}}]))
                            .unwrap(),
                    )),
                    Topic::Instances(_) => Fact::Instances(Arc::new(
                        serde_json::from_value(json!([
                            {"Node": {"Address": "10.0.0.5", "Datacenter": "dc1"},
                             "Service": {"ID": "web-1", "Port": 21000}}]))
                        .unwrap(),
                    )),
                    other => panic!("{other:?} is wanted"),
                };
                knowledge.take(topic, News::Learned(fact), SystemTime::UNIX_EPOCH);
            }
        }
        knowledge
    }

    #[test]
    fn passes_services_subsets_and_other_datacenters_on_by_name() {
        let contents = gateway()
            .contents(&known(), &Snapshot::default())
            .expect("everything has answered");
        assert_eq!(contents.rejected, []);
        let listener = contents.listeners.values().next().unwrap();
        let Service::BySni(service) = &listener.service else {
            panic!("{listener:?}")
        };
        let led = |chain: &SniChain| match &chain.action {
            SniAction::Passthrough { cluster, .. } => {
                let target = &contents.clusters[cluster].targets[0];
                (chain.names.clone(), target.endpoints[0].address.to_string())
            }
            SniAction::Terminate { .. } => panic!("{chain:?}"),
        };
        let led: Vec<_> = service.chains.iter().map(led).collect();
        let exact = |name: &str| vec![SniName::Exact(name.to_owned())];
        let near = "10.0.0.5:21000".to_owned();
        let expected = [
            (exact("web.default.dc1.internal.td"), near.clone()),
            (exact("v1.web.default.dc1.internal.td"), near),
            (
                vec![SniName::Suffix(".dc2.internal.td".to_owned())],
                "1.2.3.4:443".to_owned(),
            ),
        ];
        assert_eq!(led, expected);
    }

    #[test]
    fn nothing_is_said_before_all_has_answered() {
        let contents = gateway().contents(&Knowledge::default(), &Snapshot::default());
        assert_eq!(contents, None);
    }
}
