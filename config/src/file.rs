//! What was written: one serde type a block of the file.
//!
//! The doc comment of each field is its reference documentation: the JSON
//! Schema and `docs/configuration.md` are made of them.

mod backend;
mod gateway;
mod listener;
mod mesh;
mod policy;
mod route;
mod scalar;
mod startup;

pub(crate) use backend::DNS_REFRESH;
pub use backend::{
    Backend, BackendProtocol, BackendTls, ConsulDiscovery, Discovery, DnsDiscovery,
    StaticDiscovery, StaticEndpoint,
};
pub use gateway::{GatewayFile, GatewayVersion, Service};
pub use listener::{
    CertificateRef, Deadlines, Limits, Listener, ListenerProtocol, ListenerTls, TlsVersion,
};
pub use mesh::{MeshFile, MeshVersion};
pub use policy::{
    BackendPolicy, CircuitBreaker, LoadBalancing, LoadBalancingType, PassiveHealth, PolicyTarget,
    TargetKind,
};
pub use route::{
    BackendRef, Filter, FilterType, Header, HeaderMatch, HeaderModifier, Method, ParentRef,
    PathMatch, PathMatchType, PathRewrite, PathRewriteType, QueryParamMatch, Redirect,
    RedirectStatus, Retry, Route, RouteMatch, Rule, Scheme, Timeouts, UrlRewrite, ValueMatchType,
};
pub(crate) use scalar::SYNTAXES;
pub use scalar::{
    Duration, HeaderName, HeaderValue, HostPattern, HttpUrl, IpAddress, Name, Percentage, Size,
    SocketAddress,
};
pub use startup::{
    AccessLog, AccessLogFormat, Admin, Consul, ConsulTls, Drain, LogLevel, Telemetry, Tracing,
};
