//! How each topic is followed.

use super::following::{Following, plain};
use super::{Watching, file, token};
use crate::causes::chain_of;
use crate::dns::{self, Families, Name};
use crate::jwks::{self, KeyOrigin};
use crate::knowledge::{ChainQuery, Fact, InstancesQuery, News, PreparedQuery, Topic, Trouble};
use crate::publish::Task;
use consul::agent::{AgentSelf, MeshGateway};
use consul::blocking::{Pacing, Rate, WatchEvent};
use consul::chain::ChainOverrides;
use consul::health::ServiceEntry;
use consul::prepared::QueryResult;
use consul::{Client, Query};
use meridian_model::StaleCause;
use std::sync::Arc;
use std::time::Duration;

/// Services that are neither sidecars nor gateways.
const ORDINARY: &str = "ServiceKind == \"\"";

/// Mesh gateways.
const MESH_GATEWAYS: &str = "ServiceKind == \"mesh-gateway\"";

/// The agent answers out of its own memory, and a check that is to be exposed fails until its port
/// is open.
const CHECKS_POLL: Duration = Duration::from_secs(2);

impl Watching {
    /// Follows a topic until the task is dropped.
    pub(super) fn start(&self, topic: &Topic) -> Task {
        let client = &self.client;
        match topic {
            Topic::Registration(id) => {
                self.follow(topic, client.agent_service(id), Fact::Registration)
            }
            Topic::Roots => self.follow(topic, client.roots(), Fact::Roots),
            Topic::Leaf(service) => self.follow(topic, client.leaf(service), Fact::Leaf),
            Topic::Intentions(service) => self.follow_intentions(topic, service),
            Topic::Agent => self.follow_agent(),
            Topic::Mesh => self.follow(topic, client.mesh_entry(), Fact::Mesh),
            Topic::Chain(query) => {
                let chain = client.discovery_chain(&query.service, &overrides(query));
                self.follow(topic, chain, Fact::Chain)
            }
            Topic::Instances(query) => self.follow_instances(topic, query),
            Topic::Prepared(query) => {
                let interval = self.options.prepared_poll;
                self.poll(topic, prepared(client, query), interval, Fact::Prepared)
            }
            Topic::Checks(service) => {
                let checks = client.agent_checks(service);
                self.poll(topic, checks, CHECKS_POLL, Fact::Checks)
            }
            Topic::Entry(kind, name) => {
                self.follow(topic, client.config_entry(kind, name), Fact::Entry)
            }
            Topic::GatewayServices(gateway) => {
                let services = client.gateway_services(gateway);
                self.follow(topic, services, Fact::GatewayServices)
            }
            Topic::GatewayCertificate(id) => self.follow_certificate(topic, id),
            Topic::Services => {
                let services = client.catalog_services().filter(ORDINARY);
                self.follow(topic, services, Fact::Services)
            }
            Topic::GatewayNames(datacenter) => {
                let services = client.catalog_services().datacenter(datacenter);
                self.follow(topic, services.filter(MESH_GATEWAYS), Fact::Services)
            }
            Topic::FederationStates => {
                self.follow(topic, client.mesh_gateways(), Fact::FederationStates)
            }
            Topic::Datacenters => {
                let interval = self.options.policy_poll;
                self.poll(topic, client.datacenters(), interval, Fact::Datacenters)
            }
            Topic::Resolvers => self.follow(topic, client.entries(), Fact::Resolvers),
            Topic::JwtProvider(name) => self.follow(topic, client.entry(name), Fact::JwtProvider),
            Topic::File(path) => {
                let sender = self.sender.clone();
                Task::spawn(file::follow(topic.clone(), path.clone(), sender))
            }
            Topic::Addresses(name) => self.follow_addresses(topic, name),
            Topic::Keys(origin) => self.follow_keys(topic, origin),
            Topic::Token => self.follow_token(),
        }
    }

    /// Follows an answer that is a fact as it is.
    fn follow<T>(
        &self,
        topic: &Topic,
        query: Query<T>,
        fact: impl Fn(Arc<T>) -> Fact + Send + 'static,
    ) -> Task
    where
        T: PartialEq + Send + Sync + 'static,
    {
        self.follow_with(topic, query, self.options.pacing, plain(fact))
    }

