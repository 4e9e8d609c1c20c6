//! A gateway's source: a blueprint, and wherever its backends are found.
//!
//! A generation is published once every backend has answered or failed; one that failed has no
//! endpoints and says why. A backend that was there before keeps its endpoints until its new ones
//! are known, so that a reload costs no request.

mod backend;
mod dns;

use crate::intent::Intent;
use crate::knowledge::{Knowledge, Origin, Topic};
use crate::publish::{Contents, Publisher, Source, SourceMetrics, Task, Waiting, announce};
use crate::watching::{ConsulOptions, Watching};
use backend::{Found, Mesh};
use consul::Client;
use dns::Names;
use meridian_model::{Discovery, Identity, Snapshot, SourceStatus};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Consul, as far as a gateway needs it.
pub struct Consul {
    /// The agent.
    pub client: Client,
    /// How it is asked.
    pub options: ConsulOptions,
    /// The gateway's own service, whose leaf is presented to the mesh. Without it, backends in
    /// the mesh are refused.
    pub service: Option<String>,
}

/// Runs the source on the current runtime. Without `consul`, backends in Consul are refused.
///
/// It ends when `intents` has no sender left; the last snapshot stays.
pub fn run(
    intents: watch::Receiver<Intent>,
    consul: Option<Consul>,
    metrics: Arc<dyn SourceMetrics>,
) -> Source {
    let (publisher, snapshots) = Publisher::new();
    let task = match consul {
        Some(consul) => {
            let gateway = Gateway {
                service: consul.service,
                consul: true,
            };
            let watching = Watching::new(consul.client, consul.options, Arc::clone(&metrics));
            Task::spawn(serve(gateway, intents, watching, metrics, publisher))
        }
        None => {
            let gateway = Gateway {
                service: None,
                consul: false,
            };
            let nothing = Nothing(Knowledge::default());
            Task::spawn(serve(gateway, intents, nothing, metrics, publisher))
        }
    };
    Source { snapshots, task }
}

/// Publishes what a gateway makes of its intents and of what its origin knows.
pub(crate) async fn serve(
    gateway: Gateway,
    mut intents: watch::Receiver<Intent>,
    mut origin: impl Origin,
    metrics: Arc<dyn SourceMetrics>,
    mut publisher: Publisher,
) {
    let mut names = Names::new(Arc::clone(&metrics));
    let mut waiting = Waiting::default();
    loop {
        let intent = intents.borrow_and_update().clone();
        origin.keep(&gateway.wanted(&intent, origin.knowledge()));
        names.keep(&dns::wanted(&intent.blueprint));
        let before = publisher.last();
        let own = intent.status.clone().into_iter();
        let sources: Vec<SourceStatus> = own.chain(origin.status()).chain(names.status()).collect();
        waiting.explain(&publisher, &sources);
        let published = match gateway.contents(&intent, origin.knowledge(), &names, &before) {
            Some(contents) => publisher.publish(contents, sources),
            None => publisher.refresh(sources),
        };
        if published {
            announce(&publisher, &before, &*metrics);
        }
        tokio::select! {
            changed = intents.changed() => if changed.is_err() { return },
            () = origin.learn() => {}
            () = names.learn() => {}
        }
    }
}

/// A gateway, as a function of what is known.
pub(crate) struct Gateway {
    /// Its own service.
    pub(crate) service: Option<String>,
    /// Whether there is a Consul, or something like it.
    pub(crate) consul: bool,
}

impl Gateway {
    /// Everything to be followed, given what is known so far.
    fn wanted(&self, intent: &Intent, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::new();
        for backend in &intent.blueprint.backends {
            let datacenter = self.datacenter(knowledge);
            wanted.extend(backend::wanted(&backend.discovery, knowledge, datacenter));
            if matches!(backend.discovery, Discovery::ConsulConnect(_))
                && let Some(service) = &self.service
            {
                wanted.insert(Topic::Leaf(service.clone()));
                wanted.insert(Topic::Roots);
            }
        }
        wanted
    }

    /// What to publish; `None` while a new backend has not answered.
    fn contents(
        &self,
        intent: &Intent,
        knowledge: &Knowledge,
        names: &Names,
        previous: &Snapshot,
    ) -> Option<Contents> {
        let mut contents = Contents::default();
        contents.rejected.extend(intent.rejected.clone());
        for listener in &intent.blueprint.listeners {
            let name = listener.name.clone();
            contents.listeners.insert(name, Arc::clone(listener));
        }
        let identity = self.service.as_ref().and_then(|service| {
            crate::translate::identity::known(knowledge, service, previous, &mut contents)
        });
        let view = backend::Sight {
            knowledge,
            names,
            consul: self.consul,
            mesh: self.mesh(knowledge, identity.as_deref()),
        };
        for backend in &intent.blueprint.backends {
            let name = &backend.cluster.name;
            match backend::find(backend, &view) {
                Found::Ready(cluster, rejected) => {
                    contents.cluster(cluster);
                    contents.rejected.extend(rejected);
                }
                Found::Waiting => {
                    let before = previous.clusters.get(name)?;
                    contents.clusters.insert(name.clone(), Arc::clone(before));
                }
                Found::Failed(reason) => {
                    // Without targets it answers 503, rather than with another service's bytes.
                    contents.cluster(backend.cluster.clone());
                    contents.reject(format!("backend {name}"), reason);
                }
            }
        }
        Some(contents)
    }

    fn mesh<'a>(&'a self, knowledge: &Knowledge, identity: Option<&'a Identity>) -> Mesh<'a> {
        let Some(service) = &self.service else {
            return Mesh::None;
        };
        let topics = [Topic::Leaf(service.clone()), Topic::Roots];
        match identity {
            Some(identity) => Mesh::Identity(identity),
            None if topics.iter().any(|topic| knowledge.waits_for(topic)) => Mesh::Waiting,
            None => Mesh::Failed,
        }
    }

    /// The gateway's datacenter is in its own leaf.
    fn datacenter<'a>(&self, knowledge: &'a Knowledge) -> &'a str {
        self.service
            .as_ref()
            .and_then(|service| knowledge.leaf(service))
            .and_then(|leaf| leaf.service_uri.split_once("/dc/"))
            .and_then(|(_, rest)| rest.split('/').next())
            .unwrap_or_default()
    }
}

/// The origin of a gateway without Consul: it never has news.
struct Nothing(Knowledge);

impl Origin for Nothing {
    fn knowledge(&self) -> &Knowledge {
        &self.0
    }

    fn keep(&mut self, _: &BTreeSet<Topic>) {}

    async fn learn(&mut self) {
        std::future::pending().await
    }

    fn status(&self) -> Vec<SourceStatus> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
