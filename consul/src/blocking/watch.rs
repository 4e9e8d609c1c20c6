//! A blocking query kept running.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tokio::time::Instant;

use super::{Cursor, Pacing};
use crate::{
    error::Error,
    query::{Meta, Query, Raw, Response},
};

/// Follows one answer of the API.
///
/// Lives as long as it is held: there is no task behind it, [`Watch::next`] does the work, and
/// dropping it ends the query.
pub struct Watch<T> {
    query: Query<T>,
    cursor: Cursor,
    last: Option<Arc<T>>,
    not_before: Instant,
    in_flight: Option<InFlight<T>>,
}

type InFlight<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Error>> + Send>>;

/// What a watch has to say.
#[derive(Debug)]
pub enum WatchEvent<T> {
    /// The first answer, or one whose content differs from the last.
    Changed {
        /// The new content.
        value: Arc<T>,
        /// What its headers say.
        meta: Meta,
        /// The answer as it came.
        raw: Raw,
    },
    /// The first answer after failures; its content is the one already known.
    Recovered {
        /// What its headers say.
        meta: Meta,
    },
    /// A query failed; the watch goes on after a pause. The last content stays valid as far as
    /// anyone knows.
    Failed {
        /// Why.
        error: Error,
        /// Failures in a row, this one included.
        consecutive: u32,
    },
}

impl<T> Watch<T> {
    pub(crate) fn new(query: Query<T>, pacing: Pacing) -> Self {
        let now = Instant::now();
        let cursor = Cursor::new(pacing, now.into_std());
        Self {
            query,
            cursor,
            last: None,
            not_before: now,
            in_flight: None,
        }
    }

    /// The last content, also while the agent is away.
    #[must_use]
    pub fn last(&self) -> Option<&Arc<T>> {
        self.last.as_ref()
    }
}

impl<T: PartialEq + Send + Sync + 'static> Watch<T> {
    /// Waits for news. It never ends by itself: after a failure the next call tries again.
    ///
    /// Cancel safe: a query that is under way when the future is dropped stays so, and the next
    /// call goes on with it.
    pub async fn next(&mut self) -> WatchEvent<T> {
        loop {
            let result = match &mut self.in_flight {
                Some(query) => query.await,
                None => {
                    tokio::time::sleep_until(self.not_before).await;
                    self.in_flight = Some(self.ask());
                    continue;
                }
            };
            self.in_flight = None;
            if let Some(event) = self.take(result) {
                return event;
            }
        }
    }

    fn ask(&self) -> InFlight<T> {
        let query = self.query.clone();
        let position = self.cursor.position().clone();
        let wait = self.cursor.wait(fastrand::f64());
        Box::pin(async move { query.at(&position, wait).await })
    }

    fn take(&mut self, result: Result<Response<T>, Error>) -> Option<WatchEvent<T>> {
        let now = Instant::now();
        let Response { value, meta, raw } = match result {
            Ok(response) => response,
            Err(error) => {
                self.not_before = now + self.cursor.failed(fastrand::f64());
                return Some(WatchEvent::Failed {
                    error,
                    consecutive: self.cursor.failures(),
                });
            }
        };
        let recovered = self.cursor.failures() > 0;
        let changed = self.last.as_deref() != Some(&value);
        self.not_before = now + self.cursor.answered(now.into_std(), &meta, changed);
        if changed {
            let value = Arc::new(value);
            self.last = Some(value.clone());
            Some(WatchEvent::Changed { value, meta, raw })
        } else {
            recovered.then_some(WatchEvent::Recovered { meta })
        }
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("query", &self.query)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
