//! A request on its way: what its tries share, and what follows from each.

mod connect;
mod exchange;
mod report;

use super::Scene;
use crate::balance::{EndpointId, RequestHash};
use crate::downstream::{Deadline, Incoming};
use crate::proxy::admission::Admitted;
use crate::proxy::blame::{failure_of, retry_reason};
use crate::proxy::checking::Checked;
use crate::proxy::deadline::Clock;
use crate::proxy::exchange::Outcome;
use crate::proxy::failure::Failure;
use crate::proxy::record::{Record, TryEnded};
use crate::proxy::replay::Replay;
use crate::proxy::retry::{Failed, Retries};
use crate::stream::endpoint_text;
use crate::tables::{ClusterState, Picked, WeightedHandle};
use http::{Method, Version};
use meridian_model::UpstreamProtocol;
use meridian_telemetry::metrics::TryError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::Instant as TokioInstant;

/// Where a request came from, and where it is to go.
pub(super) struct Way<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) admitted: &'a Admitted,
    pub(super) checked: &'a Checked,
    pub(super) chosen: &'a WeightedHandle,
    pub(super) cluster: &'a Arc<ClusterState>,
}

/// A request on its way.
pub(super) struct Journey<'a> {
    way: Way<'a>,
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
pub(super) enum Step {
    /// The client has its answer.
    Done,
    /// Another try, after this pause.
    Again(Duration),
    /// The client must be told.
    Refused(Failure),
    /// The client must see the response break off.
    Broken(Failure),
}

impl<'a> Journey<'a> {
    /// A request before its first try.
    pub(super) fn new(way: Way<'a>, session: &mut Incoming, timer: &'a mut Deadline) -> Self {
        let Way {
            admitted, cluster, ..
        } = way;
        let route = &admitted.action.model;
        let body_comes = !session.is_bodiless();
        let started = TokioInstant::now();
        let mut replay = match &way.checked.body {
            Some(read) => Replay::begun(read.bytes.clone(), read.ended, read.trailers.clone()),
            None => Replay::new(body_comes),
        };
        if !body_comes {
            replay.end();
        }
        Self {
            upgrade: admitted.upgrade && cluster.model.protocol == UpstreamProtocol::Http1,
            body_comes,
            retries: Retries::new(
                route.retry.as_ref(),
                &session.head().method,
                &cluster.breaker,
            ),
            hash: cluster.request_hash(session, way.scene.connection),
            replay,
            clock: Clock::new(
                route.timeouts.request.map(|limit| started + limit),
                route.timeouts.idle,
                started,
                timer,
            ),
            tried: Vec::new(),
            client: ClientFacts::of(session),
            way,
        }
    }

    /// Whether the connection is offered to the upstream for another protocol.
    pub(super) fn upgrades(&self) -> bool {
        self.upgrade
    }

    /// One try, from the choice of an endpoint to what follows.
    pub(super) async fn attempt(&mut self, session: &mut Incoming, record: &mut Record) -> Step {
        let began = Instant::now();
        let Some(picked) = self.way.cluster.pick(self.hash.hash, began, &self.tried) else {
            self.way
                .cluster
                .metrics
                .failed(TryError::NoEndpoint, Duration::ZERO);
            return Step::Refused(Failure::NoHealthyUpstream);
        };
        record.tried(|| endpoint_text(&picked.member.endpoint().address));
        let context = record.try_context().map(|(context, _)| context);
        let _active = picked.member.begin();
        let _open = self.way.cluster.metrics.begin_try();
        let per_try = self.way.admitted.action.model.timeouts.per_try;
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
                self.way.cluster.metrics.failed(error, began.elapsed());
                let sent = false;
                (Outcome::Failed { failure, sent }, None)
            }
        };
        let duration = self.tell(&picked, began, outcome, status);
        record.try_ended(TryEnded {
            context,
            began,
            duration,
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
                self.way.cluster.metrics.retried(retry_reason(failure));
                Step::Again(pause)
            }
            (None, Some(failure)) => Step::Refused(failure),
            // The status was held back for another try, and the budget is used up.
            (None, None) => Step::Refused(Failure::Overflow),
        }
    }
}

/// The client's side of a request, as far as its tries need it.
struct ClientFacts {
    version: Version,
    head_only: bool,
}

impl ClientFacts {
    fn of(session: &Incoming) -> Self {
        let head = session.head();
        Self {
            version: head.version,
            head_only: head.method == Method::HEAD,
        }
    }
}
