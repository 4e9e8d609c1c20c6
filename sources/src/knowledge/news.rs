//! What is heard: answers, and why there is none.

use crate::causes::chain_of;
use crate::dns::Answer;
use crate::jwks::Keys;
use consul::agent::{AgentCheck, AgentSelf, AgentService, Leaf, Roots};
use consul::catalog::GatewayService;
use consul::chain::CompiledChain;
use consul::entry::{JwtProviderEntry, MeshEntry, ServiceResolver};
use consul::health::ServiceEntry;
use consul::intention::Intention;
use consul::prepared::QueryResult;
use consul::xds::GatewayCertificate;
use meridian_model::StaleCause;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Mesh gateways by datacenter.
pub(crate) type GatewaysByDatacenter = BTreeMap<String, Vec<ServiceEntry>>;

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
