//! Connections to endpoints: made, kept, reused and given up.
//!
//! A worker thread has a pool of its own, so that no request takes a lock to
//! find a connection; only where no other may be made, one is had from another
//! worker. A pooled connection is found only by the very transport
//! profile and address that it was made with, so identities never mix.

pub(crate) mod dial;
mod http2;
pub(crate) mod io;
pub(crate) mod pool;
pub(crate) mod profile;
pub(crate) mod session;
mod unsent;

pub(crate) use dial::{DialError, dial};
pub(crate) use io::UpstreamIo;
pub(crate) use profile::TransportProfile;
pub(crate) use session::{ResponseEvent, Session};
