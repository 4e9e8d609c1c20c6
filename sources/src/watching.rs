//! Watching: one blocking query kept running for everything that is wanted.

use crate::dns::{self, Families};
use crate::jwks;
use crate::knowledge::{ChainQuery, Fact, InstancesQuery, Knowledge, News, Origin, Topic, Trouble};
use crate::memory::{Kept, Memory, Shelf};
use crate::publish::{SourceMetrics, Task};
use consul::agent::{AgentSelf, MeshGateway};
use consul::blocking::{Pacing, Rate, Watch, WatchEvent};
use consul::chain::ChainOverrides;
use consul::health::ServiceEntry;
use consul::xds::{CertificateWatch, GatewayCertificate};
use consul::{Client, Meta, Query, Raw, Token};
use meridian_model::{SourceState, SourceStatus, StaleCause, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};

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
    /// What is kept for a start while Consul is away.
    pub memory: Option<Memory>,
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
            memory: None,
        }
    }
}

/// Services that are neither sidecars nor gateways.
const ORDINARY: &str = "ServiceKind == \"\"";

/// Mesh gateways.
const MESH_GATEWAYS: &str = "ServiceKind == \"mesh-gateway\"";

/// Name of this source in statuses and metrics.
pub(crate) const CONSUL: &str = "consul";

/// Name of what is known from the last run only.
const MEMORY: &str = "memory";

/// Between two looks at the token: all watches may find it refused at the same time.
const DOUBTS_APART: Duration = Duration::from_secs(1);

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
    /// Raised where the token seems to be refused.
    doubt: Arc<Notify>,
    /// Writes what is to be remembered.
    _writer: Option<Task>,
}

impl Watching {
    pub(crate) fn new(
        client: Client,
        options: ConsulOptions,
        metrics: Arc<dyn SourceMetrics>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(NEWS_QUEUE);
        let memory = options.memory.clone();
        Self {
            client,
            options,
            metrics,
            running: BTreeMap::new(),
            sender,
            receiver,
            knowledge: Knowledge::default(),
            doubt: Arc::default(),
            _writer: memory.map(|memory| Task::spawn(memory.write_forever())),
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
            Topic::Instances(query) => self.follow_instances(topic.clone(), query),
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
                let memory = self.options.memory.as_ref().zip(origin.request());
                let shelf = memory.map(|(memory, request)| memory.shelf(&topic, request));
                Task::spawn(jwks::follow(origin.clone(), sender, metrics, shelf))
            }
            Topic::Token => self.follow_token(),
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
        self.follow_with(topic, query, pacing, plain(fact))
    }

    /// Follows what is no query, and is not remembered.
    fn spawn<T>(
        &self,
        topic: Topic,
        watch: impl Events<T> + Send + 'static,
        fact: impl Fn(Arc<T>) -> Fact + Send + 'static,
    ) -> Task
    where
        T: Send + Sync + 'static,
    {
        let following = Following {
            topic,
            watch,
            kept: None,
            sender: self.sender.clone(),
            read: plain(fact),
        };
        Task::spawn(following.run())
    }

    /// As [`Self::follow`], where there is more to an answer than its fact.
    fn follow_with<T>(
        &self,
        topic: Topic,
        query: Query<T>,
        pacing: Pacing,
        read: impl FnMut(WatchEvent<T>) -> News + Send + 'static,
    ) -> Task
    where
        T: PartialEq + Send + Sync + 'static,
    {
        let watch = query.clone().watch(pacing);
        let memory = self.options.memory.as_ref();
        let following = Following {
            kept: memory.map(|memory| (memory.shelf(&topic, query.words()), query)),
            topic,
            watch,
            sender: self.sender.clone(),
            read,
        };
        Task::spawn(following.run())
    }

