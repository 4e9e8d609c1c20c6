//! The sources against a real Consul agent, found as `CONSUL_BIN` or on PATH; what they cost it
//! against a scripted one.

mod agent;
mod gateway;
mod scale;
mod sidecar;

use meridian_model::Snapshot;
use meridian_sources::Source;
use std::sync::Arc;
use std::time::Duration;

/// Everything here takes a second or two; an agent under load takes longer to elect itself.
const DEADLINE: Duration = Duration::from_secs(45);

/// Waits for a snapshot that satisfies `accept`.
async fn wait(
    source: &mut Source,
    what: &str,
    accept: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let found = source.snapshots.wait_for(|snapshot| accept(snapshot));
    let found = tokio::time::timeout(DEADLINE, found)
        .await
        .map(|found| Arc::clone(&found.expect("the source runs")));
    if let Ok(found) = found {
        return found;
    }
    panic!(
        "not within {DEADLINE:?}: {what}; last: {:#?}",
        source.snapshots.borrow()
    );
}
