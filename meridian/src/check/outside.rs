//! Services outside of the mesh, called as a terminating gateway calls them.

use super::handshake::{OF_A_TARGET, ends_within};
use super::report::Report;
use meridian_dataplane::probe::{ProbeError, ProbedOutside, probe_outside};
use meridian_model::cluster::TlsTransport;
use meridian_model::{Cluster, Health, Transport};
use meridian_telemetry::Chain;
use std::time::Duration;

/// Outside of the mesh certificates live for months, and are renewed weeks before they end.
pub(super) const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Calls a service outside of the mesh, as a terminating gateway would.
pub(super) async fn check(cluster: &Cluster, report: &mut Report) {
    let name = &cluster.name;
    let Some(target) = cluster.targets.first() else {
        report.bad(
            format!("{name}: it is not known how to call it"),
            "see the group of configuration: its TLS can't be made ready",
        );
        return;
    };
    let tls = match &target.transport {
        Transport::Tls(tls) => Some(tls),
        Transport::Plain | Transport::Mesh(_) => None,
    };
    if target.endpoints.is_empty() {
        report.bad(
            format!("{name}: nobody is known who could be called"),
            "register an instance of it, or see the group of configuration",
        );
        return;
    }
    // Checks may be wrong about a place that only the gateway reaches.
    for endpoint in target.endpoints.iter().take(OF_A_TARGET) {
        let place = format!("{} at {}", endpoint.instance, endpoint.address);
        let probed = probe_outside(
            tls,
            cluster.protocol,
            &endpoint.address,
            cluster.connect_timeout,
        );
        say(&place, tls, probed.await, report);
        if endpoint.health != Health::Healthy {
            report.warn(
                format!("{place} fails its checks"),
                "look at their output; below half of the instances healthy all are called",
            );
        }
    }
}

fn say(
    place: &str,
    tls: Option<&TlsTransport>,
    probed: Result<ProbedOutside, ProbeError>,
    report: &mut Report,
) {
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => {
            report.bad(format!("{place}: {}", Chain(&error)), remedy(&error));
            return;
        }
    };
    let took = probed.took;
    let proof = match tls {
        None => format!("{place} can be reached, without TLS, in {took:?}"),
        Some(tls) => match &tls.server_name {
            Some(name) => format!("{place} proves to be {name}, in {took:?}"),
            None => format!("{place} has a certificate of its CAFile, in {took:?}"),
        },
    };
    if probed.closed {
        report.warn(
            format!("{proof}, but then closed the connection"),
            "see in its own log why it lets this machine go",
        );
    } else if ends_within(probed.expires, SOON) {
        report.warn(
            format!("{proof}, but its certificate ends within a week"),
            "have it renewed by whoever runs the service",
        );
    } else {
        report.good(proof);
    }
}

fn remedy(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Own(_) | ProbeError::Setup(_) => {
            "mend CAFile, CertFile and KeyFile of its link in the terminating-gateway entry"
        }
        ProbeError::Name(_) => "mend SNI of its link in the terminating-gateway entry",
        ProbeError::Connect(_) => {
            "start the service; if it runs, look at the network and at its registered address"
        }
        ProbeError::Timeout(_) => "look at the network between here and there: packets are lost",
        ProbeError::Handshake(error) => match error.failure.as_str() {
            "expired" | "not_yet_valid" => "have its certificate renewed by whoever runs it",
            "unknown_issuer" => "another authority signed its certificate: mend CAFile of its link",
            "wrong_identity" => "its certificate is for another name: mend SNI of its link",
            "refused" => "it wants a certificate that it believes: mend CertFile and KeyFile",
            _ => "see whether it speaks TLS there; without TLS its link has no CAFile",
        },
    }
}
