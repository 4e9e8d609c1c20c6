//! Watching: one blocking query kept running for everything that is wanted.

use crate::dns::{self, Families};
use crate::jwks;
use crate::knowledge::{ChainQuery, Fact, InstancesQuery, Knowledge, News, Origin, Topic};
use crate::publish::{SourceMetrics, Task};
use consul::agent::{AgentSelf, MeshGateway};
use consul::blocking::{Pacing, Rate, Watch, WatchEvent};
use consul::chain::ChainOverrides;
use consul::health::ServiceEntry;
use consul::xds::{CertificateWatch, GatewayCertificate};
use consul::{Client, Query};
use meridian_model::{SourceState, SourceStatus, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// How Consul is asked.
#[derive(Debug, Clone)]
pub struct ConsulOptions {
    /// Speed of blocking queries.
    pub pacing: Pacing,
    /// How often the agent is asked for what cannot be waited for: its default intention policy,
    /// which it only reads from its own configuration, and the list of datacenters.
    pub policy_poll: Duration,
    /// How often prepared queries are executed: nobody can wait for their answers to change.
    pub prepared_poll: Duration,
    /// Verdict where no intention matches. `None` asks the agent, which needs `agent:read`; an
    /// agent that refuses to say means deny.
    pub default_intention: Option<Verdict>,
}

impl Default for ConsulOptions {
    /// The policy changes with a reload of the agent; ten seconds later is soon enough. So
    /// it is for prepared queries, which Consul executes every 30 s for its Envoy: an instance
    /// that is gone costs connections until then.
    fn default() -> Self {
        Self {
            pacing: Pacing::default(),
            policy_poll: Duration::from_secs(10),
            prepared_poll: Duration::from_secs(10),
            default_intention: None,
        }
    }
}

/// Services that are neither sidecars nor gateways.
const ORDINARY: &str = "ServiceKind == \"\"";

/// Mesh gateways.
const MESH_GATEWAYS: &str = "ServiceKind == \"mesh-gateway\"";

/// Name of this source in statuses and metrics.
pub(crate) const CONSUL: &str = "consul";

/// More than one proxy's watches answer at once at start; a full queue only makes them wait.
const NEWS_QUEUE: usize = 256;

/// Everything being watched, and what has been learned from it.
pub(crate) struct Watching {
    client: Client,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
    running: BTreeMap<Topic, Task>,
    sender: mpsc::Sender<(Topic, News)>,
    receiver: mpsc::Receiver<(Topic, News)>,
    knowledge: Knowledge,
}

impl Watching {
    pub(crate) fn new(
        client: Client,
        options: ConsulOptions,
        metrics: Arc<dyn SourceMetrics>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(NEWS_QUEUE);
        Self {
            client,
            options,
            metrics,
            running: BTreeMap::new(),
            sender,
            receiver,
            knowledge: Knowledge::default(),
        }
    }

    fn start(&self, topic: Topic) -> Task {
        let (client, pacing) = (&self.client, self.options.pacing);
        match &topic {
            Topic::Registration(id) => self.follow(
                topic.clone(),
                client.agent_service(id),
                pacing,
                Fact::Registration,
            ),
            Topic::Roots => self.follow(topic, client.roots(), pacing, Fact::Roots),
            Topic::Leaf(service) => {
                self.follow(topic.clone(), client.leaf(service), pacing, Fact::Leaf)
            }
            Topic::Intentions(service) => {
                let (query, service) = (client.intentions_to(service), service.clone());
                self.follow(topic, query, pacing, move |value| {
                    let found = value.to(&service).unwrap_or_default();
                    Fact::Intentions(Arc::new(found.to_vec()))
                })
            }
            Topic::Agent => self.follow_agent(),
            Topic::Mesh => self.follow(topic, client.mesh_entry(), pacing, Fact::Mesh),
            Topic::Chain(query) => {
                let query = client.discovery_chain(&query.service, &overrides(query));
                self.follow(topic, query, pacing, Fact::Chain)
            }
            Topic::Instances(query) => {
                let query = instances(client, query);
                self.follow(topic, query, pacing, Fact::Instances)
            }
            Topic::Prepared(query) => {
                let mut asked = client.prepared_query(&query.name);
                if let Some(datacenter) = &query.datacenter {
                    asked = asked.datacenter(datacenter);
                }
                let pacing = self.polling(self.options.prepared_poll);
                self.follow(topic, asked, pacing, Fact::Prepared)
            }
            Topic::Checks(service) => {
                let query = client.agent_checks(service);
                self.follow(topic, query, self.polling(CHECKS_POLL), Fact::Checks)
            }
            Topic::Entry(kind, name) => {
                let query = client.config_entry(kind, name);
                self.follow(topic, query, pacing, Fact::Entry)
            }
            Topic::GatewayServices(gateway) => {
                let query = client.gateway_services(gateway);
                self.follow(topic, query, pacing, Fact::GatewayServices)
            }
            Topic::GatewayCertificate(id) => {
                let watch = client.gateway_certificate(id);
                self.spawn(topic.clone(), watch, Fact::GatewayCertificate)
            }
            Topic::Services => {
                let query = client.catalog_services().filter(ORDINARY);
                self.follow(topic, query, pacing, Fact::Services)
            }
            Topic::GatewayNames(datacenter) => {
                let query = client.catalog_services().datacenter(datacenter);
                self.follow(
                    topic.clone(),
                    query.filter(MESH_GATEWAYS),
                    pacing,
                    Fact::Services,
                )
            }
            Topic::FederationStates => {
                let query = client.mesh_gateways();
                self.follow(topic, query, pacing, Fact::FederationStates)
            }
            Topic::Datacenters => {
                let query = client.datacenters();
                self.follow(topic, query, self.polled(), Fact::Datacenters)
            }
            Topic::Resolvers => self.follow(topic, client.entries(), pacing, Fact::Resolvers),
            Topic::File(path) => {
                let (sender, path) = (self.sender.clone(), path.clone());
                Task::spawn(follow_file(topic, path, sender))
            }
            Topic::Addresses(name) => {
                let (name, sender) = (name.clone(), self.sender.clone());
                // As Consul has Envoy look: IPv6 only where there is nothing else.
                let families = Families::Ipv4thenIpv6;
                let letter = move |answer| (topic.clone(), News::of(answer));
                Task::spawn(dns::follow(name, families, sender, letter))
            }
            Topic::JwtProvider(name) => {
                let query = client.entry(name);
                self.follow(topic, query, pacing, Fact::JwtProvider)
            }
            Topic::Keys(origin) => {
                let (sender, metrics) = (self.sender.clone(), Arc::clone(&self.metrics));
                Task::spawn(jwks::follow(origin.clone(), sender, metrics))
            }
        }
    }

    fn follow<T>(
        &self,
        topic: Topic,
        query: Query<T>,
        pacing: Pacing,
        fact: impl Fn(Arc<T>) -> Fact + Send + 'static,
    ) -> Task
    where
        T: PartialEq + Send + Sync + 'static,
    {
        self.spawn(topic, query.watch(pacing), fact)
    }

    fn spawn<T>(
        &self,
        topic: Topic,
        watch: impl Events<T> + Send + 'static,
        fact: impl Fn(Arc<T>) -> Fact + Send + 'static,
    ) -> Task
    where
        T: Send + Sync + 'static,
    {
        let sender = self.sender.clone();
        Task::spawn(follow(topic, watch, sender, move |event| match event {
            WatchEvent::Changed { value, .. } => News::Learned(fact(value)),
            WatchEvent::Recovered { .. } => News::Recovered,
            WatchEvent::Failed { error, .. } => News::Failed(chain_of(&error)),
        }))
    }

    /// Asks once an interval.
    fn polling(&self, interval: Duration) -> Pacing {
        Pacing {
            changed: each(interval),
            unchanged: each(interval),
            ..self.options.pacing
        }
    }

    /// The pace of what the agent, or a catalog, is asked for now and then.
    fn polled(&self) -> Pacing {
        self.polling(self.options.policy_poll)
    }

    /// A token without `agent:read` is no outage: the policy then is to deny.
    fn follow_agent(&self) -> Task {
        let watch = self.client.agent_self().watch(self.polled());
        let sender = self.sender.clone();
        let mut warned = false;
        let read = move |event| match event {
            WatchEvent::Changed { value, .. } => News::Learned(Fact::Agent(value)),
            WatchEvent::Recovered { .. } => News::Recovered,
            WatchEvent::Failed { error, .. } if error.is_forbidden() => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        error = %chain_of(&error),
                        "the default intention policy cannot be read, so it is to deny"
                    );
                }
                News::Learned(Fact::Agent(Arc::new(AgentSelf::default())))
            }
            WatchEvent::Failed { error, .. } => News::Failed(chain_of(&error)),
        };
        Task::spawn(follow(Topic::Agent, watch, sender, read))
    }
}