    /// As [`Self::follow`], where it is asked for once an interval.
    fn poll<T>(
        &self,
        topic: &Topic,
        query: Query<T>,
        interval: Duration,
        fact: impl Fn(Arc<T>) -> Fact + Send + 'static,
    ) -> Task
    where
        T: PartialEq + Send + Sync + 'static,
    {
        self.follow_with(topic, query, self.polling(interval), plain(fact))
    }

    /// As [`Self::follow`], where there is more to an answer than its fact.
    fn follow_with<T>(
        &self,
        topic: &Topic,
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
            kept: memory.map(|memory| (memory.shelf(topic, query.words()), query)),
            topic: topic.clone(),
            watch,
            sender: self.sender.clone(),
            read,
        };
        Task::spawn(following.run())
    }

    /// Consul leaves out what a token may not see. A list that is empty for that reason is no
    /// news: what was known goes on being used, and the missing right is named.
    fn follow_instances(&self, topic: &Topic, query: &InstancesQuery) -> Task {
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

    /// Asks once an interval.
    fn polling(&self, interval: Duration) -> Pacing {
        Pacing {
            changed: each(interval),
            unchanged: each(interval),
            ..self.options.pacing
        }
    }

    /// A token without `agent:read` is no outage: the policy then is to deny.
    fn follow_agent(&self) -> Task {
        let (mut known, mut told) = (false, false);
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
                if !told {
                    tracing::info!(
                        error = %chain_of(&error),
                        "without agent:read the default intention policy is to deny"
                    );
                }
                told = true;
                News::Learned(Fact::Agent(Arc::new(AgentSelf::default())))
            }
            WatchEvent::Failed { error, .. } => News::Failed(Trouble::of(&error)),
        };
        let pacing = self.polling(self.options.policy_poll);
        self.follow_with(&Topic::Agent, self.client.agent_self(), pacing, read)
    }

    /// Only whether the token is good is of interest.
    fn follow_token(&self) -> Task {
        let (poll, doubt) = (self.options.policy_poll, Arc::clone(&self.doubt));
        let (token, sender) = (self.client.token_self(), self.sender.clone());
        Task::spawn(token::follow(token, poll, doubt, sender))
    }

    /// Consul answers with a list by destination, of which there is one.
    fn follow_intentions(&self, topic: &Topic, service: &str) -> Task {
        let (query, service) = (self.client.intentions_to(service), service.to_owned());
        self.follow(topic, query, move |value| {
            let found = value.to(&service).unwrap_or_default();
            Fact::Intentions(Arc::new(found.to_vec()))
        })
    }

    /// What comes as a stream is no query, and is not remembered.
    fn follow_certificate(&self, topic: &Topic, id: &str) -> Task {
        let following = Following {
            topic: topic.clone(),
            watch: self.client.gateway_certificate(id),
            kept: None,
            sender: self.sender.clone(),
            read: plain(Fact::GatewayCertificate),
        };
        Task::spawn(following.run())
    }

    /// As Consul has Envoy look: IPv6 only where there is nothing else.
    fn follow_addresses(&self, topic: &Topic, name: &Name) -> Task {
        let (topic, sender) = (topic.clone(), self.sender.clone());
        let letter = move |answer| (topic.clone(), News::of(answer));
        Task::spawn(dns::follow(
            name.clone(),
            Families::Ipv4thenIpv6,
            sender,
            letter,
        ))
    }

    /// Keys outlive a restart where there is memory, and their origin can be asked for.
    fn follow_keys(&self, topic: &Topic, origin: &KeyOrigin) -> Task {
        let (sender, metrics) = (self.sender.clone(), Arc::clone(&self.metrics));
        let memory = self.options.memory.as_ref().zip(origin.request());
        let shelf = memory.map(|(memory, request)| memory.shelf(topic, request));
        Task::spawn(jwks::follow(origin.clone(), sender, metrics, shelf))
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

fn prepared(client: &Client, query: &PreparedQuery) -> Query<QueryResult> {
    let asked = client.prepared_query(&query.name);
    match &query.datacenter {
        Some(datacenter) => asked.datacenter(datacenter),
        None => asked,
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
