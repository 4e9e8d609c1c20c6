//! Route tables that do one thing with every request.

use super::inbound::CLUSTER;
use meridian_model::policy::RouteTimeouts;
use meridian_model::route::{Precedence, VirtualHost};
use meridian_model::{ClusterName, Route, RouteAction, RouteName, RouteTable};
use std::sync::Arc;

/// Sends every request to one cluster.
pub(crate) fn everything_to(cluster: &ClusterName, timeouts: RouteTimeouts) -> RouteTable {
    let mut action = RouteAction::forward(cluster.clone());
    action.timeouts = timeouts;
    everything(action)
}

/// Does this with every request.
pub(crate) fn everything(action: RouteAction) -> RouteTable {
    RouteTable {
        ports: Default::default(),
        precedence: Precedence::FirstMatch,
        hosts: vec![VirtualHost {
            hosts: vec!["*".to_owned()],
            routes: vec![Route {
                name: RouteName::from(CLUSTER),
                matches: Arc::default(),
                action: Arc::new(action),
            }],
        }],
    }
}