impl Origin for Watching {
    fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        self.running.retain(|topic, _| wanted.contains(topic));
        self.knowledge.keep(wanted);
        for topic in wanted {
            if !self.running.contains_key(topic) {
                let task = self.start(topic.clone());
                self.running.insert(topic.clone(), task);
            }
        }
    }

    async fn learn(&mut self) {
        let mut next = self.receiver.recv().await;
        while let Some((topic, news)) = next {
            // Late news of a watch that was stopped since is left unread.
            if self.running.contains_key(&topic) {
                if matches!(news, News::Failed(_)) {
                    self.metrics.watch_failed(topic.kind());
                }
                self.knowledge.take(topic, news, SystemTime::now());
            }
            next = self.receiver.try_recv().ok();
        }
        let current = self.knowledge.state() == SourceState::Current;
        self.metrics.current(CONSUL, current);
    }

    fn status(&self) -> Option<SourceStatus> {
        Some(SourceStatus {
            name: CONSUL.into(),
            state: self.knowledge.state(),
        })
    }
}

/// What goes on telling of one thing.
trait Events<T> {
    fn next(&mut self) -> impl Future<Output = WatchEvent<T>> + Send;
}

impl<T: PartialEq + Send + Sync + 'static> Events<T> for Watch<T> {
    async fn next(&mut self) -> WatchEvent<T> {
        Self::next(self).await
    }
}

