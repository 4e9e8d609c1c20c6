//! Forwarding: tries, one after the other, until the client has an answer.

use super::admission::Admitted;
use super::blame::{blame, connect_failure, failure_of, retry_reason, try_error};
use super::checking::Checked;
use super::connection::{Fate, Permission, answer, certificate_element};
use super::deadline::{Clock, Ring};
use super::exchange::{Exchange, Outcome};
use super::failure::Failure;
use super::heads::{self, CallerFacts, RequestShape, ResponseShape};
use super::record::{Record, TryEnded};
use super::replay::Replay;
use super::respond::{Cause, give_leave};
use super::retry::{Failed, Retries};
use crate::balance::{EndpointId, RequestHash};
use crate::downstream::{Connection, Deadline};
use crate::stream::endpoint_text;
use crate::tables::{App, ClusterState, HttpApp, Picked, WeightedHandle, draw};
use crate::tls::HandshakeFailure;
use crate::upstream::pool::{self, ConnectError, PoolKey};
use crate::upstream::{DialError, Session};
use http::{Method, Version};
use meridian_model::UpstreamProtocol;
use meridian_telemetry::metrics::{TlsResult, TryError};
use pingora_core::protocols::http::server::Session as ServerSession;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::Instant as TokioInstant;

/// Where a request came in.
pub(crate) struct Scene<'a> {
    pub(crate) connection: &'a Connection<App>,
    pub(crate) app: &'a HttpApp,
}

/// Forwards, and answers in the upstream's place where it must.
pub(crate) async fn forward(
    session: &mut ServerSession,
    scene: &Scene<'_>,
    admitted: Admitted,
    checked: Checked,
    record: &mut Record,
    timer: &mut Deadline,
) -> Fate {
    let action = &admitted.action;
    let Some(chosen) = draw(&action.clusters, |cluster| cluster.model.weight) else {
        return refuse(session, scene, Failure::NoHealthyUpstream, record).await;
    };
    record.routed(&chosen.telemetry);
    let Some(cluster) = chosen.cluster.state() else {
        return refuse(session, scene, Failure::NoHealthyUpstream, record).await;
    };
    let upgrade = admitted.upgrade && cluster.model.protocol == UpstreamProtocol::Http1;
    let body_comes = !session.is_body_empty();
    let timeouts = action.model.timeouts;
    let started = TokioInstant::now();
    let mut journey = Journey {
        scene,
        admitted: &admitted,
        checked: &checked,
        chosen,
        cluster: &cluster,
        upgrade,
        body_comes,
        retries: Retries::new(
            action.model.retry.as_ref(),
            &session.req_header().method,
            &cluster.breaker,
        ),
        hash: cluster.request_hash(session, scene.connection),
        replay: match &checked.body {
            Some(read) => Replay::begun(read.bytes.clone(), read.ended),
            None => Replay::new(body_comes),
        },
        clock: Clock::new(
            timeouts.request.map(|limit| started + limit),
            timeouts.idle,
            started,
            timer,
        ),
        tried: Vec::new(),
        client: ClientFacts::of(session),
    };
    if !body_comes {
        journey.replay.end();
    }
    let http2 = cluster.model.protocol == UpstreamProtocol::Http2;
    let trust = scene.app.service.trust;
    if heads::waits_for_our_leave(session.req_header(), trust, http2)
        && give_leave(session).await.is_err()
    {
        record.failed(Failure::ClientGone);
        return Fate::Close;
    }
    loop {
        match journey.attempt(session, record).await {
            Step::Done => {
                if upgrade && session.was_upgraded() {
                    return Fate::Close;
                }
                return Fate::Reuse;
            }
            Step::Again(pause) => tokio::time::sleep(pause).await,
            Step::Refused(failure) => return refuse(session, scene, failure, record).await,
            Step::Broken(failure) => {
                record.failed(failure);
                return Fate::Close;
            }
        }
    }
}

/// The client's side of a request, as far as its tries need it.
struct ClientFacts {
    version: Version,
    head_only: bool,
}

impl ClientFacts {
    fn of(session: &ServerSession) -> Self {
        let head = session.req_header();
        Self {
            version: head.version,
            head_only: head.method == Method::HEAD,
        }
    }
}

/// A request on its way.
struct Journey<'a> {
    scene: &'a Scene<'a>,
    admitted: &'a Admitted,
    checked: &'a Checked,
    chosen: &'a WeightedHandle,
    cluster: &'a Arc<ClusterState>,
    upgrade: bool,
    body_comes: bool,
    retries: Retries<'a>,
    hash: RequestHash,
    replay: Replay,
    clock: Clock<'a>,
    tried: Vec<EndpointId>,
    client: ClientFacts,
}

