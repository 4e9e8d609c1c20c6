//! Knowledge: everything that Consul has told one proxy, as plain values.
//!
//! Watches write into it, translation reads it. What is known stays known while Consul is away;
//! only what is no longer wanted is forgotten.

mod freshness;

use crate::dns::{Answer, Name};
use crate::jwks::{KeyOrigin, Keys};
use crate::settling::settled;
use crate::watching::chain_of;
use consul::agent::{AgentCheck, AgentSelf, AgentService, Leaf, Roots};
use consul::catalog::GatewayService;
use consul::chain::CompiledChain;
use consul::entry::{Entry, JwtProviderEntry, MeshEntry, ServiceResolver};
use consul::health::ServiceEntry;
use consul::intention::Intention;
use consul::prepared::QueryResult;
use consul::xds::GatewayCertificate;
use meridian_model::{SourceStatus, StaleCause};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One thing that can be asked of Consul and followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// The proxy's own registration, by ID.
    Registration(String),
    /// Roots of the CA.
    Roots,
    /// A service's leaf.
    Leaf(String),
    /// Intentions whose destination is this service.
    Intentions(String),
    /// The agent's settings, for the default intention policy.
    Agent,
    /// The `mesh` entry.
    Mesh,
    /// A compiled discovery chain.
    Chain(ChainQuery),
    /// Instances of a service.
    Instances(InstancesQuery),
    /// What a prepared query finds.
    Prepared(PreparedQuery),
    /// Checks of a service instance beside this agent, by the instance's ID.
    Checks(String),
    /// A configuration entry, by kind and name.
    Entry(&'static str, String),
    /// Services behind a gateway, by the gateway's name.
    GatewayServices(String),
    /// The certificate with DNS names of an ingress gateway, by the ID of its registration.
    GatewayCertificate(String),
    /// Ordinary services of the datacenter, by name.
    Services,
    /// Names of the mesh gateways of a datacenter, as its catalog has them.
    GatewayNames(String),
    /// Mesh gateways of all datacenters, as federation states have them.
    FederationStates,
    /// All datacenters.
    Datacenters,
    /// All `service-resolver` entries.
    Resolvers,
    /// A file on this machine.
    File(PathBuf),
    /// A name in DNS.
    Addresses(Name),
    /// A `jwt-provider` entry, by name.
    JwtProvider(String),
    /// Keys of such a provider.
    Keys(KeyOrigin),
    /// Whether the token is good. Nothing is learned from it but that.
    Token,
}

impl Topic {
    /// Name in metrics: one of a fixed list.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Registration(_) => "registration",
            Self::Roots => "roots",
            Self::Leaf(_) => "leaf",
            Self::Intentions(_) => "intentions",
            Self::Agent => "agent",
            Self::Mesh => "mesh",
            Self::Chain(_) => "chain",
            Self::Instances(_) => "health",
            Self::Prepared(_) => "prepared_query",
            Self::Checks(_) => "checks",
            Self::Entry(..) => "config_entry",
            Self::GatewayServices(_) => "gateway_services",
            Self::GatewayCertificate(_) => "gateway_certificate",
            Self::Services => "services",
            Self::GatewayNames(_) => "mesh_gateways",
            Self::FederationStates => "federation_states",
            Self::Datacenters => "datacenters",
            Self::Resolvers => "resolvers",
            Self::File(_) => "file",
            Self::Addresses(_) => "dns",
            Self::JwtProvider(_) => "jwt_provider",
            Self::Keys(_) => "jwks",
            Self::Token => "token",
        }
    }
}

/// What a discovery chain is compiled for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChainQuery {
    pub(crate) service: String,
    pub(crate) datacenter: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) partition: Option<String>,
    /// `connect_timeout_ms` of the upstream.
    pub(crate) connect_timeout: Option<Duration>,
    /// `protocol` of the upstream.
    pub(crate) protocol: Option<String>,
    /// `MeshGateway.Mode` of the upstream.
    pub(crate) mesh_gateway: Option<String>,
}

/// Mesh gateways by datacenter.
pub(crate) type GatewaysByDatacenter = BTreeMap<String, Vec<ServiceEntry>>;

/// Which instances are asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstancesQuery {
    pub(crate) service: String,
    /// Sidecars and native instances, or the service's own.
    pub(crate) mesh: bool,
    pub(crate) datacenter: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) partition: Option<String>,
    /// Expression evaluated by Consul (`Subset.Filter`).
    pub(crate) filter: Option<String>,
}

