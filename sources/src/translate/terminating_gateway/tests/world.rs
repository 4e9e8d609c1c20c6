//! What a terminating gateway is told, written by hand.

use super::super::*;
use crate::embedded::DevelopmentCa;
use crate::knowledge::{Fact, News, Trouble};
use consul::agent::AgentSelf;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

pub(super) fn gateway() -> TerminatingGateway {
    TerminatingGateway {
        gateway: SniGateway {
            name: "tgw".to_owned(),
            address: "10.0.0.1:8443".parse().unwrap(),
        },
        default: None,
    }
}

/// Answers to everything that a gateway asks for, as far as they are there.
pub(super) struct World {
    ca: DevelopmentCa,
    pub(super) knowledge: Knowledge,
    pub(super) registration: Value,
    pub(super) links: Vec<Value>,
    protocols: BTreeMap<&'static str, &'static str>,
    instances: BTreeMap<&'static str, Value>,
    pub(super) defaults: BTreeMap<&'static str, Value>,
    pub(super) resolvers: Vec<Value>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) names: BTreeMap<&'static str, Vec<IpAddr>>,
    pub(super) intentions: Value,
    pub(super) mesh: Value,
    /// Services whose leaf is refused.
    pub(super) forbidden: Vec<&'static str>,
}

impl World {
    pub(super) fn new(links: Vec<Value>) -> Self {
        Self {
            ca: DevelopmentCa::new("td", "dc1").unwrap(),
            knowledge: Knowledge::default(),
            registration: json!({"ID": "tgw", "Datacenter": "dc1", "Proxy": {}}),
            links,
            protocols: BTreeMap::new(),
            instances: BTreeMap::new(),
            defaults: BTreeMap::new(),
            resolvers: Vec::new(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            intentions: json!([]),
            mesh: Value::Null,
            forbidden: Vec::new(),
        }
    }

    pub(super) fn http(mut self, service: &'static str) -> Self {
        self.protocols.insert(service, "http");
        self
    }

    /// Instances as pairs of address and worst check.
    pub(super) fn at(mut self, service: &'static str, instances: &[(&str, &str)]) -> Self {
        let one = |(number, (address, check)): (usize, &(&str, &str))| {
            json!({"Node": {"Node": "n", "Address": "10.9.9.9"},
                "Service": {"ID": format!("{service}-{number}"), "Address": address, "Port": 80},
                "Checks": [{"Status": check}]})
        };
        let all = instances.iter().enumerate().map(one).collect();
        self.instances.insert(service, all);
        self
    }

    pub(super) fn resolved(mut self, host: &'static str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.names.insert(host, addresses);
        self
    }

    /// A file with a certificate of its own.
    pub(super) fn certificate(mut self, path: &str, key: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![path.to_owned()]).unwrap();
        self.files.insert(path.to_owned(), made.cert.pem().into());
        let pem = made.signing_key.serialize_pem().into();
        self.files.insert(key.to_owned(), pem);
        self
    }

    /// What is answered to a topic; `None` is silence.
    fn answer(&self, topic: &Topic) -> Option<News> {
        let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        let fact = match topic {
            Topic::Registration(_) => Fact::Registration(Arc::new(
                serde_json::from_value(self.registration.clone()).unwrap(),
            )),
            Topic::Roots => Fact::Roots(Arc::new(self.ca.roots())),
            Topic::Mesh => Fact::Mesh(Arc::new(serde_json::from_value(self.mesh.clone()).unwrap())),
            Topic::Agent => {
                let agent = json!({"DebugConfig": {"DefaultIntentionPolicy": "allow"}});
                let agent: AgentSelf = serde_json::from_value(agent).unwrap();
                Fact::Agent(Arc::new(agent))
            }
            Topic::GatewayServices(_) => {
                Fact::GatewayServices(Arc::new(self.links.iter().map(read).collect()))
            }
            Topic::Resolvers => Fact::Resolvers(Arc::new(
                self.resolvers
                    .iter()
                    .map(|one| serde_json::from_value(one.clone()).unwrap())
                    .collect(),
            )),
            Topic::Leaf(service) if self.forbidden.contains(&service.as_str()) => {
                return Some(News::Failed(Trouble::answer(
                    "403: service:write is missing",
                )));
            }
            Topic::Leaf(service) => Fact::Leaf(Arc::new(self.ca.leaf(service).unwrap())),
            Topic::Intentions(_) => Fact::Intentions(Arc::new(
                serde_json::from_value(self.intentions.clone()).unwrap(),
            )),
            Topic::Chain(query) => {
                let protocol = self.protocols.get(query.service.as_str()).unwrap_or(&"tcp");
                let chain = json!({"ServiceName": query.service, "Protocol": protocol});
                Fact::Chain(Arc::new(serde_json::from_value(chain).unwrap()))
            }
            Topic::Instances(query) => {
                let found = self.instances.get(query.service.as_str())?;
                Fact::Instances(Arc::new(serde_json::from_value(found.clone()).unwrap()))
            }
            Topic::Entry(_, name) => {
                Fact::Entry(Arc::new(self.defaults.get(name.as_str()).cloned()))
            }
            Topic::File(path) => match self.files.get(path.to_str().unwrap()) {
                Some(bytes) => Fact::File(Arc::new(bytes.clone())),
                None => {
                    return Some(News::Failed(Trouble::answer("no such file")));
                }
            },
            Topic::Addresses(name) => {
                let found = self.names.get(name.host.as_str())?;
                Fact::Addresses(Arc::new(found.clone()))
            }
            other => panic!("no terminating gateway wants {other:?}"),
        };
        Some(News::Learned(fact))
    }

    /// Asks for everything again, as long as the answers bring new questions.
    pub(super) fn contents(&mut self, previous: &Snapshot) -> Option<Contents> {
        for _ in 0..3 {
            for topic in gateway().wanted(&self.knowledge) {
                if let Some(news) = self.answer(&topic) {
                    self.knowledge.take(topic, news, SystemTime::UNIX_EPOCH);
                }
            }
        }
        gateway().contents(&self.knowledge, previous)
    }

    pub(super) fn first(&mut self) -> Contents {
        self.contents(&Snapshot::default())
            .expect("everything is known")
    }
}
