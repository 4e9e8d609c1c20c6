//! What metrics, health and the log learn of a try.

use super::Journey;
use crate::proxy::blame::{blame, try_error};
use crate::proxy::exchange::Outcome;
use crate::proxy::failure::Failure;
use crate::tables::Picked;
use crate::tls::HandshakeFailure;
use http::Version;
use meridian_model::UpstreamProtocol;
use meridian_telemetry::metrics::TryError;
use std::time::{Duration, Instant};

impl Journey<'_> {
    /// Tells metrics what a try came to, and health where it came to no answer; how long it took.
    pub(super) fn tell(
        &self,
        picked: &Picked,
        began: Instant,
        outcome: Outcome,
        status: Option<u16>,
    ) -> Duration {
        // One look at the clock for all of them.
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(began);
        match (status, outcome) {
            (Some(status), _) => {
                self.way.cluster.metrics.responded(status, elapsed);
                picked.member.stats().observe(elapsed, now);
            }
            (None, Outcome::Failed { failure, .. } | Outcome::Broken(failure)) => {
                if let Some(health) = blame(failure) {
                    self.way.cluster.report(picked, health, now);
                }
                if let Some(error) = try_error(failure) {
                    self.way.cluster.metrics.failed(error, elapsed);
                }
                if matches!(outcome, Outcome::Failed { sent: true, .. })
                    && failure == Failure::PeerUnverified
                {
                    self.refused(picked, elapsed);
                }
            }
            (None, Outcome::Complete | Outcome::Unwanted(_)) => {}
        }
        elapsed
    }

    /// What the upstream speaks, for the try's own story.
    pub(super) fn upstream_version(&self) -> Version {
        match self.way.cluster.model.protocol {
            UpstreamProtocol::Http2 => Version::HTTP_2,
            UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => Version::HTTP_11,
        }
    }

    /// Counts and logs a handshake that came to nothing only after it seemed to be over.
    fn refused(&self, picked: &Picked, elapsed: Duration) {
        let failure = HandshakeFailure::Refused;
        self.way.cluster.metrics.handshake(failure.metric());
        self.way.cluster.metrics.failed(TryError::Tls, elapsed);
        tracing::warn!(
            cluster = %self.way.cluster.model.name,
            endpoint = %picked.member.endpoint().address,
            reason = failure.as_str(),
            "cannot connect"
        );
    }
}
