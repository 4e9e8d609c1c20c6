//! A whole sidecar: what it wants to know, and what it makes of it.

use super::central::{self, Obstacle};
use super::expose;
use super::extension::Extensions;
use super::extension::earlier::{self, Held};
use super::identity;
use super::inbound::{self, Around, inbound};
use super::intention::authorization;
use super::jwt;
use super::mesh;
use super::prepared::Prepared;
use super::upstream::{Caller, Destination, Upstream, listener_name, upstreams};
use crate::chain::{Called, Instances, gateway_datacenters, needs};
use crate::gateways;
use crate::knowledge::{InstancesQuery, Knowledge, Known, Topic};
use crate::publish::Contents;
use consul::agent::{AgentService, Proxy};
use consul::health::ServiceEntry;
use consul::intention::{Action, Intention};
use meridian_model::listener::HttpFilters;
use meridian_model::{Authorization, Snapshot, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Instances for Knowledge {
    fn instances(&self, query: &InstancesQuery) -> Known<'_, Vec<ServiceEntry>> {
        Self::instances(self, query)
    }

    fn gateways(&self, datacenter: &str, home: &str) -> Option<Result<Called, String>> {
        let found = gateways::of(self, datacenter)?;
        Some(found.map(|found| gateways::as_endpoints(self, found, home)))
    }
}

/// One sidecar, by the ID of its registration.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    /// ID of the proxy's registration.
    pub(crate) proxy: String,
    /// Verdict where no intention matches, if not what the agent says.
    pub(crate) default: Option<Verdict>,
}

impl Sidecar {
    /// Everything to be followed, given what is known so far.
    pub(crate) fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::from([Topic::Registration(self.proxy.clone()), Topic::Roots]);
        if self.default.is_none() {
            wanted.insert(Topic::Agent);
        }
        let Some((registration, proxy)) = self.registration(knowledge) else {
            return wanted;
        };
        let service = &proxy.destination_service_name;
        wanted.insert(Topic::Leaf(service.clone()));
        wanted.insert(Topic::Intentions(service.clone()));
        wanted.insert(Topic::Mesh);
        wanted.extend(central::wanted(service));
        if proxy.expose.checks {
            wanted.insert(Topic::Checks(proxy.destination_service_id.clone()));
        }
        if let Some(intentions) = knowledge.intentions(service) {
            wanted.extend(jwt::wanted(intentions, knowledge));
        }
        for upstream in upstreams(proxy).0 {
            let chain = match upstream.destination {
                Destination::Chain(chain) => chain,
                Destination::Prepared(prepared) => {
                    wanted.insert(Topic::Prepared(prepared.query));
                    continue;
                }
            };
            if let Known::Value(chain) = knowledge.chain(&chain) {
                let home = &registration.datacenter;
                wanted.extend(needs(chain, home).into_iter().map(Topic::Instances));
                for datacenter in gateway_datacenters(chain, home) {
                    wanted.extend(gateways::wanted(knowledge, datacenter, home));
                }
            }
            wanted.insert(Topic::Chain(chain));
        }
        wanted
    }

    /// What to publish; `None` while too little is known for a first generation.
    ///
    /// The first one waits for every upstream, so that a sidecar which is ready has all its
    /// listeners, and for every key that its intentions need, so that it refuses no good token. Later ones wait for nobody: an upstream that is not complete yet keeps its
    /// previous form, or is not there.
    pub(crate) fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let (registration, proxy) = self.registration(knowledge)?;
        let service = &proxy.destination_service_name;
        let mut contents = Contents::default();
        let (intentions, default) = self.rules(service, knowledge, &mut contents)?;
        let (providers, waits) = jwt::providers(intentions, knowledge);
        if waits && previous.generation == 0 {
            return None;
        }
        let mesh = mesh::known(knowledge, previous, &mut contents)?;
        let identity = identity::known(knowledge, service, previous, &mut contents)?;
        let trust_domain = identity.spiffe.trust_domain();

        let (rules, rejected) = authorization(intentions, trust_domain, default, &providers);
        contents.rejected.extend(rejected);
        let mut extensions = match central::extensions(registration, proxy, knowledge) {
            Ok(extensions) => extensions,
            Err(Obstacle::Waiting) => return None,
            Err(Obstacle::Refused(reason)) => Extensions::unknown(reason),
        };
        let held = Held::new(&mut extensions, previous);
        let resource = format!("proxy {}", registration.id);
        held.name(&resource, &extensions, &mut contents);
        let none = BTreeMap::new();
        let around = Around {
            mesh: &mesh,
            extensions,
            agent: knowledge
                .agent()
                .and_then(|agent| agent.member.addr.parse().ok()),
            checks: match knowledge.checks(&proxy.destination_service_id) {
                Known::Value(checks) => checks,
                // Nothing of them is exposed yet.
                Known::Waiting | Known::Failed(_) => &none,
            },
        };
        let rules = Arc::new(rules);
        match inbound(registration, proxy, &identity.name, &rules, around) {
            Ok(inbound) => contents.absorb(match held.closed {
                true => inbound::closed(inbound),
                false => inbound,
            }),
            Err(reason) => {
                contents.reject(resource, reason);
                keep_inbound(&mut contents, previous, &rules);
            }
        }
        let caller = Caller {
            identity: &identity.name,
            trust_domain,
            datacenter: &registration.datacenter,
            terms: &mesh.outgoing,
            filters: &HttpFilters::default(),
        };
        self.outbound(proxy, knowledge, &caller, &held, &mut contents)?;
        Some(contents)
    }

    /// Intentions, and the verdict where none matches. A token that may not read them leaves the
    /// upstreams to be served, and callers to be refused.
    fn rules<'a>(
        &self,
        service: &str,
        knowledge: &'a Knowledge,
        contents: &mut Contents,
    ) -> Option<(&'a [Intention], Verdict)> {
        if let Some(intentions) = knowledge.intentions(service) {
            let default = self.default.or_else(|| default_verdict(knowledge))?;
            return Some((intentions, default));
        }
        let reason = knowledge.lacks_right(&Topic::Intentions(service.to_owned()))?;
        contents.reject(
            format!("intentions of {service}"),
            format!("{reason}; nobody may call it"),
        );
        Some((&[], Verdict::Deny))
    }

    /// Adds the upstreams; `None` while a first generation has to wait for one.
    fn outbound(
        &self,
        proxy: &Proxy,
        knowledge: &Knowledge,
        caller: &Caller<'_>,
        held: &Held<'_>,
        contents: &mut Contents,
    ) -> Option<()> {
        let (found, rejected) = upstreams(proxy);
        contents.rejected.extend(rejected);
        for upstream in found {
            let resource = format!("upstream {}", upstream.label);
            let Some(filters) = held.outbound(&upstream.label) else {
                contents.reject(resource, "it has no earlier version to be served as");
                continue;
            };
            let caller = Caller {
                filters: &filters,
                ..*caller
            };
            match self.upstream(&upstream, knowledge, &caller) {
                Progress::Ready(ready) => contents.absorb(ready),
                Progress::Waiting if held.previous.generation == 0 => return None,
                Progress::Waiting => keep_upstream(contents, held.previous, &upstream.label),
                Progress::Failed(reason) => {
                    contents.reject(resource, reason);
                    keep_upstream(contents, held.previous, &upstream.label);
                }
            }
        }
        Some(())
    }

    fn registration<'a>(&self, knowledge: &'a Knowledge) -> Option<(&'a AgentService, &'a Proxy)> {
        let registration = knowledge.registration(&self.proxy)?;
        Some((registration, registration.proxy.as_ref()?))
    }

    fn upstream(
        &self,
        upstream: &Upstream,
        knowledge: &Knowledge,
        caller: &Caller<'_>,
    ) -> Progress {
        let chain = match &upstream.destination {
            Destination::Chain(chain) => chain,
            Destination::Prepared(prepared) => {
                return prepared_upstream(upstream, prepared, knowledge, caller);
            }
        };
        match knowledge.chain(chain) {
            Known::Waiting => Progress::Waiting,
            Known::Failed(reason) => Progress::Failed(format!("no discovery chain: {reason}")),
            Known::Value(chain) => match upstream.of_chain(chain, caller, knowledge) {
                Some(contents) => Progress::Ready(contents),
                None => Progress::Waiting,
            },
        }
    }
}

