//! The run-time vocabulary of Meridian: what a proxy at one moment knows.
//!
//! Plain immutable values. Sources write them, the data plane reads them, and
//! neither knows the other. No I/O, no serde, no async runtime and no proxy
//! library may appear here, so that every part of the system can be tested by
//! writing a value down.
//!
//! Read in this order: a [`Snapshot`] holds [`Listener`]s; a listener leads
//! through [`RouteTable`]s to [`Cluster`]s; a cluster holds [`Target`]s with
//! [`Endpoint`]s; an [`Identity`] says who we are and whom we trust; an
//! [`Authorization`] says who may call us.

pub mod access_log;
pub mod blueprint;
pub mod cluster;
pub mod endpoint;
pub mod external;
pub mod header;
pub mod identity;
pub mod intention;
pub mod jwt;
pub mod listener;
pub mod log;
pub mod name;
pub mod operator;
pub mod pattern;
pub mod policy;
pub mod rate;
pub mod route;
pub mod snapshot;
pub mod sni;
pub mod tls;

pub use access_log::AccessLogPlan;
pub use blueprint::{Backend, Blueprint, ConsulService, Discovery};
pub use cluster::{Cluster, Target, Transport, UpstreamProtocol};
pub use endpoint::{Endpoint, EndpointAddress, Health};
pub use external::ExternalAuthorization;
pub use header::HeaderText;
pub use identity::{Identity, PrivateKey, SpiffeId, TrustBundle, TrustDomain};
pub use intention::{Authorization, Decision, Intention, Verdict};
pub use jwt::{JwtProvider, JwtRequirement};
pub use listener::{Bind, Direction, Listener, Security, Service};
pub use log::LogExport;
pub use name::{ClusterName, IdentityName, ListenerName, RouteName};
pub use pattern::Pattern;
pub use rate::{RateLimit, RouteRate, TokenBucket};
pub use route::{Route, RouteAction, RouteMatch, RouteTable};
pub use snapshot::{Rejection, Snapshot, SourceState, SourceStatus, StaleCause};
pub use tls::{CipherSuite, TlsTerms};
