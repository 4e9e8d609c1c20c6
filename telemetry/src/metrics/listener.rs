//! What a listener counts: connections, handshakes, bytes, refusals, verdicts.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::family::Families;
use super::scope::Handle;
use super::words::{Layer, RejectReason, TlsResult, Verdict, Word};
use super::{Open, by_word};

/// The handles of a listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    listener: Arc<str>,
    open: IntGauge,
    opened: IntCounter,
    limited: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    rejected: [IntCounter; RejectReason::COUNT],
    handshakes: [IntCounter; TlsResult::COUNT],
    verdicts: [[IntCounter; Verdict::COUNT]; Layer::COUNT],
    families: ListenerFamilies,
}

/// Kept to remove the series again.
#[derive(Debug)]
struct ListenerFamilies {
    open: IntGaugeVec,
    /// Those whose one label is the listener.
    counters: [IntCounterVec; 4],
    rejected: IntCounterVec,
    handshakes: IntCounterVec,
    verdicts: IntCounterVec,
}

impl ListenerMetrics {
    pub(super) fn new(families: &Families, listener: &Arc<str>) -> Self {
        let name: &str = listener;
        let alone = [name];
        Self {
            listener: Arc::clone(listener),
            open: families.downstream_open.with_label_values(&alone),
            opened: families.downstream_opened.with_label_values(&alone),
            limited: families.downstream_limited.with_label_values(&alone),
            received: families.tcp_received.with_label_values(&alone),
            sent: families.tcp_sent.with_label_values(&alone),
            rejected: by_word::<RejectReason, _>(|word| {
                families.server_rejected.with_label_values(&[name, word])
            }),
            handshakes: by_word::<TlsResult, _>(|word| {
                families
                    .tls_handshakes
                    .with_label_values(&tls_labels(name, word))
            }),
            verdicts: std::array::from_fn(|layer| {
                let layer = Layer::ALL[layer].as_str();
                by_word::<Verdict, _>(|word| {
                    families
                        .authorization
                        .with_label_values(&[name, layer, word])
                })
            }),
            families: ListenerFamilies {
                open: families.downstream_open.clone(),
                counters: [
                    families.downstream_opened.clone(),
                    families.downstream_limited.clone(),
                    families.tcp_received.clone(),
                    families.tcp_sent.clone(),
                ],
                rejected: families.server_rejected.clone(),
                handshakes: families.tls_handshakes.clone(),
                verdicts: families.authorization.clone(),
            },
        }
    }

    /// Counts an accepted connection, as open until the result is dropped.
    pub fn accepted(self: &Arc<Self>) -> Open {
        self.opened.inc();
        Open::new(&self.open, self)
    }

    /// Counts a connection that was closed at once because of a limit.
    pub fn limit_reached(&self) {
        self.limited.inc();
    }

    /// Counts bytes of a TCP stream from the client.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// Counts bytes of a TCP stream to the client.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// Counts a request that was refused before it was routed.
    pub fn rejected(&self, reason: RejectReason) {
        self.rejected[reason as usize].inc();
    }

    /// Counts a TLS handshake with a client.
    pub fn handshake(&self, result: TlsResult) {
        self.handshakes[result as usize].inc();
    }

    /// Counts a decision about access.
    pub fn verdict(&self, layer: Layer, verdict: Verdict) {
        self.verdicts[layer as usize][verdict as usize].inc();
    }
}

fn tls_labels<'a>(listener: &'a str, result: &'a str) -> [&'a str; 4] {
    ["server", listener, "", result]
}

impl Handle for ListenerMetrics {
    fn forget(&self) {
        let name: &str = &self.listener;
        let families = &self.families;
        // Each fails only for a series that is not there, which is what is wanted.
        let _ = families.open.remove_label_values(&[name]);
        for family in &families.counters {
            let _ = family.remove_label_values(&[name]);
        }
        for word in RejectReason::ALL {
            let _ = families
                .rejected
                .remove_label_values(&[name, word.as_str()]);
        }
        for word in TlsResult::ALL {
            let labels = tls_labels(name, word.as_str());
            let _ = families.handshakes.remove_label_values(&labels);
        }
        for layer in Layer::ALL {
            for word in Verdict::ALL {
                let labels = [name, layer.as_str(), word.as_str()];
                let _ = families.verdicts.remove_label_values(&labels);
            }
        }
    }
}