/// What follows from a try.
enum Step {
    /// The client has its answer.
    Done,
    /// Another try, after this pause.
    Again(Duration),
    /// The client must be told.
    Refused(Failure),
    /// The client must see the response break off.
    Broken(Failure),
}

impl Journey<'_> {
    async fn attempt(&mut self, session: &mut ServerSession, record: &mut Record) -> Step {
        let began = Instant::now();
        let Some(picked) = self.cluster.pick(self.hash.hash, began, &self.tried) else {
            self.cluster
                .metrics
                .failed(TryError::NoEndpoint, Duration::ZERO);
            return Step::Refused(Failure::NoHealthyUpstream);
        };
        record.tried(|| endpoint_text(&picked.member.endpoint().address));
        let context = record.try_context().map(|(context, _)| context);
        let _active = picked.member.begin();
        let _open = self.cluster.metrics.begin_try();
        let per_try = self.admitted.action.model.timeouts.per_try;
        self.clock
            .limit_head(per_try.map(|limit| TokioInstant::now() + limit));
        let mut reused = false;
        let (outcome, status) = match self.connect(&picked).await {
            Ok(upstream) => {
                reused = upstream.is_reused();
                self.exchange(session, &picked, upstream, record, context)
                    .await
            }
            Err((failure, error)) => {
                self.cluster.metrics.failed(error, began.elapsed());
                let sent = false;
                (Outcome::Failed { failure, sent }, None)
            }
        };
        self.tell(&picked, began, outcome, status);
        record.try_ended(TryEnded {
            context,
            began,
            duration: began.elapsed(),
            version: self.upstream_version(),
            status,
            failure: failure_of(outcome),
            endpoint: endpoint_text(&picked.member.endpoint().address),
        });
        self.decide(outcome, &picked, reused)
    }

    /// What follows: an answer, another try, or an error.
    fn decide(&mut self, outcome: Outcome, picked: &Picked, reused: bool) -> Step {
        let (failure, sent) = match outcome {
            Outcome::Complete => return Step::Done,
            Outcome::Broken(failure) => return Step::Broken(failure),
            Outcome::Unwanted(_) => (None, true),
            Outcome::Failed { failure, sent } => (Some(failure), sent),
        };
        let replayable = self.replay.pieces().is_some();
        let pause = match failure {
            None => self.retries.after_status(),
            Some(failure) => self.retries.after_failure(Failed {
                failure,
                sent,
                reused,
                replayable,
            }),
        };
        match (pause, failure) {
            (Some(pause), _) => {
                self.tried.push(picked.member.id());
                self.cluster.metrics.retried(retry_reason(failure));
                Step::Again(pause)
            }
            (None, Some(failure)) => Step::Refused(failure),
            // The status was held back for another try, and the budget is used up.
            (None, None) => Step::Refused(Failure::Overflow),
        }
    }

    async fn connect(&mut self, picked: &Picked) -> Result<Session, (Failure, TryError)> {
        let key = PoolKey::new(
            Arc::clone(&picked.profile),
            Arc::clone(&picked.member),
            self.cluster.model.idle_timeout,
            Arc::clone(&self.cluster.breaker),
        );
        let limit = self.cluster.model.connect_timeout;
        let result = tokio::select! {
            result = pool::connect(&key, limit, &self.cluster.metrics, || {
                self.cluster.has_other(picked, &self.tried, Instant::now())
            }) => result,
            failure = out_of_time(&mut self.clock) => return Err((failure, TryError::Timeout)),
        };
        match result {
            Ok(session) => {
                if picked.profile.is_tls() && !session.is_reused() {
                    self.cluster.metrics.handshake(TlsResult::Ok);
                }
                Ok(session)
            }
            Err(error) => {
                let failure = match &error {
                    ConnectError::Dial(DialError::Tls { failure, .. }) => Some(*failure),
                    _ => None,
                };
                if let Some(failure) = failure {
                    self.cluster.metrics.handshake(failure.metric());
                }
                tracing::warn!(
                    cluster = %self.cluster.model.name,
                    endpoint = %picked.member.endpoint().address,
                    reason = failure.map(HandshakeFailure::as_str),
                    error = %meridian_telemetry::Chain(&error),
                    "cannot connect"
                );
                Err(connect_failure(&error))
            }
        }
    }

    async fn exchange(
        &mut self,
        session: &mut ServerSession,
        picked: &Picked,
        upstream: Session,
        record: &mut Record,
        context: Option<meridian_telemetry::trace::TraceContext>,
    ) -> (Outcome, Option<u16>) {
        let request_id = record.request_id().clone();
        let mut head = match heads::request(session.req_header(), &self.shape(&request_id)) {
            Ok(head) => head,
            Err(failure) => {
                upstream.abort().await;
                let sent = false;
                return (Outcome::Failed { failure, sent }, None);
            }
        };
        if let (Some(context), Some((_, state))) = (context, record.try_context()) {
            // A header of ours that does not fit leaves the trace behind, not the request.
            let _ = head.insert_header(
                meridian_telemetry::trace::TRACEPARENT,
                context.header_value(),
            );
            if let Some(value) = state.header_value() {
                let _ = head.insert_header(meridian_telemetry::trace::TRACESTATE, value);
            }
        }
        let permission = Permission::new(self.scene.connection);
        let edge = self.scene.app.service.trust.is_edge();
        let exchange = Exchange {
            session,
            upstream,
            clock: &mut self.clock,
            replay: &mut self.replay,
            record,
            shape: ResponseShape {
                caller: CallerFacts::new(self.scene.connection),
                version: self.client.version,
                head_only: self.client.head_only,
                upgrade_asked: self.upgrade,
                request_id: edge.then_some(&request_id),
                cookies: &self.hash.cookies,
                modifiers: [
                    &self.chosen.model.response_headers,
                    &self.admitted.action.model.response_headers,
                ],
                changes: &self.checked.response,
            },
            retry: self.retries.plan(),
            permission: &permission,
            cluster: self.cluster,
            picked,
            connection: self.scene.connection,
            upstream_status: None,
            upstream_is_deaf: false,
        };
        exchange.run(head).await
    }

    fn shape<'b>(&'b self, request_id: &'b http::HeaderValue) -> RequestShape<'b> {
        let connection = self.scene.connection;
        let service = &self.scene.app.service;
        RequestShape {
            target: self.admitted.target.as_deref(),
            http2: self.cluster.model.protocol == UpstreamProtocol::Http2,
            has_body: self.body_comes,
            upgrade: self.upgrade,
            trust: service.trust,
            client_certificate: service.client_certificate,
            certificate_element: certificate_element(connection, self.scene.app),
            caller: CallerFacts::new(connection),
            request_id,
            modifiers: [
                &self.chosen.model.request_headers,
                &self.admitted.action.model.request_headers,
            ],
        }
    }

    /// Tells metrics what a try came to, and health where it came to no answer.
    fn tell(&self, picked: &Picked, began: Instant, outcome: Outcome, status: Option<u16>) {
        let elapsed = began.elapsed();
        match (status, outcome) {
            (Some(status), _) => {
                self.cluster.metrics.responded(status, elapsed);
                picked.member.stats().observe(elapsed, Instant::now());
            }
            (None, Outcome::Failed { failure, .. } | Outcome::Broken(failure)) => {
                if let Some(health) = blame(failure) {
                    self.cluster.report(picked, health, Instant::now());
                }
                if let Some(error) = try_error(failure) {
                    self.cluster.metrics.failed(error, elapsed);
                }
                if matches!(outcome, Outcome::Failed { sent: true, .. })
                    && failure == Failure::PeerUnverified
                {
                    self.refused(picked, elapsed);
                }
            }
            (None, Outcome::Complete | Outcome::Unwanted(_)) => {}
        }
    }

    /// Counts and logs a handshake that came to nothing only after it seemed to be over.
    fn refused(&self, picked: &Picked, elapsed: Duration) {
        let failure = HandshakeFailure::Refused;
        self.cluster.metrics.handshake(failure.metric());
        self.cluster.metrics.failed(TryError::Tls, elapsed);
        tracing::warn!(
            cluster = %self.cluster.model.name,
            endpoint = %picked.member.endpoint().address,
            reason = failure.as_str(),
            "cannot connect"
        );
    }

    fn upstream_version(&self) -> Version {
        match self.cluster.model.protocol {
            UpstreamProtocol::Http2 => Version::HTTP_2,
            UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => Version::HTTP_11,
        }
    }
}

async fn refuse(
    session: &mut ServerSession,
    scene: &Scene<'_>,
    failure: Failure,
    record: &mut Record,
) -> Fate {
    record.failed(failure);
    if failure == Failure::ClientGone {
        return Fate::Close;
    }
    let cause = Cause::Failure {
        failure,
        detail: None,
        allow: None,
        envoy: scene.app.service.trust.reads_envoy(),
    };
    answer(session, cause, record).await
}

/// Waits until a request without a connection may wait no longer, and says why.
async fn out_of_time(clock: &mut Clock<'_>) -> Failure {
    loop {
        match clock.ring().await {
            Ring::Request => return Failure::Timeout,
            Ring::Try => return Failure::TryTimeout,
            Ring::Idle => return Failure::IdleTimeout,
            Ring::Look => {}
        }
    }
}
