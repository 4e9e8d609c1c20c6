//! Requests of our own to a cluster: short, bounded, and over the same connections as those of
//! clients.

use crate::headers::{RequestHeader, ResponseHeader};
use crate::resilience::Outcome;
use crate::tables::{ClusterState, Picked};
use crate::tls::HandshakeFailure;
use crate::upstream::pool::{self, ConnectError, PoolKey};
use crate::upstream::{DialError, ResponseEvent, Session};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use meridian_model::UpstreamProtocol;
use meridian_telemetry::metrics::{TlsResult, TryError};
use pingora_error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most that is read of an answer's body: the longest page that anybody shows for a refusal, and
/// far more than a decision needs.
const MOST: usize = 256 * 1024;

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) head: Box<ResponseHeader>,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The cluster has no endpoint to ask.
    #[error("it has no healthy endpoint")]
    NoEndpoint,
    /// The cluster is at its limit.
    #[error("its circuit limit is reached")]
    Overflow,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection.
    #[error("cannot connect to it")]
    Connect(#[source] ConnectError),
    /// The connection broke, or what came is no HTTP.
    #[error("the connection to it broke")]
    Broken(#[source] Box<Error>),
    /// More than is read.
    #[error("its answer is too long")]
    TooLong,
}

/// Sends a request and reads the whole answer, within `limit`. The head has a `Host`; the
/// request may be sent twice where a kept connection turns out to be dead.
pub(crate) async fn call(
    cluster: &Arc<ClusterState>,
    head: &RequestHeader,
    body: &Bytes,
    limit: Duration,
) -> Result<Answer, CallError> {
    let began = Instant::now();
    let Some(_permit) = cluster.breaker.try_request() else {
        cluster.metrics.failed(TryError::Overflow, Duration::ZERO);
        return Err(CallError::Overflow);
    };
    let Some(picked) = cluster.pick(None, began, &[]) else {
        cluster.metrics.failed(TryError::NoEndpoint, Duration::ZERO);
        return Err(CallError::NoEndpoint);
    };
    let _active = picked.member.begin();
    let _open = cluster.metrics.begin_try();
    let asking = ask(cluster, &picked, head, body);
    let result = match tokio::time::timeout(limit, asking).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Timeout(limit)),
    };
    let elapsed = began.elapsed();
    let health = match &result {
        Ok(answer) => {
            let status = answer.head.status.as_u16();
            cluster.metrics.responded(status, elapsed);
            Outcome::of_status(status)
        }
        Err(error) => {
            cluster.metrics.failed(error.label(), elapsed);
            match error {
                CallError::Connect(_) => Outcome::Unreachable,
                _ => Outcome::Failure,
            }
        }
    };
    cluster.report(&picked, health, Instant::now());
    result
}

impl CallError {
    fn label(&self) -> TryError {
        match self {
            Self::NoEndpoint => TryError::NoEndpoint,
            Self::Overflow | Self::Connect(ConnectError::Overflow) => TryError::Overflow,
            Self::Timeout(_) => TryError::Timeout,
            Self::Connect(ConnectError::Dial(DialError::Timeout(_))) => TryError::ConnectTimeout,
            Self::Connect(ConnectError::Dial(DialError::Tls { .. })) => TryError::Tls,
            Self::Connect(_) => TryError::Connect,
            Self::Broken(_) => TryError::Reset,
            Self::TooLong => TryError::Protocol,
        }
    }
}

async fn ask(
    cluster: &Arc<ClusterState>,
    picked: &Picked,
    head: &RequestHeader,
    body: &Bytes,
) -> Result<Answer, CallError> {
    loop {
        let mut session = connect(cluster, picked).await?;
        let mut head = Box::new(head.clone());
        if cluster.model.protocol == UpstreamProtocol::Http2 {
            head.set_version(Version::HTTP_2);
        }
        match exchange(&mut session, head, body.clone()).await {
            Ok(answer) => {
                session.release(true).await;
                return Ok(answer);
            }
            // A kept connection that its peer has given up says nothing of the peer.
            Err(CallError::Broken(_)) if session.is_reused() => session.abort().await,
            Err(error) => {
                session.abort().await;
                return Err(error);
            }
        }
    }
}

async fn connect(cluster: &Arc<ClusterState>, picked: &Picked) -> Result<Session, CallError> {
    let key = PoolKey::new(
        Arc::clone(&picked.profile),
        Arc::clone(&picked.member),
        cluster.model.idle_timeout,
        Arc::clone(&cluster.breaker),
    );
    let limit = cluster.model.connect_timeout;
    let connected = pool::connect(&key, limit, &cluster.metrics, || false).await;
    match &connected {
        Ok(session) if picked.profile.is_tls() && !session.is_reused() => {
            cluster.metrics.handshake(TlsResult::Ok);
        }
        Err(ConnectError::Dial(DialError::Tls { failure, .. })) => {
            cluster
                .metrics
                .handshake(HandshakeFailure::metric(*failure));
        }
        _ => {}
    }
    connected.map_err(CallError::Connect)
}

async fn exchange(
    session: &mut Session,
    head: Box<RequestHeader>,
    body: Bytes,
) -> Result<Answer, CallError> {
    let bare = body.is_empty();
    session
        .send_head(head, bare)
        .await
        .map_err(CallError::Broken)?;
    if !bare {
        session
            .send_body(body, true)
            .await
            .map_err(CallError::Broken)?;
    }
    let mut answer: Option<Answer> = None;
    let mut read = BytesMut::new();
    let trailers = loop {
        match session.next().await.map_err(CallError::Broken)? {
            ResponseEvent::Informational(_) | ResponseEvent::Unblocked => {}
            ResponseEvent::Head { head, end } => {
                answer = Some(Answer {
                    head,
                    body: Bytes::new(),
                    trailers: HeaderMap::new(),
                });
                if end {
                    break HeaderMap::new();
                }
            }
            ResponseEvent::Body { bytes, end } => {
                if read.len() + bytes.len() > MOST {
                    return Err(CallError::TooLong);
                }
                read.extend_from_slice(&bytes);
                if end {
                    break HeaderMap::new();
                }
            }
            ResponseEvent::Trailers(trailers) => break trailers,
            ResponseEvent::End => break HeaderMap::new(),
        }
    };
    let mut answer = answer.ok_or_else(|| {
        let explained = Error::explain(pingora_error::ErrorType::InvalidHTTPHeader, "no head");
        CallError::Broken(explained)
    })?;
    answer.body = read.freeze();
    answer.trailers = trailers;
    Ok(answer)
}
