//! What a listener presents, made ready from its model and the identities of a snapshot.

use crate::listener::{Behind, Entrance, Way};
use crate::sni::SniMap;
use crate::tls::{self, TlsError};
use meridian_model::listener::Alpn;
use meridian_model::sni::{SniAction, SniService, TerminatedService};
use meridian_model::{Identity, IdentityName, Listener, Security, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

type Identities = BTreeMap<IdentityName, Arc<Identity>>;

/// Names of the identities that a listener presents.
pub(super) fn presented(listener: &Listener) -> impl Iterator<Item = &IdentityName> {
    let own = match &listener.security {
        Security::Mesh { identity, .. } => Some(identity),
        Security::Plain | Security::Edge(_) => None,
    };
    let chains = match &listener.service {
        Service::BySni(service) => service.chains.as_slice(),
        Service::Http(_) | Service::Tcp(_) => &[],
    };
    let of_chains = chains.iter().filter_map(|chain| match &chain.action {
        SniAction::Terminate { identity, .. } => Some(identity),
        SniAction::Passthrough { .. } => None,
    });
    own.into_iter().chain(of_chains)
}

/// The entrance. An identity that is missing is an error, never a listener without protection;
/// a chain that cannot be made ready is handed to `refused` and not served, beside the others.
pub(super) fn entrance(
    listener: &Listener,
    identities: &Identities,
    refused: impl FnMut(&str, &TlsError),
) -> Result<Entrance, TlsError> {
    if let Service::BySni(service) = &listener.service {
        return Ok(by_sni(service, identities, refused));
    }
    match &listener.security {
        Security::Plain => Ok(Entrance::Plain),
        Security::Edge(edge) => tls::edge_server_config(edge).map(Entrance::Tls),
        Security::Mesh {
            identity,
            alpn,
            terms,
        } => {
            let identity = identities.get(identity).ok_or(TlsError::NoCertificate)?;
            // Bytes are not negotiated: a TCP service offers no protocol.
            let offered: &[Alpn] = match &listener.service {
                Service::Http(_) => alpn,
                Service::Tcp(_) | Service::BySni(_) => &[],
            };
            tls::mesh_server_config(identity, offered, terms).map(Entrance::Tls)
        }
    }
}

fn by_sni(
    service: &SniService,
    identities: &Identities,
    mut refused: impl FnMut(&str, &TlsError),
) -> Entrance {
    let mut ways = Vec::with_capacity(service.chains.len());
    for chain in &service.chains {
        match way(&chain.action, identities) {
            Ok(way) => ways.push((chain.names.as_slice(), way)),
            Err((identity, error)) => refused(&format!("identity {identity}"), &error),
        }
    }
    Entrance::BySni(Arc::new(SniMap::new(ways)))
}

fn way<'a>(
    action: &'a SniAction,
    identities: &Identities,
) -> Result<Way, (&'a IdentityName, TlsError)> {
    let (name, alpn, terms, service) = match action {
        SniAction::Passthrough { .. } => return Ok(Way::Through),
        SniAction::Terminate {
            identity,
            alpn,
            terms,
            service,
        } => (identity, alpn, terms, service),
    };
    let (behind, offered) = match service {
        TerminatedService::Http(_) => (Behind::Http, alpn.as_slice()),
        TerminatedService::Tcp(_) => (Behind::Bytes, &[][..]),
    };
    let config = identities
        .get(name)
        .ok_or(TlsError::NoCertificate)
        .and_then(|identity| tls::mesh_server_config(identity, offered, terms))
        .map_err(|error| (name, error))?;
    Ok(Way::Ends(config, behind))
}
