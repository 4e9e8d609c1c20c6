//! Forwarding: tries, one after the other, until the client has an answer.

mod journey;

use super::admission::Admitted;
use super::checking::Checked;
use super::connection::{Fate, answer};
use super::failure::Failure;
use super::heads;
use super::record::Record;
use super::respond::{Cause, give_leave};
use crate::downstream::{Connection, Deadline, Incoming};
use crate::headers::HeaderNames;
use crate::tables::{App, HttpApp, draw};
use journey::{Journey, Step, Way};
use meridian_model::UpstreamProtocol;

/// Where a request came in.
pub(crate) struct Scene<'a> {
    pub(crate) connection: &'a Connection<App>,
    pub(crate) app: &'a HttpApp,
    /// What strangers may not say.
    pub(crate) edge_headers: &'a HeaderNames,
}

/// Forwards, and answers in the upstream's place where it must.
pub(crate) async fn forward(
    session: &mut Incoming,
    scene: &Scene<'_>,
    admitted: Admitted,
    checked: Checked,
    record: &mut Record,
    timer: &mut Deadline,
) -> Fate {
    let Some(chosen) = draw(&admitted.action.clusters, |cluster| cluster.model.weight) else {
        return refuse(session, scene, Failure::NoHealthyUpstream, record).await;
    };
    record.routed(&chosen.telemetry);
    let Some(cluster) = chosen.cluster.state() else {
        return refuse(session, scene, Failure::NoHealthyUpstream, record).await;
    };
    let way = Way {
        scene,
        admitted: &admitted,
        checked: &checked,
        chosen,
        cluster: &cluster,
    };
    let mut journey = Journey::new(way, session, timer);
    let http2 = cluster.model.protocol == UpstreamProtocol::Http2;
    let trust = scene.app.service.trust;
    if heads::waits_for_our_leave(session.head(), trust, http2)
        && give_leave(session).await.is_err()
    {
        record.failed(Failure::ClientGone);
        return Fate::Close;
    }
    loop {
        match journey.attempt(session, record).await {
            Step::Done => {
                if journey.upgrades() && session.was_upgraded() {
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

async fn refuse(
    session: &mut Incoming,
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
