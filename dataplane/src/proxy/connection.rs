//! HTTP on one accepted connection: request after request, or stream beside stream.

use super::admission::{self, Admission};
use super::checking;
use super::failure::Failure;
use super::forward;
use super::forwarded;
use super::pace;
use super::record::{Caller, Record};
use super::respond::{self, Cause, REQUEST_ID, Reply};
use crate::access_log::LogSwitch;
use crate::downstream::streams::{self, Limits};
use crate::downstream::{Connection, Deadline, Downstream, Incoming, Piece, Spares};
use crate::headers::HeaderNames;
use crate::tables::{App, HttpApp};
use http::HeaderValue;
use meridian_model::Verdict;
use meridian_model::intention::RuleOutcome;
use meridian_model::listener::{ClientCertificateHeader, ClientTrust};
use meridian_telemetry::trace::SpanSink;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::task::Poll;

/// What all connections share.
pub(crate) struct Shared {
    /// Takes finished spans.
    pub(crate) spans: SpanSink,
    /// Takes finished requests.
    pub(crate) access_log: Arc<LogSwitch>,
    /// Headers that strangers may not send.
    pub(crate) edge_headers: HeaderNames,
}

/// Serves the requests of one connection.
pub(crate) struct ConnectionApp {
    shared: Arc<Shared>,
    connection: Arc<Connection<App>>,
}

impl ConnectionApp {
    /// Serves `stream` until it is closed.
    pub(crate) async fn serve(
        shared: Arc<Shared>,
        stream: Box<Downstream<App>>,
        drain: &ShutdownWatch,
    ) {
        let connection = Arc::clone(stream.connection());
        let app = Self { shared, connection };
        if stream.is_http2() {
            // On the heap: a connection of HTTP/1 keeps no room for it.
            Box::pin(app.http2(stream, drain)).await;
        } else {
            app.http1(stream, drain).await;
        }
    }

    async fn http1(&self, stream: Stream, drain: &ShutdownWatch) {
        let mut timer = Deadline::default();
        let mut next = Some(stream);
        while let Some(stream) = next {
            let Some(stream) = rested(stream).await else {
                return;
            };
            let begun = pace::begin().await;
            let request = Incoming::http1(stream);
            // On the heap: a connection that waits for its next request does not hold its state.
            next = Box::pin(self.request(request, drain, &mut timer)).await;
            drop(begun);
        }
    }

    async fn http2(self, stream: Box<Downstream<App>>, drain: &ShutdownWatch) {
        let state = self.connection.listener.state();
        let limits = Limits {
            streams: state.model.limits.streams,
            head_bytes: state.model.limits.head_bytes,
            idle: state.model.deadlines.idle,
        };
        drop(state);
        let app = Arc::new((self, Spares::default()));
        streams::serve(stream, limits, drain.clone(), |request, serving| {
            let (stream, drain) = (Arc::clone(&app), drain.clone());
            tokio::spawn(async move {
                let (app, timers) = &*stream;
                let mut timer = timers.take();
                app.request(request, &drain, &mut timer).await;
                timers.give_back(timer);
                drop(serving);
            });
        })
        .await;
    }

    /// One request and its response; the stream, where another may follow.
    async fn request(
        &self,
        mut session: Incoming,
        drain: &ShutdownWatch,
        timer: &mut Deadline,
    ) -> Option<Stream> {
        match session.read_head().await {
            Ok(true) => {}
            // The client left between two requests, or what it sent is no head.
            Ok(false) | Err(_) => return None,
        }
        if *drain.borrow() {
            session.keep_alive(false);
        }
        let fate = self.handle(&mut session, timer).await;
        match fate {
            Fate::Close => {
                session.abort().await;
                None
            }
            Fate::Reuse => {
                self.connection.request_finished();
                // An error here is the client's: it gets no second request.
                session.finish().await.ok()?
            }
        }
    }

