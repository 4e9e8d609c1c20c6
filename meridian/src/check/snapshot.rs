//! What the proxy would make of Consul's answers.
//!
//! The snapshot is made by the proxy's own source, so that nothing is judged here by rules that
//! are not the proxy's.

use super::report::Report;
use meridian_model::{Snapshot, SourceState};
use meridian_sources::Source;
use std::sync::Arc;
use std::time::Duration;

/// The first generation that is `settled`, or the last one within `limit`; or why there is none.
/// What of it can't be honoured is named.
pub(super) async fn first(
    mut source: Source,
    limit: Duration,
    settled: impl Fn(&Snapshot) -> bool,
    report: &mut Report,
) -> Option<Arc<Snapshot>> {
    report.group("configuration");
    let found = source
        .snapshots
        .wait_for(|now| now.generation > 0 && settled(now));
    // Both a timeout and the source's end leave what there is.
    drop(tokio::time::timeout(limit, found).await);
    let last = Arc::clone(&source.snapshots.borrow());
    if last.generation == 0 {
        let stale = last.sources.iter().find_map(|status| match &status.state {
            SourceState::Stale { reason, .. } => Some(reason.clone()),
            SourceState::Current => None,
        });
        let reason = stale.unwrap_or_else(|| "Consul has not answered everything".to_owned());
        report.bad(
            format!("it would not be ready within {limit:?}: {reason}"),
            "mend what is named, or wait longer with --timeout",
        );
        return None;
    }
    if last.rejected.is_empty() {
        report.good("all of it is honoured");
    }
    for rejection in &last.rejected {
        report.warn(
            format!("{}: {}", rejection.resource, rejection.reason),
            "the rest is served; docs/consul.md says what is honoured",
        );
    }
    Some(last)
}
