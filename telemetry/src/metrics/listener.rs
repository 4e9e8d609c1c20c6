//! What a listener counts: connections, handshakes, bytes, refusals, verdicts.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Open;
use super::family::Families;
use super::scope::Handle;
use super::word_counters::WordCounters;
use super::words::{Layer, OverRate, RejectReason, TlsResult, Verdict, Word};

/// The handles of a listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    listener: Arc<str>,
    open: IntGauge,
    opened: IntCounter,
    limited: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    rejected: WordCounters<RejectReason>,
    over_rate: WordCounters<OverRate>,
    handshakes: WordCounters<TlsResult>,
    connection_verdicts: WordCounters<Verdict>,
    request_verdicts: WordCounters<Verdict>,
    external_verdicts: WordCounters<Verdict>,
    families: ListenerFamilies,
}

/// Kept to remove the series again.
#[derive(Debug)]
struct ListenerFamilies {
    open: IntGaugeVec,
    /// Those whose one label is the listener.
    counters: [IntCounterVec; 4],
}

impl ListenerMetrics {
    pub(super) fn new(families: &Families, listener: &Arc<str>) -> Self {
        let name: &str = listener;
        let alone = [name];
        let handshake_labels = ["server", name, ""];
        let verdicts =
            |layer: Layer| WordCounters::new(&families.authorization, &[name, layer.as_str()]);
        Self {
            listener: Arc::clone(listener),
            open: families.downstream_open.with_label_values(&alone),
            opened: families.downstream_opened.with_label_values(&alone),
            limited: families.downstream_limited.with_label_values(&alone),
            received: families.tcp_received.with_label_values(&alone),
            sent: families.tcp_sent.with_label_values(&alone),
            rejected: WordCounters::new(&families.server_rejected, &alone),
            over_rate: WordCounters::new(&families.server_over_rate, &alone),
            handshakes: WordCounters::new(&families.tls_handshakes, &handshake_labels),
            connection_verdicts: verdicts(Layer::L4),
            request_verdicts: verdicts(Layer::L7),
            external_verdicts: verdicts(Layer::External),
            families: ListenerFamilies {
                open: families.downstream_open.clone(),
                counters: [
                    families.downstream_opened.clone(),
                    families.downstream_limited.clone(),
                    families.tcp_received.clone(),
                    families.tcp_sent.clone(),
                ],
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
        self.rejected.inc(reason);
    }

    /// Counts a request above a rate limit.
    pub fn over_rate(&self, outcome: OverRate) {
        self.over_rate.inc(outcome);
    }

    /// Counts a TLS handshake with a client.
    pub fn handshake(&self, result: TlsResult) {
        self.handshakes.inc(result);
    }

    /// Counts a decision about access.
    pub fn verdict(&self, layer: Layer, verdict: Verdict) {
        match layer {
            Layer::L4 => self.connection_verdicts.inc(verdict),
            Layer::L7 => self.request_verdicts.inc(verdict),
            Layer::External => self.external_verdicts.inc(verdict),
        }
    }
}

impl Handle for ListenerMetrics {
    fn forget(&self) {
        let alone: [&str; 1] = [&self.listener];
        self.rejected.forget();
        self.over_rate.forget();
        self.handshakes.forget();
        self.connection_verdicts.forget();
        self.request_verdicts.forget();
        self.external_verdicts.forget();
        // Each fails only for a series that is not there, which is what is wanted.
        let _ = self.families.open.remove_label_values(&alone);
        for family in &self.families.counters {
            let _ = family.remove_label_values(&alone);
        }
    }
}
