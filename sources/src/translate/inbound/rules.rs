//! Other rules for a public listener that is there already: those of now, or that nobody may call.

use super::{CLUSTER, LISTENER};
use crate::publish::Contents;
use meridian_model::listener::{HttpService, TcpService};
use meridian_model::{Authorization, Listener, RouteTable, Service, Verdict};
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

/// The same inbound side with its public listener closed to everybody. It leads nowhere then, by
/// which later generations tell that it is no version to go by.
pub(crate) fn closed(mut contents: Contents) -> Contents {
    contents.clusters.remove(CLUSTER);
    let Some(listener) = contents.listeners.get(LISTENER) else {
        return contents;
    };
    let nobody = Arc::new(Authorization {
        intentions: Vec::new(),
        default: Verdict::Deny,
        providers: Vec::new(),
    });
    let mut closed = under(&nobody, listener);
    closed.service = match closed.service {
        Service::Tcp(service) => Service::Tcp(Arc::new(TcpService {
            clusters: Vec::new(),
            ..TcpService::clone(&service)
        })),
        Service::Http(service) => Service::Http(Arc::new(HttpService {
            routes: Arc::new(RouteTable {
                hosts: Vec::new(),
                ..RouteTable::clone(&service.routes)
            }),
            ..HttpService::clone(&service)
        })),
        by_sni @ Service::BySni(_) => by_sni,
    };
    contents.listener(closed);
    contents
}
