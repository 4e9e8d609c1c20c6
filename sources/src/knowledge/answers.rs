//! Answers by what was asked. A fact is always of its topic's kind.

use super::{
    ChainQuery, Fact, GatewaysByDatacenter, InstancesQuery, Knowledge, Known, NoEntry,
    PreparedQuery, Topic,
};
use crate::dns::Name;
use crate::jwks::{KeyOrigin, Keys};
use consul::agent::{AgentCheck, AgentSelf, AgentService, Leaf, Roots};
use consul::catalog::GatewayService;
use consul::chain::CompiledChain;
use consul::entry::{Entry, JwtProviderEntry, MeshEntry, ServiceResolver};
use consul::health::ServiceEntry;
use consul::intention::Intention;
use consul::prepared::QueryResult;
use consul::xds::GatewayCertificate;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

impl Knowledge {
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
}
