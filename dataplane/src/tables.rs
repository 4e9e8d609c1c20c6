//! What runs: tables prepared from a snapshot, so that the request path only
//! looks things up.
//!
//! | module | what |
//! |---|---|
//! | [`apps`] | a listener's routes and rules, with handles on their clusters |
//! | [`clusters`] | a cluster's targets, transport profiles and balancers |
//!
//! Routes hold a [`ClusterHandle`], whose state is swapped by itself: a changed
//! endpoint touches its cluster and nothing else.

mod apps;
mod clusters;

pub(crate) use apps::{Action, App, HttpApp, RouteTelemetry, TcpApp, WeightedHandle};
pub(crate) use apps::{AppBuilder, draw};
pub(crate) use clusters::{ClusterHandle, ClusterState, Clusters, Picked, TargetState};
