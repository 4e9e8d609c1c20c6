//! The client against a real agent in development mode, and against a scripted server for what a
//! real one won't do on demand.

#![expect(clippy::unwrap_used, reason = "a test's set-up fails by panicking")]

mod agent;
mod scripted;

mod access;
mod catalog;
mod connect;
mod entries;
mod keys;
mod restart;
mod rules;

use std::time::Duration;

use consul::blocking::{Watch, WatchEvent};

/// How long anything may take before a test gives up. Generous: the machine may be busy, and an
/// agent that has just started now and then takes 15 s to show a new root.
const DEADLINE: Duration = Duration::from_secs(60);

/// The next event of a watch.
async fn next<T: PartialEq + Send + Sync + 'static>(watch: &mut Watch<T>) -> WatchEvent<T> {
    tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("the watch says nothing")
}

/// Follows a watch until its content satisfies `wanted`.
async fn until<T>(watch: &mut Watch<T>, wanted: impl Fn(&T) -> bool)
where
    T: PartialEq + Send + Sync + std::fmt::Debug + 'static,
{
    loop {
        match next(watch).await {
            WatchEvent::Changed { value, .. } if wanted(&value) => return,
            WatchEvent::Changed { .. } | WatchEvent::Recovered { .. } => {}
            WatchEvent::Failed { error, .. } => panic!("the watch failed: {error:?}"),
        }
    }
}
