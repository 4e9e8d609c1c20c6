//! Roles: what a proxy can be in Consul's mesh, and the loop that all of them live by.

use crate::knowledge::{Knowledge, Origin, Topic};
use crate::publish::{Contents, Publisher, SourceMetrics, Waiting, announce};
use meridian_model::Snapshot;
use std::collections::BTreeSet;

/// A role: pure functions of what is known.
pub(crate) trait Role: Send {
    /// Everything to be followed, given what is known so far.
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic>;
    /// What to publish; `None` while too little is known.
    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents>;
}

/// Publishes what a role makes of what its origin knows, as long as it runs.
pub(crate) async fn serve(
    role: impl Role,
    mut origin: impl Origin,
    metrics: &dyn SourceMetrics,
    mut publisher: Publisher,
) {
    let mut waiting = Waiting::default();
    loop {
        let wanted = role.wanted(origin.knowledge());
        origin.keep(&wanted);
        origin.learn().await;
        let before = publisher.last();
        let status = origin.status();
        waiting.explain(&publisher, &status);
        let published = match role.contents(origin.knowledge(), &before) {
            Some(contents) => publisher.publish(contents, status),
            None => publisher.refresh(status),
        };
        if published {
            announce(&publisher, &before, metrics);
        }
    }
}
