//! External authorization: a service of the operator's that is asked about requests and
//! connections (Consul's extension `builtin/ext-authz`).

use crate::ClusterName;
use crate::route::ValueMatch;
use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// A service that is asked, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalAuthorization {
    /// Where it is. A cluster that is missing is a service that does not answer.
    pub cluster: ClusterName,
    /// In which words it is asked.
    pub protocol: CheckProtocol,
    /// How long it may take altogether.
    pub timeout: Duration,
    /// What holds where it gives no answer.
    pub on_error: OnCheckError,
    /// Whether it is shown the client's certificate.
    pub include_certificate: bool,
    /// How much of a request's body it is shown; `None` for nothing.
    pub body: Option<CheckBody>,
}

/// What holds where there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCheckError {
    /// The request goes on.
    Allow,
    /// The request is refused with this status.
    Deny(u16),
}

/// How much of a request's body is shown. Requests wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckBody {
    /// Bytes that are shown and held at most.
    pub most: u32,
    /// Whether a longer body is shown in part. Otherwise its request is refused with 413.
    pub partial: bool,
    /// Whether gRPC carries it as bytes instead of text.
    pub raw: bool,
}

/// In which words a service is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckProtocol {
    /// By a request like the client's own; 200 lets it pass.
    Http(HttpCheck),
    /// By `envoy.service.auth.v3.Authorization/Check`.
    Grpc(GrpcCheck),
}

/// What passes between client, service and application by HTTP. Names of headers are compared in
/// lower case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpCheck {
    /// Put before the request's path.
    pub path_prefix: String,
    /// Headers of the request that are shown, besides `host`, `content-length` and
    /// `authorization`.
    pub shown: Vec<ValueMatch>,
    /// Further headers for the service.
    pub added: Vec<(HeaderName, HeaderValue)>,
    /// Headers of a 200 that replace those of the request.
    pub to_upstream: Vec<ValueMatch>,
    /// Headers of a 200 whose values join those that the request has under that name.
    pub joined_upstream: Vec<ValueMatch>,
    /// Headers of a 200 that join the application's response.
    pub to_client: Vec<ValueMatch>,
    /// Headers of a refusal that the client is shown, besides `location` and
    /// `www-authenticate`; empty for all.
    pub refused_client: Vec<ValueMatch>,
}

/// How a service is called by gRPC.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GrpcCheck {
    /// `:authority` of the call, if not the cluster's name.
    pub authority: Option<String>,
    /// Further metadata of the call.
    pub metadata: Vec<(HeaderName, HeaderValue)>,
}
