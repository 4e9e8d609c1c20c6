//! One try on one connection: request out, response back, both ways at once.

use super::connection::Permission;
use super::deadline::{Clock, Ring};
use super::failure::Failure;
use super::forward::Scene;
use super::heads::{self, ResponseShape};
use super::record::Record;
use super::replay::Replay;
use super::retry::RetryPlan;
use super::trailers;
use crate::downstream::{Incoming, Piece};
use crate::headers::{RequestHeader, ResponseHeader};
use crate::resilience::Outcome as Health;
use crate::tables::{ClusterState, Picked};
use crate::tls::HandshakeFailure;
use crate::upstream::{ResponseEvent, Session};
use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use pingora_error::{Error, ErrorType};
use std::io;
use std::time::Instant;

/// How a try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client has the whole response.
    Complete,
    /// The client has nothing yet: it can be answered, or the request tried again.
    Failed {
        failure: Failure,
        /// Whether a byte of the request may have reached the application.
        sent: bool,
    },
    /// The upstream's status is one that the route tries again.
    Unwanted(StatusCode),
    /// The client has part of a response and must see it break off.
    Broken(Failure),
}

/// A try under way.
pub(crate) struct Exchange<'a, 'c> {
    pub(crate) session: &'a mut Incoming,
    pub(crate) upstream: Session,
    pub(crate) clock: &'a mut Clock<'c>,
    pub(crate) replay: &'a mut Replay,
    pub(crate) record: &'a mut Record,
    pub(crate) shape: ResponseShape<'a>,
    /// Which statuses are not passed on; `None` on the last try.
    pub(crate) retry: Option<RetryPlan<'a>>,
    /// Whether the caller may still call; asked now and then.
    pub(crate) permission: &'a Permission<'a>,
    /// Whose health the answer speaks of.
    pub(crate) cluster: &'a ClusterState,
    pub(crate) picked: &'a Picked,
    /// Where the request came in.
    pub(crate) scene: &'a Scene<'a>,
    /// Status that the upstream answered, for the try's own story.
    pub(crate) upstream_status: Option<u16>,
    /// The upstream takes no more of the request.
    pub(crate) upstream_is_deaf: bool,
}

/// How far the response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// No head yet.
    Awaited,
    /// The head went to the client.
    Streaming,
    /// Both sides speak another protocol now.
    Upgraded,
}

impl Exchange<'_, '_> {
    /// Runs the try to its end. The connection goes back to the pool only after
    /// a whole request and a whole response.
    pub(crate) async fn run(mut self, head: Box<RequestHeader>) -> (Outcome, Option<u16>) {
        let outcome = match self.send_request(head).await {
            Ok(()) => self.pump().await,
            Err(error) => Outcome::Failed {
                failure: upstream_failure(&error),
                sent: true,
            },
        };
        let status = self.upstream_status;
        let whole = self.replay.is_ended() && !self.upstream_is_deaf;
        match outcome {
            Outcome::Complete => self.upstream.release(whole).await,
            _ => self.upstream.abort().await,
        }
        (outcome, status)
    }

    /// Sends the head, and what an earlier try has read of the body. Waits for
    /// nothing: see [`Session::send_body`].
    async fn send_request(&mut self, head: Box<RequestHeader>) -> Result<(), Box<Error>> {
        let pieces: Vec<Bytes> = self.replay.pieces().unwrap_or_default().to_vec();
        let ended = self.replay.is_ended();
        let trailers = self.replay.trailers().cloned();
        let bare = ended && pieces.is_empty() && trailers.is_none();
        self.upstream.send_head(head, bare).await?;
        for piece in pieces {
            self.upstream.send_body(piece, false).await?;
        }
        match trailers {
            Some(trailers) => self.upstream.send_trailers(trailers).await,
            None if ended && !bare => self.upstream.send_body(Bytes::new(), true).await,
            None => Ok(()),
        }
    }

    async fn pump(&mut self) -> Outcome {
        let mut response = Response::Awaited;
        loop {
            let reading = !self.replay.is_ended();
            let blocked = reading && self.upstream.is_blocked();
            if blocked && let Err(failure) = self.flush().await {
                return failed(response, failure);
            }
            tokio::select! {
                biased;
                event = self.upstream.next() => match event {
                    Ok(event) => {
                        self.clock.touch();
                        match self.on_response(event, &mut response).await {
                            Ok(None) => {}
                            Ok(Some(outcome)) => return outcome,
                            Err(failure) => return failed(response, failure),
                        }
                    }
                    Err(error) => return failed(response, upstream_failure(&error)),
                },
                piece = self.session.read_or_idle(!reading), if !blocked => match piece {
                    Ok(piece) => {
                        self.clock.touch();
                        self.on_request(piece, response).await;
                    }
                    Err(error) => return failed(response, self.request_failure(&error)),
                },
                failure = time_is_up(self.clock, self.permission) => {
                    return failed(response, failure);
                }
            }
        }
    }

    /// Hands on what was gathered for the client. Elsewhere waiting for the client does it.
    async fn flush(&mut self) -> Result<(), Failure> {
        in_time(self.session.flush(), self.clock, self.permission).await
    }

    /// A piece of the request came, or its end.
    async fn on_request(&mut self, piece: Piece, response: Response) {
        let sent = match piece {
            Piece::Body(bytes) => {
                // An upgraded stream ends only with its connection.
                let end = response != Response::Upgraded && self.session.is_read();
                if bytes.is_empty() && !end {
                    return;
                }
                self.record.received(bytes.len());
                self.replay.push(&bytes);
                if end {
                    self.replay.end();
                }
                self.upstream.send_body(bytes, end).await
            }
            Piece::Trailers(mut trailers) => {
                trailers::clean(&mut trailers, self.scene);
                self.replay.end_with(trailers.clone());
                self.upstream.send_trailers(trailers).await
            }
            Piece::End => {
                self.replay.end();
                self.upstream.send_body(Bytes::new(), true).await
            }
        };
        if sent.is_err() {
            // An upstream that has heard enough may still be answering: its
            // response, or its silence, is read next.
            self.upstream_is_deaf = true;
            self.replay.end();
        }
    }

