//! Who may call a public listener that is there already: those of now, or nobody.

use super::{CLUSTER, LISTENER};
use crate::publish::Contents;
use meridian_model::listener::{HttpService, TcpService};
use meridian_model::{Authorization, Listener, Service};
use std::sync::Arc;

/// The listener under other rules about who may call.
pub(crate) fn under(rules: &Arc<Authorization>, listener: &Listener) -> Listener {
    let authorization = Some(Arc::clone(rules));
    let service = match &listener.service {
        Service::Tcp(service) => Service::Tcp(Arc::new(TcpService {
            authorization,
            ..TcpService::clone(service)
        })),
        Service::Http(service) => Service::Http(Arc::new(HttpService {
            authorization,
            ..HttpService::clone(service)
        })),
        Service::BySni(service) => Service::BySni(Arc::clone(service)),
    };
    Listener {
        service,
        ..listener.clone()
    }
}

/// The same inbound side without its public listener: Consul's check of the port fails then, and
/// callers go elsewhere, where an open listener that refuses everybody would draw them.
pub(crate) fn closed(mut contents: Contents) -> Contents {
    contents.listeners.remove(LISTENER);
    contents.clusters.remove(CLUSTER);
    contents
}