impl Events<Option<GatewayCertificate>> for CertificateWatch {
    async fn next(&mut self) -> WatchEvent<Option<GatewayCertificate>> {
        Self::next(self).await
    }
}

async fn follow<T, F>(
    topic: Topic,
    mut watch: impl Events<T>,
    sender: mpsc::Sender<(Topic, News)>,
    mut read: F,
) where
    T: Send + Sync + 'static,
    F: FnMut(WatchEvent<T>) -> News + Send,
{
    loop {
        let news = read(watch.next().await);
        if let News::Failed(reason) = &news {
            tracing::debug!(?topic, %reason, "watch failed");
        }
        if sender.send((topic.clone(), news)).await.is_err() {
            // Nobody listens any more.
            return;
        }
    }
}

/// The agent answers out of its own memory, and a check that is to be exposed fails until its port
/// is open.
const CHECKS_POLL: Duration = Duration::from_secs(2);

/// Certificates are replaced days before they end, so that seconds don't count; and a poll sees
/// what is swapped by symbolic link, as on Kubernetes' and Nomad's volumes.
const FILE_POLL: Duration = Duration::from_secs(2);

async fn follow_file(topic: Topic, path: PathBuf, sender: mpsc::Sender<(Topic, News)>) {
    let mut polls = tokio::time::interval(FILE_POLL);
    let mut last = None;
    loop {
        polls.tick().await;
        let read = tokio::fs::read(&path).await;
        let read = read.map_err(|error| format!("read {}: {error}", path.display()));
        if last.as_ref() == Some(&read) {
            continue;
        }
        let news = match read.clone() {
            Ok(bytes) => News::Learned(Fact::File(Arc::new(bytes))),
            Err(reason) => News::Failed(reason),
        };
        last = Some(read);
        if sender.send((topic.clone(), news)).await.is_err() {
            // Nobody listens any more.
            return;
        }
    }
}

fn each(interval: Duration) -> Rate {
    Rate { burst: 0, interval }
}

fn overrides(query: &ChainQuery) -> ChainOverrides {
    ChainOverrides {
        datacenter: query.datacenter.clone(),
        namespace: query.namespace.clone(),
        partition: query.partition.clone(),
        protocol: query.protocol.clone(),
        connect_timeout: query.connect_timeout,
        mesh_gateway: MeshGateway {
            mode: query.mesh_gateway.clone().unwrap_or_default(),
        },
    }
}

fn instances(client: &Client, query: &InstancesQuery) -> Query<Vec<ServiceEntry>> {
    let mut asked = if query.mesh {
        client.health_connect(&query.service)
    } else {
        client.health_service(&query.service)
    };
    if let Some(datacenter) = &query.datacenter {
        asked = asked.datacenter(datacenter);
    }
    if let Some(namespace) = &query.namespace {
        asked = asked.namespace(namespace);
    }
    if let Some(partition) = &query.partition {
        asked = asked.partition(partition);
    }
    if let Some(filter) = &query.filter {
        asked = asked.filter(filter);
    }
    asked
}

/// An error with its causes, in one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
