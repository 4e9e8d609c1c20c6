//! A request on an HTTP/1.1 connection of its own.

use super::ResponseEvent;
use crate::upstream::io::UpstreamIo;
use crate::upstream::pool::{self, Origin, PoolKey};
use crate::upstream::unsent::Backlog;
use bytes::Bytes;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::poll_fn;

/// An HTTP/1.1 connection, and where it goes back to.
pub(super) struct Http1 {
    session: HttpSession,
    /// What the upstream has still to take.
    backlog: Backlog,
    origin: Origin,
    key: PoolKey,
}

impl Http1 {
    pub(super) fn new(key: PoolKey, origin: Origin, session: HttpSession) -> Self {
        let io: Option<&UpstreamIo> = (**session.stream()).as_any().downcast_ref();
        let backlog = io.and_then(UpstreamIo::backlog).cloned();
        Self {
            session,
            backlog: backlog.unwrap_or_default(),
            origin,
            key,
        }
    }

    pub(super) async fn send_head(&mut self, head: Box<RequestHeader>) -> Result<()> {
        self.session.write_request_header(head).await.map(|_| ())
    }

    pub(super) async fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        if !bytes.is_empty() {
            self.session.write_body(&bytes).await?;
        }
        if end {
            self.session.finish_body().await?;
        }
        Ok(())
    }

    pub(super) fn is_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(super) async fn next(&mut self) -> Result<ResponseEvent> {
        let blocked = self.is_blocked();
        let sent = poll_fn(|_| self.backlog.poll_empty());
        tokio::select! {
            biased;
            event = read(&mut self.session) => event,
            () = sent, if blocked => Ok(ResponseEvent::Unblocked),
        }
    }

    pub(super) fn upgrade(&mut self) {
        self.session.maybe_upgrade_body_writer();
    }

    pub(super) async fn release(self, request_sent: bool) {
        let Self {
            mut session,
            backlog,
            origin,
            key,
        } = self;
        // An upstream that answered before it read the whole request would
        // take the rest of it for the next one.
        if !request_sent || !backlog.is_empty() {
            session.shutdown().await;
            return;
        }
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            pool::give_back(key, origin, stream);
        }
    }

    pub(super) async fn abort(mut self) {
        self.session.shutdown().await;
    }
}

async fn read(session: &mut HttpSession) -> Result<ResponseEvent> {
    Ok(match session.read_response_task().await? {
        HttpTask::Header(head, _) if is_informational(&head) => ResponseEvent::Informational(head),
        HttpTask::Header(head, end) => ResponseEvent::Head { head, end },
        HttpTask::Body(bytes, end) | HttpTask::UpgradedBody(bytes, end) => ResponseEvent::Body {
            bytes: bytes.unwrap_or_default(),
            end,
        },
        HttpTask::Trailer(trailers) => {
            trailers.map_or(ResponseEvent::End, |map| ResponseEvent::Trailers(*map))
        }
        HttpTask::Done => ResponseEvent::End,
        HttpTask::Failed(error) => return Err(error),
    })
}

/// 101 is a head like any other here: after it comes the other protocol.
fn is_informational(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS
}
