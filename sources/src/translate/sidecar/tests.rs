//! A sidecar from hand-written answers to its contents.

use super::*;
use crate::embedded::DevelopmentCa;
use crate::knowledge::{Fact, News, Trouble};
use consul::agent::AgentSelf;
use meridian_model::StaleCause;
use serde_json::{Value, json};
use std::time::SystemTime;

const SIDECAR: &str = "web-proxy";

fn sidecar() -> Sidecar {
    Sidecar {
        proxy: SIDECAR.to_owned(),
        default: None,
    }
}

/// Answers to everything that is wanted, from a registration on; chains are default ones.
struct World {
    ca: DevelopmentCa,
    knowledge: Knowledge,
}

impl World {
    fn new(upstreams: Value) -> Self {
        let mut world = Self {
            ca: DevelopmentCa::new("td", "dc1").unwrap(),
            knowledge: Knowledge::default(),
        };
        world.register(upstreams);
        world
    }

    fn register(&mut self, upstreams: Value) {
        let registration = serde_json::from_value(json!({"ID": SIDECAR, "Port": 21000,
            "Datacenter": "dc1", "Proxy": {"DestinationServiceName": "web",
                "LocalServicePort": 80, "Upstreams": upstreams}}));
        let fact = Fact::Registration(Arc::new(registration.unwrap()));
        self.learn(Topic::Registration(SIDECAR.to_owned()), fact);
    }

    fn learn(&mut self, topic: Topic, fact: Fact) {
        self.take(topic, News::Learned(fact));
    }

    fn take(&mut self, topic: Topic, news: News) {
        self.knowledge.take(topic, news, SystemTime::UNIX_EPOCH);
    }

    /// Answers what is wanted now, except what `skip` holds back.
    fn answer(&mut self, skip: impl Fn(&Topic) -> bool) {
        let agent: AgentSelf = serde_json::from_value(json!({
            "DebugConfig": {"DefaultIntentionPolicy": "allow"}}))
        .unwrap();
        for topic in sidecar().wanted(&self.knowledge) {
            if skip(&topic) || !self.knowledge.waits_for(&topic) {
                continue;
            }
            let fact = match &topic {
                Topic::Registration(_) => continue,
                Topic::Roots => Fact::Roots(Arc::new(self.ca.roots())),
                Topic::Leaf(service) => Fact::Leaf(Arc::new(self.ca.leaf(service).unwrap())),
                Topic::Intentions(_) => Fact::Intentions(Arc::default()),
                Topic::Agent => Fact::Agent(Arc::new(agent.clone())),
                Topic::Mesh => Fact::Mesh(Arc::default()),
                Topic::Entry(..) => Fact::Entry(Arc::default()),
                Topic::Chain(query) => Fact::Chain(Arc::new(chain(&query.service))),
                Topic::Instances(_) => Fact::Instances(Arc::default()),
                other => panic!("no sidecar here wants {other:?}"),
            };
            self.learn(topic, fact);
        }
    }

    fn answer_all(&mut self) {
        // Twice: chains bring instances along.
        self.answer(|_| false);
        self.answer(|_| false);
    }

    fn default_policy(&mut self, word: &str) {
        let agent = json!({"DebugConfig": {"DefaultIntentionPolicy": word}});
        let agent = serde_json::from_value(agent).unwrap();
        self.learn(Topic::Agent, Fact::Agent(Arc::new(agent)));
    }

    fn contents(&self, previous: &Snapshot) -> Option<Contents> {
        sidecar().contents(&self.knowledge, previous)
    }
}

fn chain(service: &str) -> consul::chain::CompiledChain {
    let id = format!("{service}.id");
    serde_json::from_value(json!({"ServiceName": service, "Protocol": "tcp",
        "StartNode": "resolver:a",
        "Nodes": {"resolver:a": {"Type": "resolver", "Name": "a", "Resolver": {"Target": id}}},
        "Targets": {&id: {"ID": id, "Service": service, "Datacenter": "dc1"}}}))
    .unwrap()
}

fn published(contents: Contents) -> Snapshot {
    Snapshot {
        generation: 1,
        listeners: contents.listeners,
        clusters: contents.clusters,
        identities: contents.identities,
        ..Snapshot::default()
    }
}

fn one() -> Value {
    json!([{"DestinationName": "api", "LocalBindPort": 5000}])
}

fn two() -> Value {
    json!([{"DestinationName": "api", "LocalBindPort": 5000},
        {"DestinationName": "db", "LocalBindPort": 5001}])
}

#[test]
fn the_first_generation_waits_for_every_single_answer() {
    let kinds = ["roots", "leaf", "intentions", "agent", "chain", "health"];
    for kind in kinds {
        let mut world = World::new(one());
        world.answer(|topic| topic.kind() == kind);
        world.answer(|topic| topic.kind() == kind);
        assert_eq!(world.contents(&Snapshot::default()), None, "{kind}");
        world.answer_all();
        assert!(world.contents(&Snapshot::default()).is_some(), "{kind}");
    }
}