    /// Why the request's body can't be read on. The guard knows better than
    /// the session, which only sees the stream fail.
    fn request_failure(&self, error: &Error) -> Failure {
        match self.scene.connection.violation() {
            Some(violation) => Failure::Violation(violation),
            None => client_failure(error),
        }
    }

    /// The upstream said something. `Some` when the exchange is over.
    async fn on_response(
        &mut self,
        event: ResponseEvent,
        response: &mut Response,
    ) -> Result<Option<Outcome>, Failure> {
        match event {
            ResponseEvent::Informational(head) => {
                let writing = self.session.write_interim(head);
                in_time(writing, self.clock, self.permission).await?;
                Ok(None)
            }
            ResponseEvent::Head { head, end } => self.on_head(head, end, response).await,
            ResponseEvent::Body { bytes, end } => {
                self.record.sent(bytes.len() as u64);
                let writing = self.session.write_body(bytes, end);
                in_time(writing, self.clock, self.permission).await?;
                Ok(end.then_some(Outcome::Complete))
            }
            ResponseEvent::Trailers(trailers) => {
                let writing = self.session.write_trailers(trailers);
                in_time(writing, self.clock, self.permission).await?;
                Ok(Some(Outcome::Complete))
            }
            ResponseEvent::End => Ok(Some(Outcome::Complete)),
            ResponseEvent::Unblocked => Ok(None),
        }
    }

    async fn on_head(
        &mut self,
        mut head: Box<ResponseHeader>,
        end: bool,
        response: &mut Response,
    ) -> Result<Option<Outcome>, Failure> {
        let status = head.status;
        self.upstream_status = Some(status.as_u16());
        // Before the client can know it and ask again, perhaps on another worker.
        let health = Health::of_status(status.as_u16());
        self.cluster.report(self.picked, health, Instant::now());
        self.clock.limit_head(None);
        if let Some(plan) = &self.retry
            && plan.wants(&head.headers, status)
            && self.replay.pieces().is_some()
        {
            return Ok(Some(Outcome::Unwanted(status)));
        }
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        if upgraded && !self.shape.upgrade_asked {
            return Err(Failure::BadResponse);
        }
        heads::response(&mut head, self.session.head(), &self.shape, end)
            .map_err(|_| Failure::BadResponse)?;
        *response = if upgraded {
            Response::Upgraded
        } else {
            Response::Streaming
        };
        self.record.answered(status.as_u16());
        if self.scene.connection.is_draining() {
            self.session.keep_alive(false);
        }
        let writing = self.session.write_head(head, end);
        in_time(writing, self.clock, self.permission).await?;
        if upgraded {
            self.scene.connection.upgraded();
            self.upstream.upgrade();
            self.clock.lift_request_limit();
            self.replay.reopen();
            return Ok(None);
        }
        Ok(end.then_some(Outcome::Complete))
    }
}

fn failed(response: Response, failure: Failure) -> Outcome {
    match response {
        Response::Awaited => Outcome::Failed {
            failure,
            sent: true,
        },
        Response::Streaming => Outcome::Broken(match failure {
            Failure::UpstreamReset | Failure::BadResponse => Failure::ResponseCut,
            other => other,
        }),
        // Whoever closes a tunnel ends it: that is its ordinary end.
        Response::Upgraded => Outcome::Complete,
    }
}

/// Writes to the client for as long as the exchange may take: a window that is
/// never opened must not hold an upstream for ever.
async fn in_time<T>(
    writing: impl Future<Output = Result<T, Box<Error>>>,
    clock: &mut Clock<'_>,
    permission: &Permission<'_>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        written = writing => written.map_err(|error| client_failure(&error)),
        failure = time_is_up(clock, permission) => Err(failure),
    }
}

/// Waits until the exchange must end, and says why.
async fn time_is_up(clock: &mut Clock<'_>, permission: &Permission<'_>) -> Failure {
    loop {
        match clock.ring().await {
            Ring::Request => return Failure::Timeout,
            Ring::Idle => return Failure::IdleTimeout,
            Ring::Try => return Failure::TryTimeout,
            Ring::Look if permission.is_revoked() => return Failure::Revoked,
            Ring::Look => {}
        }
    }
}

/// What an error of the upstream's connection means.
fn upstream_failure(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => Failure::BadResponse,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        _ if refuses_us(error) => Failure::PeerUnverified,
        _ => match error.root_cause().downcast_ref::<h2::Error>() {
            Some(cause) if cause.reason() == Some(Reason::REFUSED_STREAM) => Failure::StreamRefused,
            // GOAWAY without an error: streams above its mark were never looked at.
            Some(cause) if cause.is_go_away() && cause.reason() == Some(Reason::NO_ERROR) => {
                Failure::StreamRefused
            }
            _ => Failure::UpstreamReset,
        },
    }
}

/// Whether the upstream takes no certificate of ours. In TLS 1.3 it says so only when the
/// handshake is over for us; it has looked at nothing that came behind.
fn refuses_us(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| HandshakeFailure::classify(cause) == HandshakeFailure::Refused)
}

/// What an error of the client's connection means.
fn client_failure(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::InvalidHTTPHeader => Failure::BadRequest("malformed request body"),
        ErrorType::ReadTimedout => Failure::SlowRequest,
        _ => Failure::ClientGone,
    }
}
