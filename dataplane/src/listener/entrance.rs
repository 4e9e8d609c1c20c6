//! What protects a listener's connections, made ready for them.

use crate::sni::SniMap;
use rustls::ServerConfig;
use std::sync::Arc;

/// How connections are let in.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// As they come.
    Plain,
    /// Through this handshake.
    Tls(Arc<ServerConfig>),
    /// As the name in their handshake says.
    BySni(Arc<SniMap<Way>>),
}

/// What a name leads to.
#[derive(Debug, Clone)]
pub enum Way {
    /// The bytes are somebody else's: they pass as they come.
    Through,
    /// The handshake ends here.
    Ends(Arc<ServerConfig>, Behind),
}

/// What is spoken behind a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// HTTP.
    Http,
    /// Anything.
    Bytes,
}
