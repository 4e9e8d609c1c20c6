//! Which traces are recorded.

use super::{TraceContext, TraceId};

/// Follows the caller's decision, and records a share of the traces begun here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A trace whose lower 63 bits lie below is recorded.
    threshold: u64,
}

impl Sampler {
    /// Records `ratio` of the new traces: 0 none, 1 all. Values outside are clamped,
    /// and one that is not a number records none.
    pub fn new(ratio: f64) -> Self {
        // As the OpenTelemetry SDKs do it, so that programs with the same ratio
        // choose the same traces. The cast saturates, and maps NaN to 0.
        let threshold = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { threshold }
    }

    /// The context of a request's own span: below the caller's, or a new trace's root.
    pub fn begin(&self, incoming: Option<&TraceContext>) -> TraceContext {
        incoming.map_or_else(
            || {
                let root = TraceContext::root(false);
                TraceContext {
                    sampled: self.records(&root.trace_id),
                    ..root
                }
            },
            TraceContext::child,
        )
    }

    fn records(&self, trace_id: &TraceId) -> bool {
        let low = u128::from_be_bytes(*trace_id) as u64;
        low >> 1 < self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_all_none_or_a_share() {
        let recorded = |ratio: f64| {
            let sampler = Sampler::new(ratio);
            (0..10_000).filter(|_| sampler.begin(None).sampled).count()
        };
        assert_eq!(recorded(0.0), 0);
        assert_eq!(recorded(f64::NAN), 0);
        assert_eq!(recorded(1.0), 10_000);
        assert_eq!(recorded(7.0), 10_000);
        // Ten standard deviations around 2500.
        assert!((2067..=2933).contains(&recorded(0.25)));
    }

    #[test]
    fn follows_the_caller() {
        let caller = TraceContext::root(true);
        let ours = Sampler::new(0.0).begin(Some(&caller));
        assert_eq!((ours.trace_id, ours.sampled), (caller.trace_id, true));
        let caller = TraceContext::root(false);
        assert!(!Sampler::new(1.0).begin(Some(&caller)).sampled);
    }
}
