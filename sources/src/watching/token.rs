//! The token itself: whether Consul still takes it.

use crate::knowledge::{News, Topic, Trouble};
use consul::Query;
use consul::acl::AclToken;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Between two looks at the token: all watches may find it refused at the same time.
const DOUBTS_APART: Duration = Duration::from_secs(1);

/// Asks for the token every `poll`, and at once when in `doubt`.
///
/// A revoked token shows at the next question, which may be a minute away while all watches wait
/// for news; and some are answered from the agent's cache even then. An agent without ACLs says
/// so, and is not asked again.
pub(super) async fn follow(
    query: Query<AclToken>,
    poll: Duration,
    doubt: Arc<Notify>,
    sender: mpsc::Sender<(Topic, News)>,
) {
    let mut refused = false;
    loop {
        let news = match query.once().await {
            Ok(_) => std::mem::take(&mut refused).then_some(News::Recovered),
            Err(error) if error.is_without_acls() => return,
            Err(error) => {
                refused = true;
                Some(News::Failed(Trouble::of(&error)))
            }
        };
        if let Some(news) = news
            && sender.send((Topic::Token, news)).await.is_err()
        {
            // Nobody listens any more.
            return;
        }
        tokio::time::sleep(DOUBTS_APART).await;
        let wait = if refused { DOUBTS_APART } else { poll };
        // Time that passes is as good a reason as a doubt.
        let _ = tokio::time::timeout(wait, doubt.notified()).await;
    }
}
