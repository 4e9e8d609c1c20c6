//! What a sidecar costs Consul, counted at a scripted agent: open queries, answers and bytes, at
//! rest and when one instance changes. docs/scale.md builds on these numbers.

mod scripted;

use crate::wait;
use consul::{Address, Client, ClientConfig};
use meridian_model::Snapshot;
use meridian_sources::consul_mesh::{self, Sidecar};
use meridian_sources::{ConsulOptions, Source};
use scripted::{Counts, Scripted};
use std::sync::Arc;

/// Instances of each service, as in docs/scale.md: 100,000 of 10,000 services.
const INSTANCES: usize = 10;

/// Blocking queries of a sidecar without upstreams: registration, leaf, roots, intentions, `mesh`
/// entry. More may come, but each is one more for every sidecar there is.
const FIXED: usize = 8;

/// Of an upstream: its chain, and the instances of its only target.
const EACH: usize = 2;

fn follow(agent: &Scripted, service: &str) -> Source {
    let address = Address::parse(agent.address(), false).expect("an address");
    consul_mesh::run(
        Client::new(ClientConfig::new(address)).expect("a client"),
        Sidecar::ProxyId(format!("{service}-proxy")),
        ConsulOptions::default(),
        Arc::new(()),
    )
}

/// Sidecars of services that call `upstreams` others each, complete and at rest.
async fn at_rest(agent: &Scripted, names: &[&str], upstreams: usize) -> Vec<Source> {
    let mut sources = Vec::new();
    for name in names {
        agent.register(name, upstreams);
        sources.push(follow(agent, name));
    }
    for source in &mut sources {
        let complete = |now: &Snapshot| now.generation > 0;
        let snapshot = wait(source, "a complete sidecar", complete).await;
        // Each upstream, and the application itself.
        assert_eq!(snapshot.clusters.len(), upstreams + 1);
    }
    agent.settled().await;
    sources
}

#[tokio::test]
async fn a_sidecar_holds_two_queries_open_for_each_upstream() {
    let mut open = Vec::new();
    for upstreams in [10, 40] {
        let agent = Scripted::start(INSTANCES).await;
        let _sources = at_rest(&agent, &["web"], upstreams).await;
        open.push(agent.counts().open);
    }
    assert_eq!(open[1] - open[0], 30 * EACH, "{open:?}");
    assert!(open[0] <= FIXED + 10 * EACH, "{open:?}");
}

#[tokio::test]
async fn everything_is_fetched_once() {
    let agent = Scripted::start(INSTANCES).await;
    let _sources = at_rest(&agent, &["web"], 40).await;
    let Counts {
        open,
        answers,
        bytes,
    } = agent.counts();
    // What is open was answered once; the agent's own settings are polled, and chains and
    // intentions may be asked again when their first answers race with the index.
    assert!((open..=open + 5).contains(&answers), "{answers} for {open}");
    // The lists of instances are nearly all of it.
    let lists = 40 * agent.instances_of("service-0").len();
    assert!(
        (lists..lists * 13 / 10).contains(&bytes),
        "{bytes}, {lists}"
    );
}

#[tokio::test]
async fn a_changed_instance_costs_its_own_list_for_each_caller() {
    let agent = Scripted::start(INSTANCES).await;
    // Ten sidecars; each calls services 0 to 9.
    let names: Vec<_> = (0..10).map(|number| format!("web-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut sources = at_rest(&agent, &names, 10).await;
    let before: Vec<_> = sources
        .iter_mut()
        .map(|source| source.snapshots.borrow_and_update().clone())
        .collect();
    let counted = agent.counts();

    agent.fail_an_instance("service-3");
    for (source, before) in sources.iter_mut().zip(&before) {
        let changed = |now: &Snapshot| now.clusters["service-3"] != before.clusters["service-3"];
        let after = wait(source, "the change", changed).await;
        assert_eq!(
            after.generation,
            before.generation + 1,
            "one change, one snapshot"
        );
        for (name, cluster) in &after.clusters {
            let same = Arc::ptr_eq(cluster, &before.clusters[name]);
            assert_eq!(same, name.as_str() != "service-3", "{name}");
        }
    }
    agent.settled().await;
    let now = agent.counts();
    assert_eq!(now.open, counted.open);
    // Polls of the agent's settings may fall into this time; they are a hundred bytes each.
    let answers = now.answers - counted.answers;
    assert!((10..=30).contains(&answers), "{answers}");
    let lists = 10 * agent.instances_of("service-3").len();
    let bytes = now.bytes - counted.bytes;
    assert!(
        (lists..lists + 20 * 200).contains(&bytes),
        "{bytes}, {lists}"
    );
}
