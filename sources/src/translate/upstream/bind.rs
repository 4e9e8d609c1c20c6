//! Where the application finds an upstream: at an address, or at a socket.

use crate::translate::inbound::ip;
use consul::agent::{Upstream as Written, UpstreamKind};
use meridian_model::Bind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where an upstream is to be found, or why it can't be.
pub(super) fn bind(written: &Written) -> Result<Bind, String> {
    match &written.destination_type {
        UpstreamKind::Service | UpstreamKind::PreparedQuery => {}
        UpstreamKind::Other(kind) => return Err(format!("destination type `{kind}` is not known")),
    }
    if !written.destination_peer.is_empty() {
        return Err("cluster peers are not served".to_owned());
    }
    if !written.local_bind_socket_path.is_empty() {
        let mode = match written.local_bind_socket_mode.as_str() {
            "" => None,
            text => Some(socket_mode(text)?),
        };
        return Ok(Bind::Unix {
            path: written.local_bind_socket_path.as_str().into(),
            mode,
        });
    }
    let address = match written.local_bind_address.as_str() {
        "" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => ip(host)?,
    };
    match written.local_bind_port {
        0 => Err("it has neither LocalBindPort nor LocalBindSocketPath".to_owned()),
        port => Ok(Bind::Tcp(SocketAddr::new(address, port))),
    }
}

/// Octal, as in `chmod`.
fn socket_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("LocalBindSocketMode `{text}` is no octal mode"))
}

/// As it stands in a label.
pub(super) fn bind_text(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix { path, .. } => path.display().to_string(),
    }
}
