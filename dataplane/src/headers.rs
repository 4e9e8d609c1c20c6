//! Changing the headers of requests and responses on their way through.
//!
//! All functions work on Pingora's header types, since these keep the case of
//! names beside the map and must change both.

mod cookies;
mod head;
mod hop_by_hop;
mod identity;
mod modify;
mod text;

pub use cookies::join_cookies;
pub(crate) use head::Head;
pub use hop_by_hop::{
    NominatedHeader, UpgradeHeaders, requested_upgrade, strip_hop_by_hop, strip_hop_by_hop_response,
};
pub use identity::{HeaderNames, strip_headers};
pub use modify::{modify_request, modify_response};
pub use text::MessageFacts;