    async fn handle(&self, session: &mut Incoming, timer: &mut Deadline) -> Fate {
        let state = self.connection.listener.state();
        let Some(app) = state.app.http(self.connection.chosen_by.as_deref()) else {
            // The listener became a TCP one, or its name is gone; its old connections end.
            return Fate::Close;
        };
        let head = session.head();
        let offered = match app.service.trust {
            ClientTrust::Mesh => head.headers.get(REQUEST_ID),
            ClientTrust::Edge | ClientTrust::ConsulEdge => None,
        };
        let caller = Caller {
            listener: &app.listener,
            address: self.connection.peer_address,
            identity: self.connection.peer().map(|peer| peer.spiffe.shared()),
            logs: &app.logs,
        };
        let id = forwarded::request_id(offered);
        let mut record = Record::begin(&self.shared, head, &caller, id);
        record.routed(&app.unrouted);
        match admission::admit(session, &self.connection, app, &self.shared) {
            Admission::Forward(admitted) => {
                let scene = forward::Scene {
                    connection: &self.connection,
                    app,
                    edge_headers: &self.shared.edge_headers,
                };
                match checking::check(session, &scene, admitted.upgrade, &mut record).await {
                    Ok(checked) => {
                        forward::forward(session, &scene, admitted, checked, &mut record, timer)
                            .await
                    }
                    Err(fate) => fate,
                }
            }
            Admission::Refuse(refusal) => {
                let cause = Cause::Failure {
                    failure: refusal.failure,
                    detail: refusal.detail.as_deref(),
                    allow: refusal.allow.as_deref(),
                    envoy: app.service.trust.reads_envoy(),
                };
                record.failed(refusal.failure);
                answer(session, cause, &mut record).await
            }
            Admission::Redirect { status, location } => {
                let cause = Cause::Redirect {
                    status,
                    location: &location,
                };
                answer(session, cause, &mut record).await
            }
        }
    }
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The next request may come.
    Reuse,
    /// The client must see it break off.
    Close,
}

/// Sends a response of our own.
pub(crate) async fn answer(session: &mut Incoming, cause: Cause<'_>, record: &mut Record) -> Fate {
    let closes = matches!(
        cause,
        Cause::Failure {
            failure: Failure::Violation(_) | Failure::SlowRequest,
            ..
        }
    );
    if closes {
        session.keep_alive(false);
    }
    skip_body(session).await;
    let id = record.request_id().clone();
    let reply = Reply {
        cause,
        request_id: &id,
    };
    match respond::reply(session, &reply).await {
        Ok(written) => {
            record.answered(written.status.as_u16());
            record.sent(written.body_bytes);
            Fate::Reuse
        }
        Err(_) => {
            record.failed(Failure::ClientGone);
            Fate::Close
        }
    }
}

/// Most of an unwanted body that is read to keep its connection.
const SKIPPED: usize = 64 * 1024;

/// Reads what has come of a body that nobody wants, without waiting for more.
/// If that was all, the connection goes on; if not, it ends behind the answer.
async fn skip_body(session: &mut Incoming) {
    let mut skipped = 0;
    while skipped < SKIPPED && !session.is_read() {
        let piece = std::pin::pin!(session.read());
        match futures::poll!(piece) {
            Poll::Ready(Ok(Piece::Body(bytes))) => skipped += bytes.len(),
            // The answer says what there is to say, whatever became of the body.
            Poll::Ready(Ok(Piece::Trailers(_) | Piece::End) | Err(_)) | Poll::Pending => return,
        }
    }
}

/// The stream, once a read has something to say. `None` only for one that was not accepted here.
async fn rested(stream: Stream) -> Option<Stream> {
    let mut stream: Box<Downstream<App>> = stream.into_any().downcast().ok()?;
    stream.rest().await;
    Some(stream)
}

/// Asks whether a connection's peer may still call, while a request goes on.
pub(crate) struct Permission<'a> {
    connection: &'a Connection<App>,
}

impl<'a> Permission<'a> {
    pub(crate) fn new(connection: &'a Connection<App>) -> Self {
        Self { connection }
    }

    /// Whether the newest intentions refuse the peer altogether. Rules that
    /// depend on the request decide when the next one comes.
    pub(crate) fn is_revoked(&self) -> bool {
        let Some(peer) = self.connection.peer() else {
            return false;
        };
        let state = self.connection.listener.state();
        let Some(app) = state.app.http(self.connection.chosen_by.as_deref()) else {
            return false;
        };
        app.service.authorization.as_ref().is_some_and(|rules| {
            matches!(
                rules.decision(&peer.spiffe),
                RuleOutcome::Decided(Verdict::Deny)
            )
        })
    }
}

/// Our element of `x-forwarded-client-cert`, made once a connection.
pub(crate) fn certificate_element<'a>(
    connection: &'a Connection<App>,
    app: &HttpApp,
) -> Option<&'a HeaderValue> {
    if app.service.client_certificate != ClientCertificateHeader::AppendForward {
        return None;
    }
    let peer = connection.peer()?;
    let own = app.own.as_ref()?;
    if let Some(made) = connection.xfcc.get() {
        return Some(made);
    }
    let element = forwarded::client_certificate(own, peer)?;
    Some(connection.xfcc.get_or_init(|| element))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// What docs/performance.md says of idle connections rests on it.
    #[test]
    fn a_connection_at_rest_is_small() {
        let size = size_of_future(ConnectionApp::serve);
        assert!(size <= 1024, "{size}");
    }
}
