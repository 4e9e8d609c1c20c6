//! How each topic is followed.

use super::following::{Events, Following, plain};
use super::{Watching, file, token};
use crate::causes::chain_of;
use crate::dns::{self, Families};
use crate::jwks;
use crate::knowledge::{ChainQuery, Fact, InstancesQuery, News, Topic, Trouble};
use crate::publish::Task;
use consul::agent::{AgentSelf, MeshGateway};
use consul::blocking::{Pacing, Rate, WatchEvent};
use consul::chain::ChainOverrides;
use consul::health::ServiceEntry;
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
    pub(super) fn start(&self, topic: Topic) -> Task {
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
                Task::spawn(file::follow(topic, path, sender))
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
            Topic::Token => {
                let (poll, doubt) = (self.options.policy_poll, Arc::clone(&self.doubt));
                let sender = self.sender.clone();
                Task::spawn(token::follow(client.token_self(), poll, doubt, sender))
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
