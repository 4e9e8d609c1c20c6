//! Of a mesh gateway: the services that it leads to, and the gateways of other datacenters.
//!
//! It holds no key, so nothing but a connection can be made from here: whose handshake passes is
//! seen by the sidecars' own checks.

use crate::check::handshake::OF_A_TARGET;
use crate::check::report::Report;
use meridian_dataplane::probe::{ProbeError, probe_outside};
use meridian_model::{Cluster, Endpoint, Health, Snapshot};
use meridian_telemetry::Chain;

/// How the source names the clusters of other datacenters.
const DATACENTER: &str = "dc/";

/// And those of Consul's own servers.
const SERVERS: &str = "servers";

pub(super) async fn check(snapshot: &Snapshot, report: &mut Report) {
    report.group("services");
    services(snapshot, report);
    report.group("datacenters");
    let mut looked = false;
    for (datacenter, cluster) in others(snapshot) {
        looked = true;
        gateways(datacenter, cluster, report).await;
    }
    if !looked {
        report.good("there is no other datacenter");
    }
}

/// Whether the gateways of every other datacenter are known, or why they are not.
pub(super) fn are_all_known(snapshot: &Snapshot) -> bool {
    others(snapshot).all(|(datacenter, cluster)| {
        let resource = format!("datacenter {datacenter}");
        let mut rejected = snapshot.rejected.iter();
        endpoints(cluster).next().is_some() || rejected.any(|one| one.resource == resource)
    })
}

fn others(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &Cluster)> {
    let clusters = snapshot.clusters.iter();
    clusters.filter_map(|(name, cluster)| {
        let datacenter = name.as_str().strip_prefix(DATACENTER)?;
        Some((datacenter, &**cluster))
    })
}

fn endpoints(cluster: &Cluster) -> impl Iterator<Item = &Endpoint> {
    let targets = cluster.targets.iter();
    targets.flat_map(|target| target.endpoints.iter())
}

fn services(snapshot: &Snapshot, report: &mut Report) {
    let own = snapshot.clusters.iter().filter(|(name, _)| {
        let name = name.as_str();
        !name.starts_with(DATACENTER) && !name.starts_with(SERVERS)
    });
    let healthy = |cluster: &Cluster| endpoints(cluster).any(|one| one.health == Health::Healthy);
    let (able, without): (Vec<_>, Vec<_>) = own.partition(|(_, cluster)| healthy(cluster));
    let all = able.len() + without.len();
    let finding = format!(
        "{} of {all} service(s) and subset(s) of this datacenter have a healthy instance in the mesh",
        able.len()
    );
    if able.is_empty() && all > 0 {
        report.warn(
            finding,
            "start those that are to be called from elsewhere, and their sidecars",
        );
    } else {
        report.good(finding);
    }
}

async fn gateways(datacenter: &str, cluster: &Cluster, report: &mut Report) {
    let mut looked = false;
    for endpoint in endpoints(cluster).take(OF_A_TARGET) {
        looked = true;
        let place = format!(
            "{datacenter}: {} at {}",
            endpoint.instance, endpoint.address
        );
        let limit = cluster.connect_timeout;
        match probe_outside(None, cluster.protocol, &endpoint.address, limit).await {
            Ok(probed) if probed.closed => report.bad(
                format!("{place} closes the connection"),
                "see whether a mesh gateway listens there, and its log",
            ),
            Ok(probed) => {
                report.good(format!("{place} can be reached, in {:?}", probed.took));
            }
            Err(error) => report.bad(format!("{place}: {}", Chain(&error)), remedy(&error)),
        }
    }
    if !looked {
        report.bad(
            format!("{datacenter}: no mesh gateway of it is known"),
            "register one there: meshd run --gateway mesh ... --wan-address IP:PORT --register; or \
             grant service:read and node:read in that datacenter",
        );
    }
}

fn remedy(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Timeout(_) => {
            "open the way between the datacenters for its WAN address, or mend --wan-address"
        }
        _ => "start that gateway, or mend its --wan-address",
    }
}