#[test]
fn a_chain_that_cannot_be_had_holds_nobody_up() {
    let mut world = World::new(two());
    world.answer(|topic| matches!(topic, Topic::Chain(chain) if chain.service == "db"));
    for topic in sidecar().wanted(&world.knowledge) {
        if matches!(&topic, Topic::Chain(chain) if chain.service == "db") {
            world.take(topic, News::Failed(Trouble::answer("403")));
        }
    }
    world.answer(|_| false);
    let contents = world.contents(&Snapshot::default()).unwrap();
    assert!(contents.listeners.contains_key("upstream/api"));
    assert!(!contents.listeners.contains_key("upstream/db"));
    assert_eq!(contents.rejected[0].resource, "upstream db");
}

#[test]
fn without_the_right_to_read_intentions_nobody_may_call_and_upstreams_work() {
    let mut world = World::new(one());
    let intentions = Topic::Intentions("web".to_owned());
    world.answer(|topic| *topic == intentions);
    world.answer(|topic| *topic == intentions);
    let lacks = Trouble {
        cause: StaleCause::Rights,
        reason: "403".to_owned(),
    };
    world.take(intentions, News::Failed(lacks));
    let contents = world.contents(&Snapshot::default()).unwrap();
    assert!(contents.listeners.contains_key("upstream/api"));
    assert_eq!(verdict(&contents), Verdict::Deny);
    assert_eq!(contents.rejected[0].resource, "intentions of web");
}

#[test]
fn later_generations_wait_for_nobody() {
    let mut world = World::new(one());
    world.answer_all();
    let first = published(world.contents(&Snapshot::default()).unwrap());
    world.register(two());
    let contents = world.contents(&first).unwrap();
    assert!(contents.listeners.contains_key("upstream/api"));
    assert!(
        !contents.listeners.contains_key("upstream/db"),
        "not known yet"
    );
    world.answer_all();
    let contents = world.contents(&first).unwrap();
    assert!(contents.listeners.contains_key("upstream/db"));
}

#[test]
fn an_upstream_keeps_its_form_until_its_new_one_is_complete() {
    let mut world = World::new(one());
    world.answer_all();
    let first = published(world.contents(&Snapshot::default()).unwrap());
    let api = sidecar()
        .wanted(&world.knowledge)
        .into_iter()
        .find(|topic| topic.kind() == "chain");
    // Redirected to a service whose instances have not been asked for.
    world.learn(api.unwrap(), Fact::Chain(Arc::new(chain("api2"))));
    let contents = world.contents(&first).unwrap();
    assert!(Arc::ptr_eq(
        &contents.clusters["api"],
        &first.clusters["api"]
    ));
    world.answer_all();
    let contents = world.contents(&first).unwrap();
    assert_eq!(&*contents.clusters["api"].targets[0].name, "api2.id");
}

#[test]
fn a_bad_resource_keeps_its_last_good_version() {
    let mut world = World::new(one());
    world.answer_all();
    let first = published(world.contents(&Snapshot::default()).unwrap());
    let leaf = Topic::Leaf("web".to_owned());
    world.learn(leaf, Fact::Leaf(Arc::default()));
    let contents = world.contents(&first).unwrap();
    assert_eq!(contents.rejected[0].resource, "identity web");
    assert!(Arc::ptr_eq(
        &contents.identities["web"],
        &first.identities["web"]
    ));

    let portless = serde_json::from_value(json!({"ID": SIDECAR, "Datacenter": "dc1",
        "Proxy": {"DestinationServiceName": "web", "LocalServicePort": 80}}));
    let fact = Fact::Registration(Arc::new(portless.unwrap()));
    world.learn(Topic::Registration(SIDECAR.to_owned()), fact);
    let contents = world.contents(&first).unwrap();
    let (now, before) = (&contents.listeners, &first.listeners);
    assert_eq!(now[inbound::LISTENER], before[inbound::LISTENER]);
    assert!(contents.clusters.contains_key(inbound::CLUSTER));

    world.default_policy("deny");
    let contents = world.contents(&first).unwrap();
    assert_eq!(verdict(&contents), Verdict::Deny, "rules act all the same");
}

