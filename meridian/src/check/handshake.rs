//! Handshakes: what the sidecar would make of Consul's answers, and whether its upstreams believe
//! it and are who they should be.
//!
//! The snapshot is made by the sidecar's own source, so that nothing is judged here by rules that
//! are not the sidecar's.

use super::registration::Registered;
use super::report::Report;
use consul::Client;
use meridian_dataplane::probe::{ProbeError, Probed, probe};
use meridian_model::{Cluster, Health, Identity, Snapshot, SourceState, Target, Transport};
use meridian_sources::consul_mesh::{self, Sidecar};
use meridian_sources::{ConsulOptions, Source};
use meridian_telemetry::Chain;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Instances of one target that are called. More of the same would tell little.
const OF_A_TARGET: usize = 5;

pub(super) async fn check(
    client: &Client,
    registered: &Registered,
    limit: Duration,
    report: &mut Report,
) {
    let sidecar = Sidecar::ProxyId(registered.proxy.clone());
    let source = consul_mesh::run(
        client.clone(),
        sidecar,
        ConsulOptions::default(),
        Arc::new(()),
    );
    report.group("configuration");
    let Some(snapshot) = first(source, limit, report).await else {
        return;
    };
    if snapshot.rejected.is_empty() {
        report.good("all of it is honoured");
    }
    for rejection in &snapshot.rejected {
        report.warn(
            format!("{}: {}", rejection.resource, rejection.reason),
            "the rest is served; docs/consul.md says what is honoured",
        );
    }
    report.group("handshakes");
    let mut looked = false;
    for cluster in snapshot.clusters.values() {
        for target in &cluster.targets {
            looked |= instances(cluster, target, &snapshot, report).await;
        }
    }
    if !looked {
        report.good("there is no upstream to call");
    }
}

/// The sidecar's first generation, or why there is none.
async fn first(mut source: Source, limit: Duration, report: &mut Report) -> Option<Arc<Snapshot>> {
    let found = source.snapshots.wait_for(|now| now.generation > 0);
    if let Ok(Ok(found)) = tokio::time::timeout(limit, found).await {
        return Some(Arc::clone(&found));
    }
    let last = Arc::clone(&source.snapshots.borrow());
    let stale = last.sources.iter().find_map(|status| match &status.state {
        SourceState::Stale { reason, .. } => Some(reason.clone()),
        SourceState::Current => None,
    });
    let reason = stale.unwrap_or_else(|| "Consul has not answered everything".to_owned());
    report.bad(
        format!("a sidecar would not be ready within {limit:?}: {reason}"),
        "mend what is named, or wait longer with --timeout",
    );
    None
}

/// Returns whether it is a target of the mesh.
async fn instances(
    cluster: &Cluster,
    target: &Target,
    snapshot: &Snapshot,
    report: &mut Report,
) -> bool {
    let Transport::Mesh(transport) = &target.transport else {
        return false;
    };
    let healthy = || {
        target
            .endpoints
            .iter()
            .filter(|one| one.health == Health::Healthy)
    };
    let (all, able) = (target.endpoints.len(), healthy().count());
    let name = format!("{} ({})", cluster.name, target.name);
    if able == 0 {
        report.bad(
            format!("{name}: none of {all} instance(s) is healthy"),
            "start it and its sidecar, or look at its checks; a failover target takes over until then",
        );
        return true;
    }
    report.good(format!("{name}: {able} of {all} instance(s) healthy"));
    let Some(identity) = snapshot.identities.get(&transport.identity) else {
        report.bad(
            format!("{name}: there is no certificate to call it with"),
            "see the group of certificates",
        );
        return true;
    };
    for endpoint in healthy().take(OF_A_TARGET) {
        let probed = probe(
            identity,
            transport,
            cluster.protocol,
            &endpoint.address,
            cluster.connect_timeout,
        );
        let place = format!("{} at {}", endpoint.instance, endpoint.address);
        say(&place, identity, probed.await, report);
    }
    true
}

/// Less is too short to be renewed in time by anybody.
const EXPIRES_SOON: Duration = Duration::from_secs(60 * 60);

fn say(place: &str, identity: &Identity, probed: Result<Probed, ProbeError>, report: &mut Report) {
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => {
            report.bad(format!("{place}: {}", Chain(&error)), remedy(&error));
            return;
        }
    };
    let proof = format!("{place} is {}, in {:?}", probed.peer, probed.took);
    let left = probed.expires.map(|end| {
        let left = end.duration_since(SystemTime::now());
        left.unwrap_or_default()
    });
    if probed.closed {
        report.warn(
            format!("{proof}, but then closed the connection"),
            format!(
                "its intentions deny {}, or its application is not there",
                identity.name
            ),
        );
    } else if left.is_some_and(|left| left < EXPIRES_SOON) {
        report.warn(
            format!("{proof}, but its certificate ends within the hour"),
            "look into its agent's log why it is not renewed",
        );
    } else {
        report.good(proof);
    }
}

fn remedy(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Own(_) => "see the group of certificates",
        ProbeError::Name(_) => "mend ExternalSNI of its service-defaults",
        ProbeError::Connect(_) => {
            "start its sidecar; if it runs, look at the network and at the registered address"
        }
        ProbeError::Timeout(_) => "look at the network between here and there: packets are lost",
        ProbeError::Handshake(error) => match error.failure.as_str() {
            "expired" | "not_yet_valid" => {
                "its certificate is not renewed, or a clock is wrong: run this check beside it"
            }
            "unknown_issuer" | "unknown_trust_domain" => {
                "it is of another cluster, or has not learned of a new root"
            }
            "wrong_identity" | "bad_spiffe" => {
                "another service listens there: look at the registered address and port"
            }
            "refused" => "it does not believe our certificate: run this check beside it",
            _ => "see whether its sidecar listens there, and not the application itself",
        },
    }
}
