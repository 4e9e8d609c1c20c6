//! Asking the external authorizations of a listener before a request goes on.

use super::connection::{Fate, answer};
use super::failure::Failure;
use super::forward::Scene;
use super::record::Record;
use super::respond::{Cause, give_leave};
use super::trailers;
use crate::downstream::{Incoming, Piece};
use crate::external::{Change, Decision, Facts, Refusal, RequestFacts, ShownBody, apply};
use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::{HeaderMap, StatusCode, Version};
use meridian_model::external::CheckBody;
use meridian_telemetry::metrics::{Layer, Verdict as Label};

/// What of a request was read for its authorization, and what its response is to carry.
#[derive(Default)]
pub(crate) struct Checked {
    /// What was read of its body.
    pub(crate) body: Option<ReadBody>,
    /// Changes to the response's head.
    pub(crate) response: Vec<Change>,
}

/// The start of a body.
pub(crate) struct ReadBody {
    pub(crate) bytes: Bytes,
    /// Whether that was all.
    pub(crate) ended: bool,
    /// With what it ended.
    pub(crate) trailers: Option<HeaderMap>,
}

/// Asks one after the other. A refused request is answered here.
pub(crate) async fn check(
    session: &mut Incoming,
    scene: &Scene<'_>,
    upgrade: bool,
    record: &mut Record,
) -> Result<Checked, Fate> {
    let mut checked = Checked::default();
    if scene.app.checks.is_empty() {
        return Ok(checked);
    }
    // What comes behind an upgrade is no body.
    let bodiless = upgrade || session.is_bodiless();
    let wanted = scene.app.checks.iter().filter_map(|one| one.model.body);
    let most = wanted.map(|body| body.most).max();
    if let Some(most) = most.filter(|_| !bodiless) {
        checked.body = Some(read_body(session, scene, most as usize, record).await?);
    }
    for one in &scene.app.checks {
        let body = match (one.model.body, &checked.body) {
            (Some(limits), Some(read)) => match read.shown(limits) {
                Some(body) => Some(body),
                None => return Err(refuse(session, &too_large(), record).await),
            },
            _ => None,
        };
        let id = record.request_id().clone();
        let facts = Facts {
            connection: scene.connection,
            own: scene.app.own.as_ref(),
            request: Some(RequestFacts {
                head: session.head(),
                id: &id,
                body,
            }),
        };
        let decision = one.ask(&facts).await;
        match decision {
            Decision::Pass { request, response } => {
                scene.app.metrics.verdict(Layer::External, Label::Allow);
                if apply(&request, session.head_mut()).is_err() {
                    let refusal = Refusal::of(StatusCode::FORBIDDEN);
                    return Err(refuse(session, &refusal, record).await);
                }
                checked.response.extend(response);
            }
            Decision::Refuse(refusal) => {
                scene.app.metrics.verdict(Layer::External, Label::Deny);
                return Err(refuse(session, &refusal, record).await);
            }
        }
    }
    Ok(checked)
}

impl ReadBody {
    /// What of it a service is shown; `None` where it is too long.
    fn shown(&self, limits: CheckBody) -> Option<ShownBody> {
        let most = limits.most as usize;
        let whole = self.ended && self.bytes.len() <= most;
        (whole || limits.partial).then(|| ShownBody {
            bytes: self.bytes.slice(..self.bytes.len().min(most)),
            partial: !whole,
        })
    }
}

/// Reads until there is more than is wanted, or no more.
async fn read_body(
    session: &mut Incoming,
    scene: &Scene<'_>,
    most: usize,
    record: &mut Record,
) -> Result<ReadBody, Fate> {
    let gone = |record: &mut Record| {
        record.failed(Failure::ClientGone);
        Fate::Close
    };
    let head = session.head();
    if head.version == Version::HTTP_11 && head.headers.contains_key(EXPECT) {
        if give_leave(session).await.is_err() {
            return Err(gone(record));
        }
        // It was met here: the application must not be asked for it again.
        session.head_mut().remove_header(&EXPECT);
    }
    let mut bytes = BytesMut::new();
    let mut ended = session.is_read();
    let mut trailers = None;
    while !ended && bytes.len() <= most {
        match session.read().await {
            Ok(Piece::Body(piece)) => {
                record.received(piece.len());
                bytes.extend_from_slice(&piece);
                ended = session.is_read();
            }
            Ok(Piece::Trailers(mut map)) => {
                trailers::clean(&mut map, scene);
                trailers = Some(map);
                ended = true;
            }
            Ok(Piece::End) => ended = true,
            Err(_) => return Err(gone(record)),
        }
    }
    Ok(ReadBody {
        bytes: bytes.freeze(),
        ended,
        trailers,
    })
}

fn too_large() -> Refusal {
    Refusal {
        body: Bytes::from_static(b"Payload Too Large"),
        ..Refusal::of(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

async fn refuse(session: &mut Incoming, refusal: &Refusal, record: &mut Record) -> Fate {
    record.failed(match refusal.unanswered {
        true => Failure::ExternalUnanswered,
        false => Failure::ExternalDenied,
    });
    let cause = Cause::External {
        status: refusal.status,
        headers: &refusal.headers,
        body: &refusal.body,
    };
    answer(session, cause, record).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_whole_in_part_or_not_at_all() {
        let read = |ended| ReadBody {
            bytes: Bytes::from_static(b"abcd"),
            ended,
            trailers: None,
        };
        let shown = |read: &ReadBody, most, partial| {
            let limits = CheckBody {
                most,
                partial,
                raw: false,
            };
            let shown = read.shown(limits)?;
            Some((shown.bytes.len(), shown.partial))
        };
        assert_eq!(shown(&read(true), 4, false), Some((4, false)));
        assert_eq!(shown(&read(true), 3, false), None);
        assert_eq!(shown(&read(true), 3, true), Some((3, true)));
        assert_eq!(shown(&read(false), 4, false), None);
        assert_eq!(shown(&read(false), 4, true), Some((4, true)));
    }
}
