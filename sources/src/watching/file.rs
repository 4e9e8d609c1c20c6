//! Files on this machine, looked at now and then.

use crate::knowledge::{Fact, News, Topic, Trouble};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Certificates are replaced days before they end, so that seconds don't count; and a poll sees
/// what is swapped by symbolic link, as on Kubernetes' and Nomad's volumes.
const FILE_POLL: Duration = Duration::from_secs(2);

/// Tells what is in a file, and when that changes.
pub(super) async fn follow(topic: Topic, path: PathBuf, sender: mpsc::Sender<(Topic, News)>) {
    let mut polls = tokio::time::interval(FILE_POLL);
    let mut last = None;
    loop {
        polls.tick().await;
        let read = tokio::fs::read(&path).await;
        let read = read.map_err(|error| format!("read {}: {error}", path.display()));
        if last.as_ref() == Some(&read) {
            continue;
        }
        let news = match read.clone() {
            Ok(bytes) => News::Learned(Fact::File(Arc::new(bytes))),
            Err(reason) => News::Failed(Trouble::answer(reason)),
        };
        last = Some(read);
        if sender.send((topic.clone(), news)).await.is_err() {
            // Nobody listens any more.
            return;
        }
    }
}