/// A prepared query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PreparedQuery {
    /// Its name or ID.
    pub(crate) name: String,
    /// Where it is executed; the proxy's own datacenter if not said.
    pub(crate) datacenter: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    Registration(Arc<AgentService>),
    Roots(Arc<Roots>),
    Leaf(Arc<Leaf>),
    /// In evaluation order.
    Intentions(Arc<Vec<Intention>>),
    Agent(Arc<AgentSelf>),
    /// `None` where there is no such entry.
    Mesh(Arc<Option<MeshEntry>>),
    Chain(Arc<CompiledChain>),
    Instances(Arc<Vec<ServiceEntry>>),
    /// In no order.
    Prepared(Arc<QueryResult>),
    /// By ID.
    Checks(Arc<BTreeMap<String, AgentCheck>>),
    /// `None` where there is no such entry.
    Entry(Arc<Option<Value>>),
    GatewayServices(Arc<Vec<GatewayService>>),
    /// `None` where Consul has none for its listeners.
    GatewayCertificate(Arc<Option<GatewayCertificate>>),
    /// With their tags.
    Services(Arc<BTreeMap<String, Vec<String>>>),
    /// By datacenter.
    FederationStates(Arc<GatewaysByDatacenter>),
    Datacenters(Arc<Vec<String>>),
    Resolvers(Arc<Vec<ServiceResolver>>),
    File(Arc<Vec<u8>>),
    /// In order.
    Addresses(Arc<Vec<IpAddr>>),
    /// `None` where there is no such entry.
    JwtProvider(Arc<Option<JwtProviderEntry>>),
    /// A source of keys that fails says so itself: it knows how long old keys are good.
    Keys(Arc<Keys>),
}

/// What a watch has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// It answered.
    Learned(Fact),
    /// It answers again, as before.
    Recovered,
    /// It doesn't answer.
    Failed(Trouble),
    /// It doesn't answer, and this is what it said in the last run.
    Remembered(Fact, SystemTime),
    /// What it said in the last run cannot be used.
    Unusable(String, SystemTime),
}

/// Why a watch doesn't answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) cause: StaleCause,
    pub(crate) reason: String,
}

impl Trouble {
    /// The answer is not what was asked for.
    pub(crate) fn answer(reason: impl Into<String>) -> Self {
        Self {
            cause: StaleCause::Answer,
            reason: reason.into(),
        }
    }

    /// Consul's answer, or the lack of one.
    pub(crate) fn of(error: &consul::Error) -> Self {
        let cause = if error.is_token_refused() {
            StaleCause::Token
        } else if error.is_forbidden() {
            StaleCause::Rights
        } else if error.is_retryable() || matches!(error, consul::Error::Tls { .. }) {
            StaleCause::Unreachable
        } else {
            StaleCause::Answer
        };
        Self {
            cause,
            reason: chain_of(error),
        }
    }
}

impl News {
    /// Of a name in DNS.
    pub(crate) fn of(answer: Answer) -> Self {
        match answer {
            Ok(addresses) => Self::Learned(Fact::Addresses(Arc::new(addresses))),
            Err(reason) => Self::Failed(Trouble {
                cause: StaleCause::Unreachable,
                reason,
            }),
        }
    }
}

/// What is known about one topic.
#[derive(Debug, Clone)]
pub(crate) enum Known<'a, T> {
    /// Not asked yet, or no answer yet.
    Waiting,
    /// The first answer was a failure, and nothing is known from before.
    Failed(&'a str),
    /// The last answer.
    Value(&'a T),
}

/// Why there is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// There is no answer yet.
    Waiting,
    /// It does not exist.
    Absent,
    /// It cannot be had, or cannot be read.
    Failed(String),
}

/// Where knowledge comes from: Consul, or the embedded registry.
pub(crate) trait Origin: Send {
    /// What is known now.
    fn knowledge(&self) -> &Knowledge;
    /// Starts what is newly wanted, stops and forgets what no longer is.
    fn keep(&mut self, wanted: &BTreeSet<Topic>);
    /// Waits for news and takes in all there are. Cancel safe.
    fn learn(&mut self) -> impl Future<Output = ()> + Send;
    /// How fresh it all is; empty where there is nothing to be fresh.
    fn status(&self) -> Vec<SourceStatus>;
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    facts: BTreeMap<Topic, Fact>,
    failing: BTreeMap<Topic, Failure>,
    /// Facts of the last run, and how old they are.
    remembered: BTreeMap<Topic, SystemTime>,
    /// Why a fact of the last run is not used.
    unusable: BTreeMap<Topic, (String, SystemTime)>,
}

#[derive(Debug)]
struct Failure {
    since: SystemTime,
    trouble: Trouble,
}