/// A query that cannot be executed finds nobody, as in Consul's Envoy, and is named.
fn prepared_upstream(
    upstream: &Upstream,
    prepared: &Prepared,
    knowledge: &Knowledge,
    caller: &Caller<'_>,
) -> Progress {
    match knowledge.prepared(&prepared.query) {
        Known::Waiting => Progress::Waiting,
        Known::Value(result) => {
            Progress::Ready(upstream.of_prepared(prepared, &result.nodes, caller))
        }
        Known::Failed(reason) => {
            let mut contents = upstream.of_prepared(prepared, &[], caller);
            contents.reject(
                format!("upstream {}", upstream.label),
                format!("the prepared query cannot be executed: {reason}"),
            );
            Progress::Ready(contents)
        }
    }
}

enum Progress {
    Ready(Contents),
    Waiting,
    Failed(String),
}

/// Verdict where no intention matches, as the agent says.
pub(crate) fn default_verdict(knowledge: &Knowledge) -> Option<Verdict> {
    Some(match knowledge.agent()?.default_intention() {
        Action::Allow => Verdict::Allow,
        Action::Deny | Action::Other => Verdict::Deny,
    })
}

/// Takes the inbound side over from the previous generation, under the rules of this one.
fn keep_inbound(contents: &mut Contents, previous: &Snapshot, rules: &Arc<Authorization>) {
    contents.scrape = previous.scrape;
    contents.access_log = previous.access_log.clone();
    if let Some(listener) = previous.listeners.get(inbound::LISTENER) {
        contents.listener(inbound::under(rules, listener));
    }
    if let Some((name, cluster)) = previous.clusters.get_key_value(inbound::CLUSTER) {
        contents.clusters.insert(name.clone(), Arc::clone(cluster));
    }
    earlier::keep_clusters(contents, previous);
    for (name, listener) in &previous.listeners {
        if name.as_str().starts_with(expose::PREFIX) {
            contents
                .listeners
                .insert(name.clone(), Arc::clone(listener));
        }
    }
    for (name, cluster) in &previous.clusters {
        if name.as_str().starts_with(expose::PREFIX) {
            contents.clusters.insert(name.clone(), Arc::clone(cluster));
        }
    }
}

fn keep_upstream(contents: &mut Contents, previous: &Snapshot, label: &str) {
    let name = listener_name(label);
    if let Some(listener) = previous.listeners.get(&name) {
        contents.listeners.insert(name, Arc::clone(listener));
    }
    keep_clusters(contents, previous, label);
}

/// Takes the clusters `LABEL` and `LABEL/…` over from the previous generation.
pub(crate) fn keep_clusters(contents: &mut Contents, previous: &Snapshot, label: &str) {
    for (name, cluster) in &previous.clusters {
        let rest = name.as_str().strip_prefix(label);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            contents.clusters.insert(name.clone(), Arc::clone(cluster));
        }
    }
}

#[cfg(test)]
mod tests;