/// What happens to callers that no intention names.
fn verdict(contents: &Contents) -> Verdict {
    match &contents.listeners[inbound::LISTENER].service {
        meridian_model::Service::Tcp(tcp) => tcp.authorization.as_ref().unwrap().default,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_policy_is_the_agents_unless_it_is_given() {
    let mut world = World::new(json!([]));
    world.answer_all();
    let verdict = |sidecar: Sidecar| {
        let contents = sidecar.contents(&world.knowledge, &Snapshot::default());
        verdict(&contents.unwrap())
    };
    assert_eq!(verdict(sidecar()), Verdict::Allow);
    let given = Sidecar {
        default: Some(Verdict::Deny),
        ..sidecar()
    };
    assert_eq!(verdict(given), Verdict::Deny);
}

fn extended(extension: Value) -> Fact {
    Fact::Entry(Arc::new(Some(json!({"EnvoyExtensions": [extension]}))))
}

fn defaults_of_web() -> Topic {
    use consul::entry::Entry;
    let kind = consul::entry::ServiceDefaults::KIND;
    Topic::Entry(kind, "web".to_owned())
}

fn authz(listener: &str, required: bool) -> Value {
    let service = json!({"Target": {"URI": "127.0.0.1:9000"}});
    json!({"Name": "builtin/ext-authz", "Required": required,
        "Arguments": {"ListenerType": listener, "Config": {"GrpcService": service}}})
}

fn lua(arguments: Value) -> Value {
    json!({"Name": "builtin/lua", "Required": true, "Arguments": arguments})
}

/// How many services are asked about connections to a listener.
fn asked(contents: &Contents, listener: &str) -> usize {
    match &contents.listeners[listener].service {
        meridian_model::Service::Tcp(service) => service.checks.len(),
        other => panic!("not TCP: {other:?}"),
    }
}

#[test]
fn while_a_required_extension_is_refused_filters_stay_and_all_else_acts() {
    let mut world = World::new(one());
    world.answer_all();
    world.learn(defaults_of_web(), extended(authz("inbound", true)));
    let before = published(world.contents(&Snapshot::default()).unwrap());

    world.learn(defaults_of_web(), extended(lua(json!({}))));
    world.register(two());
    world.default_policy("deny");
    world.answer_all();
    let after = world.contents(&before).unwrap();
    assert!(after.rejected[0].reason.contains("builtin/lua"));
    assert_eq!(asked(&after, inbound::LISTENER), 1, "as before");
    assert!(
        after
            .clusters
            .contains_key("local_ext_authz@127.0.0.1:9000")
    );
    assert_eq!(verdict(&after), Verdict::Deny, "rules are those of now");
    assert_eq!(asked(&after, "upstream/api"), 0);
    // Whatever it is to ask of connections to `db`, they would go without it.
    assert!(!after.listeners.contains_key("upstream/db"));
    let rejected: Vec<_> = after.rejected.iter().map(|one| &one.resource).collect();
    assert_eq!(rejected, ["proxy web-proxy", "upstream db"]);
}

#[test]
fn without_an_earlier_version_a_refused_extension_opens_nothing_until_it_is_gone() {
    let mut world = World::new(one());
    world.answer_all();
    world.learn(
        defaults_of_web(),
        extended(lua(json!({"Listener": "inbound"}))),
    );
    let mut last = Snapshot::default();
    for _ in 0..3 {
        let contents = world.contents(&last).unwrap();
        assert!(!contents.listeners.contains_key(inbound::LISTENER));
        assert!(!contents.clusters.contains_key(inbound::CLUSTER));
        assert!(contents.rejected[1].reason.contains("is not open"));
        // It is not about these.
        assert!(contents.listeners.contains_key("upstream/api"));
        last = published(contents);
    }
    world.learn(defaults_of_web(), Fact::Entry(Arc::default()));
    let contents = world.contents(&last).unwrap();
    assert_eq!(verdict(&contents), Verdict::Allow);
    assert!(contents.clusters.contains_key(inbound::CLUSTER));
    assert_eq!(contents.rejected, []);
}

#[test]
fn an_entry_that_may_ask_for_an_extension_and_is_not_read_lets_nobody_in() {
    let mut world = World::new(json!([]));
    let unread = |topic: &Topic| *topic == defaults_of_web();
    world.answer(unread);
    world.answer(unread);
    let refused = News::Failed(Trouble::answer("403"));
    world.take(defaults_of_web(), refused);
    let contents = world.contents(&Snapshot::default()).unwrap();
    assert!(!contents.listeners.contains_key(inbound::LISTENER));
}

#[test]
fn outbound_extensions_reach_every_upstream_and_bring_their_clusters() {
    let mut world = World::new(two());
    world.answer_all();
    world.learn(defaults_of_web(), extended(authz("outbound", false)));
    let contents = world.contents(&Snapshot::default()).unwrap();
    assert_eq!(contents.rejected, []);
    let names = contents.listeners.keys();
    let asked: Vec<_> = names.map(|name| asked(&contents, name.as_str())).collect();
    // The public listener comes first by its name.
    assert_eq!(asked, [0, 1, 1]);
    let made = "local_ext_authz@127.0.0.1:9000";
    assert!(contents.clusters.contains_key(made), "{contents:?}");
}
