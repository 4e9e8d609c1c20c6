//! Intent: the newest good blueprint, and whether it is the operator's newest word.

use meridian_model::{Blueprint, Rejection, SourceStatus};
use std::sync::Arc;

/// What a gateway is to do.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The last good version.
    pub blueprint: Arc<Blueprint>,
    /// Whether its origin says the same now; `None` for one that has no origin to differ from.
    pub status: Option<SourceStatus>,
    /// Why its origin's newest version is not used.
    pub rejected: Option<Rejection>,
}

impl From<Blueprint> for Intent {
    /// An intent that was not read from anywhere.
    fn from(blueprint: Blueprint) -> Self {
        Self {
            blueprint: Arc::new(blueprint),
            status: None,
            rejected: None,
        }
    }
}
