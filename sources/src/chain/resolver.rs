//! Resolvers: a cluster of a target and its failovers, each with its own SNI and identity.

use super::{Walk, balancing};
use crate::knowledge::{InstancesQuery, Known};
use crate::translate::endpoint::{View, endpoints};
use consul::chain::{CompiledChain, ResolverNode, Target as WrittenTarget};
use meridian_model::cluster::{MeshTransport, Target, Transport};
use meridian_model::identity::ServiceId;
use meridian_model::{Cluster, ClusterName, Endpoint, Health, SpiffeId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Instances that must be known before the chain can be translated.
pub(crate) fn needs(chain: &CompiledChain, datacenter: &str) -> Vec<InstancesQuery> {
    chain
        .targets
        .values()
        .filter(|target| obstacle(target, datacenter).is_none())
        .map(|target| query(target, datacenter))
        .collect()
}

/// Datacenters whose mesh gateways stand before targets.
pub(crate) fn gateway_datacenters<'a>(
    chain: &'a CompiledChain,
    datacenter: &'a str,
) -> BTreeSet<&'a str> {
    let targets = chain.targets.values();
    targets
        .filter_map(|target| gateways_of(target, datacenter).ok().flatten())
        .collect()
}

/// Why a target cannot be reached from here.
fn obstacle(target: &WrittenTarget, datacenter: &str) -> Option<String> {
    if !target.peer.is_empty() {
        return Some(format!("it lies in cluster peer `{}`", target.peer));
    }
    gateways_of(target, datacenter).err()
}

/// The datacenter whose mesh gateways are dialled in place of a target; `None` where the target
/// itself is. A target of the own datacenter always is.
fn gateways_of<'a>(
    target: &'a WrittenTarget,
    datacenter: &'a str,
) -> Result<Option<&'a str>, String> {
    let remote = !target.datacenter.is_empty() && target.datacenter != datacenter;
    match target.mesh_gateway.mode.as_str() {
        _ if !remote || target.external => Ok(None),
        "" | "none" => Ok(None),
        "local" => Ok(Some(datacenter)),
        "remote" => Ok(Some(&target.datacenter)),
        mode => Err(format!("mesh gateway mode `{mode}` is not known")),
    }
}

/// Mesh gateways in place of a target's instances. They can be healthy only while one of those
/// is, for nobody but the target's datacenter looks behind them.
fn behind_gateways(gateways: &[Endpoint], instances: &[Endpoint]) -> Arc<[Endpoint]> {
    let alive = instances.iter().any(|one| one.health == Health::Healthy);
    let seen = |gateway: &Endpoint| Endpoint {
        health: if alive {
            gateway.health
        } else {
            Health::Unhealthy
        },
        ..gateway.clone()
    };
    gateways.iter().map(seen).collect()
}

fn query(target: &WrittenTarget, datacenter: &str) -> InstancesQuery {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    // Consul without Enterprise refuses these parameters, even where they say the default.
    let named = |text: &String| some(text).filter(|text| text != "default");
    InstancesQuery {
        service: target.service.clone(),
        mesh: true,
        datacenter: some(&target.datacenter).filter(|home| home != datacenter),
        namespace: named(&target.namespace),
        partition: named(&target.partition),
        filter: some(&target.subset.filter),
    }
}

impl<'a> Walk<'a> {
    /// The cluster of a resolver, made on the first visit.
    pub(super) fn resolver(&mut self, key: &str, node: &ResolverNode) -> ClusterName {
        let label = self.setting.label;
        let name = if key == self.chain.start_node {
            ClusterName::from(label)
        } else {
            ClusterName::from(format!("{label}/{}", node.name))
        };
        if !self.clusters.contains_key(&name) {
            let cluster = self.cluster(name.clone(), node);
            self.clusters.insert(name.clone(), cluster);
        }
        name
    }