    /// Consul leaves out what a token may not see. A list that is empty for that reason is no
    /// news: what was known goes on being used, and the missing right is named.
    fn follow_instances(&self, topic: Topic, query: &InstancesQuery) -> Task {
        let service = query.service.clone();
        let read = move |event: WatchEvent<Vec<ServiceEntry>>| match event {
            WatchEvent::Changed { value, meta, .. }
                if meta.filtered_by_acls && value.is_empty() =>
            {
                News::Failed(Trouble {
                    cause: StaleCause::Rights,
                    reason: format!(
                        "the token hides all instances of `{service}`: it needs service:read on \
                         it and its sidecars, and node:read"
                    ),
                })
            }
            WatchEvent::Changed { value, .. } => News::Learned(Fact::Instances(value)),
            WatchEvent::Recovered { .. } => News::Recovered,
            WatchEvent::Failed { error, .. } => News::Failed(Trouble::of(&error)),
        };
        let query = instances(&self.client, query);
        self.follow_with(topic, query, self.options.pacing, read)
    }

    /// A revoked token shows at the next question, which may be a minute away while all watches
    /// wait for news; and some are answered from the agent's cache even then. So the token itself
    /// is asked for, at once where another answer makes it doubtful. An agent without ACLs says
    /// so, and is not asked again.
    fn follow_token(&self) -> Task {
        let (query, poll) = (self.client.token_self(), self.options.policy_poll);
        let (sender, doubt) = (self.sender.clone(), Arc::clone(&self.doubt));
        Task::spawn(async move {
            let mut refused = false;
            loop {
                let news = match query.once().await {
                    Ok(_) => std::mem::take(&mut refused).then_some(News::Recovered),
                    Err(error) if error.is_without_acls() => return,
                    Err(error) => {
                        refused = true;
                        Some(News::Failed(Trouble::of(&error)))
                    }
                };
                if let Some(news) = news
                    && sender.send((Topic::Token, news)).await.is_err()
                {
                    // Nobody listens any more.
                    return;
                }
                tokio::time::sleep(DOUBTS_APART).await;
                let wait = if refused { DOUBTS_APART } else { poll };
                // Time that passes is as good a reason as a doubt.
                let _ = tokio::time::timeout(wait, doubt.notified()).await;
            }
        })
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
        let mut known = false;
        let read = move |event: WatchEvent<AgentSelf>| match event {
            WatchEvent::Changed { value, .. } => {
                // Remembered of a token that could not read it either, it is empty.
                known = *value != AgentSelf::default();
                News::Learned(Fact::Agent(value))
            }
            WatchEvent::Recovered { .. } => News::Recovered,
            WatchEvent::Failed { error, .. }
                if !known && error.is_forbidden() && !error.is_token_refused() =>
            {
                tracing::info!(
                    error = %chain_of(&error),
                    "without agent:read the default intention policy is to deny"
                );
                News::Learned(Fact::Agent(Arc::new(AgentSelf::default())))
            }
            WatchEvent::Failed { error, .. } => News::Failed(Trouble::of(&error)),
        };
        self.follow_with(Topic::Agent, self.client.agent_self(), self.polled(), read)
    }
}

