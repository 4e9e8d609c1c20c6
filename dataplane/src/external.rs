//! External authorization at work (Consul's `builtin/ext-authz`, Envoy's `ext_authz`): a service
//! is asked, and its answer lets a request pass, changes it, or refuses it.
//!
//! No answer is an answer too: what it means is the operator's word.

mod change;
mod message;
mod over_grpc;
mod over_http;

pub(crate) use change::{Change, apply};

use crate::downstream::Connection;
use crate::grpc::{GrpcError, Method};
use crate::headers::RequestHeader;
use crate::tables::{App, ClusterHandle};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use meridian_model::external::{CheckProtocol, OnCheckError};
use meridian_model::{ExternalAuthorization, SpiffeId};
use meridian_telemetry::Chain;
use std::sync::Arc;

/// A service that is asked.
pub(crate) struct Check {
    /// How, and what without an answer.
    pub(crate) model: Arc<ExternalAuthorization>,
    cluster: Arc<ClusterHandle>,
    /// What is called, where it is gRPC. `None` in place of what no head can hold.
    method: Option<Method>,
}

/// What is known of a connection, and of the request on it.
pub(crate) struct Facts<'a> {
    pub(crate) connection: &'a Connection<App>,
    /// Who is called.
    pub(crate) own: Option<&'a SpiffeId>,
    /// `None` where all is bytes.
    pub(crate) request: Option<RequestFacts<'a>>,
}

/// What is known of a request.
pub(crate) struct RequestFacts<'a> {
    pub(crate) head: &'a RequestHeader,
    /// Its ID.
    pub(crate) id: &'a HeaderValue,
    /// The start of its body; `None` where the service is shown nothing of it.
    pub(crate) body: Option<ShownBody>,
}

/// What is shown of a body.
#[derive(Clone)]
pub(crate) struct ShownBody {
    pub(crate) bytes: Bytes,
    /// Whether there is more.
    pub(crate) partial: bool,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It may pass, with these changes.
    Pass {
        request: Vec<Change>,
        response: Vec<Change>,
    },
    /// It may not.
    Refuse(Refusal),
}

/// What a refused client is told.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// Whether this is for want of an answer.
    pub(crate) unanswered: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("ask it by gRPC")]
    Grpc(#[from] GrpcError),
    #[error("ask it by HTTP")]
    Http(#[from] over_http::HttpError),
    /// It was asked, and could not decide.
    #[error("it could not decide")]
    Undecided {
        status: Option<StatusCode>,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    },
    /// It wants what can't be done.
    #[error("{0} is not honoured")]
    Unhonoured(&'static str),
}

impl Check {
    /// Prepares what is the same for all requests.
    pub(crate) fn prepare(model: &Arc<ExternalAuthorization>, cluster: Arc<ClusterHandle>) -> Self {
        let method = match &model.protocol {
            CheckProtocol::Http(_) => None,
            CheckProtocol::Grpc(check) => {
                let authority = check.authority.as_deref();
                let (cluster, metadata) = (&model.cluster, &check.metadata);
                Method::new(over_grpc::PATH, authority, cluster, metadata, model.timeout)
            }
        };
        Self {
            model: Arc::clone(model),
            cluster,
            method,
        }
    }

    /// Asks, for at most as long as the model allows.
    pub(crate) async fn ask(&self, facts: &Facts<'_>) -> Decision {
        let error = match self.try_ask(facts).await {
            Ok(decision) => return decision,
            Err(error) => error,
        };
        tracing::warn!(
            cluster = %self.model.cluster,
            error = %Chain(&error),
            "no answer about a request from the external authorization"
        );
        let status = match self.model.on_error {
            OnCheckError::Allow => return Decision::pass(),
            OnCheckError::Deny(status) => status,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        Decision::Refuse(match error {
            CheckError::Undecided {
                status: own,
                headers,
                body,
            } => Refusal {
                status: own.unwrap_or(status),
                headers,
                body,
                unanswered: true,
            },
            _ => Refusal {
                unanswered: true,
                ..Refusal::of(status)
            },
        })
    }

    async fn try_ask(&self, facts: &Facts<'_>) -> Result<Decision, CheckError> {
        let cluster = self.cluster.state().ok_or(GrpcError::NoCluster)?;
        match (&self.model.protocol, &self.method, &facts.request) {
            (CheckProtocol::Http(check), _, Some(request)) => {
                over_http::ask(check, self.model.timeout, &cluster, request).await
            }
            (CheckProtocol::Grpc(_), Some(method), _) => {
                let question = over_grpc::question(&self.model, facts);
                let answer = method.call(&cluster, &question).await?;
                over_grpc::decision(answer)
            }
            // Bytes have no request that could be sent along.
            (CheckProtocol::Http(_), _, None) => {
                Err(CheckError::Unhonoured("a question by HTTP about bytes"))
            }
            (CheckProtocol::Grpc(_), None, _) => Err(GrpcError::Metadata.into()),
        }
    }
}

impl Refusal {
    /// A status and nothing else.
    pub(crate) fn of(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            unanswered: false,
        }
    }
}

impl Decision {
    fn pass() -> Self {
        Self::Pass {
            request: Vec::new(),
            response: Vec::new(),
        }
    }
}
