//! Handshakes: whether those who are called believe the proxy and are who they should be.

use super::report::Report;
use meridian_dataplane::probe::{ProbeError, Probed, probe};
use meridian_model::{Cluster, Endpoint, Health, Identity, Snapshot, Target, Transport};
use meridian_telemetry::Chain;
use std::time::{Duration, SystemTime};

/// Instances of one target that are called. More of the same would tell little.
pub(super) const OF_A_TARGET: usize = 5;

/// Calls everybody in the mesh whom the proxy would call.
pub(super) async fn mesh(snapshot: &Snapshot, report: &mut Report) {
    let mut looked = false;
    for cluster in snapshot.clusters.values() {
        for target in &cluster.targets {
            looked |= instances(cluster, target, snapshot, report).await;
        }
    }
    if !looked {
        report.good("there is no upstream to call");
    }
}

/// Whether a certificate ends that soon.
pub(super) fn ends_within(expires: Option<SystemTime>, time: Duration) -> bool {
    let left = expires.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    left.is_some_and(|left| left < time)
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
    let is_healthy = |one: &&Endpoint| one.health == Health::Healthy;
    let healthy = || target.endpoints.iter().filter(is_healthy);
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
    if probed.closed {
        report.warn(
            format!("{proof}, but then closed the connection"),
            format!(
                "its intentions deny {}, or its application is not there",
                identity.name
            ),
        );
    } else if ends_within(probed.expires, EXPIRES_SOON) {
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
        ProbeError::Own(_) | ProbeError::Setup(_) => "see the group of certificates",
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