impl Origin for Watching {
    fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        let mut wanted = wanted.clone();
        if self.client.config().token != Token::Anonymous {
            wanted.insert(Topic::Token);
        }
        self.running.retain(|topic, _| wanted.contains(topic));
        self.knowledge.keep(&wanted);
        if let Some(memory) = &self.options.memory {
            memory.keep(&wanted);
        }
        for topic in &wanted {
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
                if let News::Failed(trouble) = &news {
                    self.metrics.watch_failed(topic.kind());
                    if trouble.cause == StaleCause::Token && topic != Topic::Token {
                        self.doubt.notify_one();
                    }
                }
                self.knowledge.take(topic, news, SystemTime::now());
            }
            next = self.receiver.try_recv().ok();
        }
        count(&*self.metrics, &self.knowledge.state());
        if let Some(memory) = &self.options.memory {
            memory.note_current(self.knowledge.is_confirmed());
        }
    }

    fn status(&self) -> Vec<SourceStatus> {
        let named = |name: &str, state| SourceStatus {
            name: name.into(),
            state,
        };
        let mut all = vec![named(CONSUL, self.knowledge.state())];
        let withheld = self.knowledge.withheld().into_iter();
        all.extend(withheld.map(|(kind, state)| named(&format!("{CONSUL}/{kind}"), state)));
        all.extend(self.knowledge.memory().map(|state| named(MEMORY, state)));
        all
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

/// Counts how fresh Consul's word is.
pub(crate) fn count(metrics: &dyn SourceMetrics, state: &SourceState) {
    metrics.current(CONSUL, *state == SourceState::Current);
    let refused = matches!(
        state,
        SourceState::Stale {
            cause: StaleCause::Token,
            ..
        }
    );
    metrics.token_refused(CONSUL, refused);
}

/// Reads what is a fact as it is.
fn plain<T>(fact: impl Fn(Arc<T>) -> Fact) -> impl FnMut(WatchEvent<T>) -> News {
    move |event| match event {
        WatchEvent::Changed { value, .. } => News::Learned(fact(value)),
        WatchEvent::Recovered { .. } => News::Recovered,
        WatchEvent::Failed { error, .. } => News::Failed(Trouble::of(&error)),
    }
}

/// One topic being followed.
struct Following<T, W, F> {
    topic: Topic,
    watch: W,
    /// Where answers are kept, and what makes facts of them again.
    kept: Option<(Shelf, Query<T>)>,
    sender: mpsc::Sender<(Topic, News)>,
    read: F,
}

impl<T, W, F> Following<T, W, F>
where
    T: Send + Sync + 'static,
    W: Events<T> + Send,
    F: FnMut(WatchEvent<T>) -> News + Send,
{
    async fn run(mut self) {
        let mut is_first = true;
        loop {
            let mut event = self.watch.next().await;
            let raw = match &mut event {
                WatchEvent::Changed { raw, .. } => Some(std::mem::replace(raw, Raw::Absent)),
                WatchEvent::Recovered { .. } | WatchEvent::Failed { .. } => None,
            };
            // An agent that says no is believed.
            let away = matches!(&event, WatchEvent::Failed { error, .. } if error.is_retryable());
            let news = (self.read)(event);
            if let News::Failed(trouble) = &news {
                tracing::debug!(topic = ?self.topic, reason = %trouble.reason, "watch failed");
            }
            if let (News::Learned(_), Some((shelf, _))) = (&news, &self.kept) {
                // A refusal that is as good as an answer is kept as an empty one.
                shelf.keep(&raw.unwrap_or_else(|| Raw::Body(b"{}".to_vec())));
            }
            if self.tell(news).await.is_err() {
                return;
            }
            if std::mem::take(&mut is_first)
                && away
                && let Some(news) = self.recall()
                && self.tell(news).await.is_err()
            {
                return;
            }
        }
    }

    /// An error means that nobody listens any more.
    async fn tell(&mut self, news: News) -> Result<(), ()> {
        let sent = self.sender.send((self.topic.clone(), news)).await;
        sent.map_err(drop)
    }

    /// What the last run knew.
    fn recall(&mut self) -> Option<News> {
        let (shelf, query) = self.kept.as_ref()?;
        let (raw, at) = match shelf.recall()? {
            Kept::Answer(raw, at) => (raw, at),
            Kept::WithoutKey(at) => {
                let reason = "the private key of the last run's certificate was not kept \
                              (--keep-keys), so nothing is served before Consul is back";
                return Some(News::Unusable(reason.to_owned(), at));
            }
        };
        let value = match query.read(&raw) {
            Ok(value) => Arc::new(value),
            Err(error) => {
                tracing::warn!(topic = ?self.topic, error = %chain_of(&error), "memory is not used");
                return None;
            }
        };
        let event = WatchEvent::Changed {
            value,
            meta: Meta::default(),
            raw: Raw::Absent,
        };
        match (self.read)(event) {
            News::Learned(fact) => Some(remembered(fact, at)),
            _ => None,
        }
    }
}

/// A certificate that is over proves nobody.
fn remembered(fact: Fact, at: SystemTime) -> News {
    if let Fact::Leaf(leaf) = &fact
        && leaf.expires().is_none_or(|end| end <= SystemTime::now())
    {
        let reason = format!(
            "the last run's certificate of `{}` expired at {}, so nothing is served before Consul \
             is back",
            leaf.service, leaf.valid_before
        );
        return News::Unusable(reason, at);
    }
    News::Remembered(fact, at)
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
            Err(reason) => News::Failed(Trouble::answer(reason)),
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
