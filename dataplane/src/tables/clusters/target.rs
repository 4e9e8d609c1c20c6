//! A target at one generation: what protects connections to its endpoints, and which of them
//! is next. Both outlive a change that does not touch them.

use super::state::ClusterState;
use crate::balance::{BalanceOptions, Balancer};
use crate::tls::{self, TlsError};
use crate::upstream::TransportProfile;
use crate::upstream::profile::Security;
use meridian_model::listener::Alpn;
use meridian_model::{Cluster, Identity, Target, Transport, UpstreamProtocol};
use meridian_telemetry::Chain;
use rustls_pki_types::ServerName;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// A target at one generation.
pub(crate) struct TargetState {
    /// What is wanted of it.
    pub(crate) model: Arc<Target>,
    /// The identity that is presented to it.
    pub(super) identity: Option<Arc<Identity>>,
    /// How its endpoints are reached safely.
    pub(super) profile: Arc<TransportProfile>,
    /// Which of them is next. Outlives changes of the endpoints.
    pub(super) balancer: Arc<Balancer>,
}

impl TargetState {
    pub(super) fn new(
        cluster: &Cluster,
        target: &Arc<Target>,
        identity: Option<Arc<Identity>>,
        old: Option<&Self>,
        before: Option<&ClusterState>,
    ) -> Self {
        let now = Instant::now();
        let same_cluster = before.is_some_and(|before| {
            before.model.balancing == cluster.balancing
                && before.model.protocol == cluster.protocol
                && before.model.panic_percent == cluster.panic_percent
        });
        let old = old.filter(|_| same_cluster);
        let kept = old.filter(|old| {
            old.model.transport == target.transport
                && same(old.identity.as_ref(), identity.as_ref())
        });
        let profile = match (kept, old) {
            (Some(kept), _) => Arc::clone(&kept.profile),
            (None, Some(old)) if old.is_renewed_by(target, identity.as_deref()) => {
                let security = ready(cluster.protocol, &target.transport, identity.as_deref());
                Arc::new(old.profile.renewed(security, now))
            }
            (None, _) => {
                let security = ready(cluster.protocol, &target.transport, identity.as_deref());
                Arc::new(TransportProfile::new(cluster.protocol, security))
            }
        };
        let balancer = match old {
            Some(old) => {
                old.balancer.update(&target.endpoints, now);
                Arc::clone(&old.balancer)
            }
            None => Arc::new(Balancer::new(
                cluster.balancing.clone(),
                BalanceOptions {
                    panic_percent: cluster.panic_percent,
                    ..BalanceOptions::default()
                },
                &target.endpoints,
                now,
            )),
        };
        Self {
            model: Arc::clone(target),
            identity,
            profile,
            balancer,
        }
    }

    /// Its endpoints, with what is measured about them.
    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Whether only the leaf is new, or roots were added: then connections that
    /// were made before are as trustworthy as they were.
    fn is_renewed_by(&self, target: &Target, identity: Option<&Identity>) -> bool {
        let (Some(old), Some(new)) = (&self.identity, identity) else {
            return false;
        };
        self.model.transport == target.transport
            && old.spiffe == new.spiffe
            && old.trust.roots.iter().all(|(domain, roots)| {
                let now = new.trust.roots.get(domain);
                now.is_some_and(|now| roots.iter().all(|root| now.contains(root)))
            })
    }
}

pub(super) fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// The transport made ready, or the reason why it can't be.
fn ready(
    protocol: UpstreamProtocol,
    transport: &Transport,
    identity: Option<&Identity>,
) -> Security {
    secure(protocol, transport, identity)
        .unwrap_or_else(|error| Security::Unusable(Chain(&error).to_string()))
}

fn secure(
    protocol: UpstreamProtocol,
    transport: &Transport,
    identity: Option<&Identity>,
) -> Result<Security, TlsError> {
    let alpn = match protocol {
        UpstreamProtocol::Tcp => None,
        UpstreamProtocol::Http1 => Some(Alpn::Http1),
        UpstreamProtocol::Http2 => Some(Alpn::H2),
    };
    let (config, name) = match transport {
        Transport::Plain => return Ok(Security::Plain),
        Transport::Mesh(mesh) => {
            let identity = identity.ok_or(TlsError::NoCertificate)?;
            let config = tls::mesh_client_config(identity, mesh, alpn)?;
            (config, Some(&mesh.sni))
        }
        Transport::Tls(outside) => {
            let config = tls::tls_client_config(outside, alpn)?;
            (config, outside.server_name.as_ref())
        }
    };
    let Some(name) = name else {
        return Ok(Security::Tls {
            config,
            // Stands where rustls wants a name: none is sent or verified.
            server_name: ServerName::from(Ipv4Addr::UNSPECIFIED),
        });
    };
    match ServerName::try_from(name.to_string()) {
        Ok(server_name) => Ok(Security::Tls {
            config,
            server_name,
        }),
        Err(_) => Ok(Security::Unusable(format!("{name:?} is no server name"))),
    }
}
