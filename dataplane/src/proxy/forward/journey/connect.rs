//! A try's connection: a pooled or a new one, for as long as the request may wait.

use super::Journey;
use crate::proxy::blame::connect_failure;
use crate::proxy::deadline::{Clock, Ring};
use crate::proxy::failure::Failure;
use crate::tables::Picked;
use crate::tls::HandshakeFailure;
use crate::upstream::pool::{self, ConnectError, PoolKey};
use crate::upstream::{DialError, Session};
use meridian_telemetry::metrics::{TlsResult, TryError};
use std::sync::Arc;
use std::time::Instant;

impl Journey<'_> {
    /// Connects to the endpoint picked.
    pub(super) async fn connect(
        &mut self,
        picked: &Picked,
    ) -> Result<Session, (Failure, TryError)> {
        let key = PoolKey::new(
            Arc::clone(&picked.profile),
            Arc::clone(&picked.member),
            self.way.cluster.model.idle_timeout,
            Arc::clone(&self.way.cluster.breaker),
        );
        let limit = self.way.cluster.model.connect_timeout;
        let result = tokio::select! {
            result = pool::connect(&key, limit, &self.way.cluster.metrics, || {
                self.way.cluster.has_other(picked, &self.tried, Instant::now())
            }) => result,
            failure = out_of_time(&mut self.clock) => return Err((failure, TryError::Timeout)),
        };
        match result {
            Ok(session) => {
                if picked.profile.is_tls() && !session.is_reused() {
                    self.way.cluster.metrics.handshake(TlsResult::Ok);
                }
                Ok(session)
            }
            Err(error) => {
                let failure = match &error {
                    ConnectError::Dial(DialError::Tls { failure, .. }) => Some(*failure),
                    _ => None,
                };
                if let Some(failure) = failure {
                    self.way.cluster.metrics.handshake(failure.metric());
                }
                tracing::warn!(
                    cluster = %self.way.cluster.model.name,
                    endpoint = %picked.member.endpoint().address,
                    reason = failure.map(HandshakeFailure::as_str),
                    error = %meridian_telemetry::Chain(&error),
                    "cannot connect"
                );
                Err(connect_failure(&error))
            }
        }
    }
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