impl Knowledge {
    /// Takes news in.
    pub(crate) fn take(&mut self, topic: Topic, news: News, now: SystemTime) {
        match news {
            News::Learned(fact) => {
                self.failing.remove(&topic);
                self.remembered.remove(&topic);
                self.unusable.remove(&topic);
                let fact = match (self.facts.get(&topic), fact) {
                    (Some(Fact::Instances(before)), Fact::Instances(now)) => {
                        Fact::Instances(settled(before, &now))
                    }
                    (_, fact) => fact,
                };
                self.facts.insert(topic, fact);
            }
            News::Recovered => {
                self.failing.remove(&topic);
            }
            News::Failed(trouble) => {
                let since = self.failing.get(&topic).map_or(now, |before| before.since);
                self.failing.insert(topic, Failure { since, trouble });
            }
            News::Remembered(fact, at) => {
                if !self.facts.contains_key(&topic) {
                    self.remembered.insert(topic.clone(), at);
                    self.facts.insert(topic, fact);
                }
            }
            News::Unusable(reason, at) => {
                self.unusable.insert(topic, (reason, at));
            }
        }
    }

    /// Forgets everything else.
    pub(crate) fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        self.facts.retain(|topic, _| wanted.contains(topic));
        self.failing.retain(|topic, _| wanted.contains(topic));
        self.remembered.retain(|topic, _| wanted.contains(topic));
        self.unusable.retain(|topic, _| wanted.contains(topic));
    }

    pub(crate) fn registration(&self, id: &str) -> Option<&AgentService> {
        match self.facts.get(&Topic::Registration(id.to_owned()))? {
            Fact::Registration(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn roots(&self) -> Option<&Roots> {
        match self.facts.get(&Topic::Roots)? {
            Fact::Roots(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn leaf(&self, service: &str) -> Option<&Leaf> {
        match self.facts.get(&Topic::Leaf(service.to_owned()))? {
            Fact::Leaf(value) => Some(value),
            _ => None,
        }
    }

    /// In evaluation order.
    pub(crate) fn intentions(&self, service: &str) -> Option<&[Intention]> {
        match self.facts.get(&Topic::Intentions(service.to_owned()))? {
            Fact::Intentions(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn agent(&self) -> Option<&AgentSelf> {
        match self.facts.get(&Topic::Agent)? {
            Fact::Agent(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn mesh(&self) -> Known<'_, Option<MeshEntry>> {
        match self.facts.get(&Topic::Mesh) {
            Some(Fact::Mesh(value)) => Known::Value(value),
            _ => self.unknown(&Topic::Mesh),
        }
    }

    pub(crate) fn chain(&self, query: &ChainQuery) -> Known<'_, CompiledChain> {
        let topic = Topic::Chain(query.clone());
        match self.facts.get(&topic) {
            Some(Fact::Chain(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn instances(&self, query: &InstancesQuery) -> Known<'_, Vec<ServiceEntry>> {
        let topic = Topic::Instances(query.clone());
        match self.facts.get(&topic) {
            Some(Fact::Instances(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn prepared(&self, query: &PreparedQuery) -> Known<'_, QueryResult> {
        let topic = Topic::Prepared(query.clone());
        match self.facts.get(&topic) {
            Some(Fact::Prepared(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    /// By ID.
    pub(crate) fn checks(&self, service_id: &str) -> Known<'_, BTreeMap<String, AgentCheck>> {
        let topic = Topic::Checks(service_id.to_owned());
        match self.facts.get(&topic) {
            Some(Fact::Checks(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    /// An entry, or why it cannot be had: it was not asked for yet, it is not there, Consul does
    /// not say, or it makes no sense.
    pub(crate) fn entry<E: Entry>(&self, name: &str) -> Result<E, NoEntry> {
        let topic = Topic::Entry(E::KIND, name.to_owned());
        let Some(Fact::Entry(value)) = self.facts.get(&topic) else {
            return Err(match self.unknown::<()>(&topic) {
                Known::Failed(reason) => NoEntry::Failed(reason.to_owned()),
                Known::Waiting | Known::Value(()) => NoEntry::Waiting,
            });
        };
        let Some(value) = value.as_ref() else {
            return Err(NoEntry::Absent);
        };
        serde_json::from_value(value.clone()).map_err(|error| NoEntry::Failed(error.to_string()))
    }

    pub(crate) fn gateway_services(&self, gateway: &str) -> Option<&[GatewayService]> {
        match self
            .facts
            .get(&Topic::GatewayServices(gateway.to_owned()))?
        {
            Fact::GatewayServices(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn gateway_certificate(&self, id: &str) -> Known<'_, Option<GatewayCertificate>> {
        let topic = Topic::GatewayCertificate(id.to_owned());
        match self.facts.get(&topic) {
            Some(Fact::GatewayCertificate(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn services(&self) -> Option<&BTreeMap<String, Vec<String>>> {
        match self.facts.get(&Topic::Services)? {
            Fact::Services(value) => Some(value),
            _ => None,
        }
    }

    /// Names of a datacenter's mesh gateways.
    pub(crate) fn gateway_names(
        &self,
        datacenter: &str,
    ) -> Known<'_, BTreeMap<String, Vec<String>>> {
        let topic = Topic::GatewayNames(datacenter.to_owned());
        match self.facts.get(&topic) {
            Some(Fact::Services(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn federation_states(&self) -> Known<'_, GatewaysByDatacenter> {
        match self.facts.get(&Topic::FederationStates) {
            Some(Fact::FederationStates(value)) => Known::Value(value),
            _ => self.unknown(&Topic::FederationStates),
        }
    }

    pub(crate) fn datacenters(&self) -> Known<'_, Vec<String>> {
        match self.facts.get(&Topic::Datacenters) {
            Some(Fact::Datacenters(value)) => Known::Value(value),
            _ => self.unknown(&Topic::Datacenters),
        }
    }

    pub(crate) fn resolvers(&self) -> Option<&[ServiceResolver]> {
        match self.facts.get(&Topic::Resolvers)? {
            Fact::Resolvers(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn file(&self, path: &Path) -> Known<'_, Vec<u8>> {
        let topic = Topic::File(path.to_owned());
        match self.facts.get(&topic) {
            Some(Fact::File(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn addresses(&self, name: &Name) -> Known<'_, Vec<IpAddr>> {
        let topic = Topic::Addresses(name.clone());
        match self.facts.get(&topic) {
            Some(Fact::Addresses(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn jwt_provider(&self, name: &str) -> Known<'_, Option<JwtProviderEntry>> {
        let topic = Topic::JwtProvider(name.to_owned());
        match self.facts.get(&topic) {
            Some(Fact::JwtProvider(value)) => Known::Value(value),
            _ => self.unknown(&topic),
        }
    }

    pub(crate) fn keys(&self, origin: &KeyOrigin) -> Option<&Keys> {
        match self.facts.get(&Topic::Keys(origin.clone()))? {
            Fact::Keys(value) => Some(value),
            _ => None,
        }
    }

    /// The right that the token lacks, where that is why nothing is known of a topic.
    pub(crate) fn lacks_right(&self, topic: &Topic) -> Option<&str> {
        let failure = self.failing.get(topic)?;
        let is_reason = failure.trouble.cause == StaleCause::Rights;
        (is_reason && !self.facts.contains_key(topic)).then_some(&*failure.trouble.reason)
    }

    /// Whether there is neither an answer nor a failure yet.
    pub(crate) fn waits_for(&self, topic: &Topic) -> bool {
        !self.facts.contains_key(topic) && !self.failing.contains_key(topic)
    }

    /// Why there is no answer, or none newer than the one before.
    pub(crate) fn failure(&self, topic: &Topic) -> Option<&str> {
        let failure = self.failing.get(topic);
        failure.map(|failure| failure.trouble.reason.as_str())
    }

    fn unknown<T>(&self, topic: &Topic) -> Known<'_, T> {
        match self.failing.get(topic) {
            None => Known::Waiting,
            Some(failure) => Known::Failed(&failure.trouble.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::SourceState;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn failed() -> News {
        News::Failed(Trouble::answer("refused"))
    }

    #[test]
    fn a_failure_forgets_nothing() {
        let mut knowledge = Knowledge::default();
        let roots = Fact::Roots(Arc::default());
        knowledge.take(Topic::Roots, News::Learned(roots), at(1));
        knowledge.take(Topic::Roots, failed(), at(2));
        assert!(knowledge.roots().is_some());
        let chain = ChainQuery::default();
        assert!(matches!(knowledge.chain(&chain), Known::Waiting));
        knowledge.take(Topic::Chain(chain.clone()), failed(), at(3));
        assert!(matches!(knowledge.chain(&chain), Known::Failed("refused")));
    }

    #[test]
    fn what_is_no_longer_wanted_is_forgotten_with_its_failures() {
        let mut knowledge = Knowledge::default();
        let roots = Fact::Roots(Arc::default());
        knowledge.take(Topic::Roots, News::Learned(roots), at(1));
        knowledge.take(Topic::Agent, failed(), at(2));
        knowledge.keep(&BTreeSet::from([Topic::Roots]));
        assert!(knowledge.roots().is_some());
        assert_eq!(knowledge.state(), SourceState::Current);
    }
}