    fn cluster(&mut self, name: ClusterName, node: &ResolverNode) -> Cluster {
        self.name_preferences(node);
        let failover = node.failover.iter().flat_map(|failover| &failover.targets);
        let mut targets = Vec::new();
        for id in std::iter::once(&node.target).chain(failover) {
            match self.target(id) {
                Ok(target) => targets.push(Arc::new(target)),
                Err(reason) => self.reject(format!("target `{id}` is left out: {reason}")),
            }
        }
        let mut cluster = Cluster::new(name, self.protocol, targets);
        cluster.limits = self.setting.limits;
        cluster.outlier = self.setting.outlier;
        if let Some(timeout) = node.connect_timeout {
            cluster.connect_timeout = timeout;
        }
        if let Some(written) = &node.load_balancer {
            match balancing(written) {
                Ok(balancing) => cluster.balancing = balancing,
                Err(reason) => self.reject(format!("{reason}; requests go round robin")),
            }
        }
        cluster
    }

    /// Names what only Enterprise accepts and is not honoured: an order by distance. The order that
    /// was written holds.
    fn name_preferences(&mut self, node: &ResolverNode) {
        let policy = node
            .failover
            .as_ref()
            .and_then(|failover| failover.policy.as_ref());
        if let Some(policy) = policy
            && !matches!(policy.mode.as_str(), "" | "sequential")
        {
            self.reject(format!(
                "Failover.Policy.Mode `{}` is not honoured: targets are tried in their written order",
                policy.mode
            ));
        }
        let target = self.chain.targets.get(&node.target);
        let preference = target.and_then(|target| target.prioritize_by_locality.as_ref());
        if let Some(preference) = preference
            && !matches!(preference.mode.as_str(), "" | "none")
        {
            self.reject(format!(
                "PrioritizeByLocality `{}` is not honoured: all instances are alike",
                preference.mode
            ));
        }
    }

    fn through_gateways(&mut self, datacenter: &str, instances: &[Endpoint]) -> Arc<[Endpoint]> {
        let home = self.setting.datacenter;
        let (gateways, rejected) = match self.instances.gateways(datacenter, home) {
            Some(Ok(found)) => found,
            // Nobody to call yet.
            None => Default::default(),
            Some(Err(reason)) => {
                self.reject(format!(
                    "mesh gateways of datacenter `{datacenter}` cannot be listed: {reason}"
                ));
                Default::default()
            }
        };
        self.rejected.extend(rejected);
        behind_gateways(&gateways, instances)
    }

    fn target(&mut self, id: &str) -> Result<Target, String> {
        let target = self.chain.targets.get(id).ok_or("it is not in the chain")?;
        if let Some(reason) = obstacle(target, self.setting.datacenter) {
            return Err(reason);
        }
        let view = View {
            only_passing: target.subset.only_passing,
            local_datacenter: Some(self.setting.datacenter),
        };
        let found = self
            .instances
            .instances(&query(target, self.setting.datacenter));
        let (endpoints, rejected) = match found {
            Known::Value(instances) => endpoints(instances, view),
            // Nobody to call yet; the next target of the failover order is used.
            Known::Waiting => (Arc::default(), Vec::new()),
            Known::Failed(reason) => {
                self.reject(format!(
                    "instances of target `{id}` are not known: {reason}"
                ));
                (Arc::default(), Vec::new())
            }
        };
        self.rejected.extend(rejected);
        let endpoints = match gateways_of(target, self.setting.datacenter)? {
            None => endpoints,
            Some(datacenter) => self.through_gateways(datacenter, &endpoints),
        };
        let service = ServiceId {
            partition: or_default(&target.partition),
            namespace: or_default(&target.namespace),
            datacenter: target.datacenter.clone(),
            service: target.service.clone(),
        };
        Ok(Target {
            name: id.into(),
            transport: Transport::Mesh(MeshTransport {
                identity: self.setting.identity.clone(),
                trust_domain: self.setting.trust_domain.clone(),
                sni: target.sni.as_str().into(),
                expected: vec![SpiffeId::service_of(self.setting.trust_domain, &service)],
                terms: self.setting.terms.clone(),
            }),
            endpoints,
        })
    }
}

fn or_default(text: &str) -> String {
    if text.is_empty() { "default" } else { text }.to_owned()
}
