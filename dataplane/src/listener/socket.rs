//! Opening the sockets of listeners.

use meridian_model::Bind;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, TcpKeepalive, Type};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections that wait in the kernel for us: a second's worth at a rate that
/// a busy edge sees. The kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 1024;

/// A dead client is found out within four minutes: idle for a minute, then the
/// kernel's nine probes. Shorter than the idle deadline, longer than a phone's tunnel.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A program for the kernel that drops the first segment of every handshake: SYN without ACK. It
/// sees segments from their TCP header on, with the flags at byte 13 (RFC 9293, 3.1).
pub(super) static NO_NEWCOMERS: [SockFilter; 5] = {
    /// What the instructions are called in `linux/bpf_common.h`.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        // So many bytes are kept: none, or all.
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another listener of the same snapshot has the address.
    #[error("address is taken by listener {0}")]
    Taken(meridian_model::ListenerName),
    /// The path of a Unix socket is something else.
    #[error("{} exists and is no socket", .0.display())]
    NotASocket(PathBuf),
    /// Another process listens on the Unix socket.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {address}")]
    System {
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens, and what must be tidied up after it.
#[derive(Debug)]
pub(super) struct Listening {
    socket: Socket,
    /// Removed when the last user is gone.
    file: Option<SocketFile>,
}

/// A clone of a listening socket, for one worker.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed or replaced by somebody else already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listening {
    pub(super) fn open(bind: &Bind) -> Result<Self, BindError> {
        let system = |source| BindError::System {
            address: match bind {
                Bind::Tcp(address) => address.to_string(),
                Bind::Unix { path, .. } => format!("unix:{}", path.display()),
            },
            source,
        };
        match bind {
            Bind::Tcp(address) => open_tcp(*address)
                .map(|socket| Self { socket, file: None })
                .map_err(system),
            Bind::Unix { path, mode } => {
                remove_stale(path)?;
                let socket = open_unix(path).map_err(system)?;
                let file = SocketFile(path.clone());
                if let Some(mode) = mode {
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode)).map_err(system)?;
                }
                Ok(Self {
                    socket,
                    file: Some(file),
                })
            }
        }
    }

    /// The bound address; `None` for a Unix socket.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // A bound TCP socket has an address; a Unix socket has none of this kind.
        self.socket.local_addr().ok()?.as_socket()
    }

    /// With a clone for each worker.
    pub(super) fn acceptors(self, count: usize) -> Result<(Self, Vec<Acceptor>), BindError> {
        let acceptor = || {
            let socket = self.socket.try_clone()?;
            Ok(match self.file {
                None => Acceptor::Tcp(socket.into()),
                Some(_) => Acceptor::Unix(socket.into()),
            })
        };
        let acceptors = (0..count)
            .map(|_| acceptor())
            .collect::<io::Result<_>>()
            .map_err(|source| BindError::System {
                address: self
                    .address()
                    .map_or_else(|| "unix socket".to_owned(), |address| address.to_string()),
                source,
            })?;
        Ok((self, acceptors))
    }
}

/// Sets what every accepted TCP connection should have.
pub(super) fn tune(stream: &tokio::net::TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    // Both fail only on a connection that is already gone, which the first read finds.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

fn open_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // An IPv6 listener takes no IPv4 connections: the two stand in the
        // configuration apart, and a peer's address keeps its own form.
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process may linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    listen(socket, &address.into())
}

fn open_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    listen(socket, &SockAddr::unix(path)?)
}

fn listen(socket: Socket, address: &SockAddr) -> io::Result<Socket> {
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes the file of a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        // Nothing there, or nothing that we may see: binding will tell.
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse(path.to_owned()));
    }
    fs::remove_file(path).map_err(|source| BindError::System {
        address: format!("unix:{}", path.display()),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::{BindError, Listening};
    use meridian_model::Bind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bind = Bind::Unix {
            path: path.clone(),
            mode: Some(0o600),
        };
        let open = Listening::open(&bind).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Listening::open(&bind), Err(BindError::InUse(_))));
        drop(open);
        assert!(!path.exists());
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(
            Listening::open(&bind),
            Err(BindError::NotASocket(_))
        ));
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listening::open(&Bind::Tcp(address)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }
}
