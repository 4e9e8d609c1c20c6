//! Changing the headers of requests and responses on their way through.
//!
//! All functions work on heads of our own; `message` says why they are not Pingora's.

mod cookies;
mod head;
mod hop_by_hop;
mod identity;
mod message;
mod modify;
mod text;

pub use cookies::join_cookies;
pub(crate) use head::Head;
pub use hop_by_hop::{
    NominatedHeader, UpgradeHeaders, requested_upgrade, strip_hop_by_hop, strip_hop_by_hop_response,
};
pub use identity::{HeaderNames, strip_headers};
pub use message::{RequestHeader, ResponseHeader};
pub use modify::{modify_request, modify_response};
pub use text::MessageFacts;
