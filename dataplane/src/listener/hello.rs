//! The first message of a handshake, read ahead for the name in it.

use crate::downstream::{Rewound, Socket};
use crate::tls::{HandshakeError, HandshakeFailure};
use bytes::BytesMut;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Most bytes of a first message: twice what one record holds, and ten times what clients with
/// post-quantum key shares send.
const LARGEST: usize = 32 * 1024;

/// An ordinary first message fits.
const FIRST_READ: usize = 2048;

/// Reads until the first message is complete; the caller keeps the deadline. The socket then
/// gives all its bytes again.
///
/// # Errors
/// When the client sends something else, too much, or no name.
pub(super) async fn read(mut socket: Socket) -> Result<(Rewound, Arc<str>), HandshakeError> {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    let mut acceptor = Acceptor::default();
    loop {
        let before = bytes.len();
        if before >= LARGEST {
            return Err(malformed("the first message is too large"));
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(name) = take_in(&mut acceptor, &bytes[before..])? {
            return Ok((Rewound::new(socket, bytes.freeze()), name));
        }
    }
}

/// The name, once the message is complete.
#[expect(
    clippy::result_large_err,
    reason = "an error is made once, and ends the connection"
)]
pub(crate) fn take_in(
    acceptor: &mut Acceptor,
    mut bytes: &[u8],
) -> Result<Option<Arc<str>>, HandshakeError> {
    while !bytes.is_empty() {
        // From memory: an error says that its buffer is full.
        acceptor.read_tls(&mut bytes)?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().ok_or_else(|| unknown(None))?;
                return Ok(Some(name.to_ascii_lowercase().into()));
            }
            // The alert is not sent: the connection is reset, as Envoy does.
            Err((error, _alert)) => return Err(malformed(error)),
        }
    }
    Ok(None)
}

/// There is nothing under the name.
pub(super) fn unknown(name: Option<&str>) -> HandshakeError {
    let said = match name {
        Some(name) => format!("nothing is served under `{name}`"),
        None => "the client asks for no name".to_owned(),
    };
    HandshakeError {
        failure: HandshakeFailure::UnknownName,
        peer: None,
        source: io::Error::other(said),
    }
}

fn malformed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HandshakeError {
    HandshakeError {
        failure: HandshakeFailure::Protocol,
        peer: None,
        source: io::Error::new(io::ErrorKind::InvalidData, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    fn hello(name: &'static str) -> Vec<u8> {
        crate::tls::provider();
        let config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// What is read of a client that sends these pieces, and then waits.
    async fn reading(pieces: &[&[u8]]) -> Result<(Vec<u8>, Arc<str>), HandshakeFailure> {
        let (mut client, server) = UnixStream::pair().unwrap();
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let reading = tokio::spawn(read(Socket::Unix(server)));
        for piece in pieces {
            // It stops reading when it has seen enough.
            let _ = client.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let read = tokio::time::timeout(Duration::from_secs(5), reading);
        let (mut socket, name) = read.await.unwrap().unwrap().map_err(|e| e.failure)?;
        let mut again = vec![0; total];
        socket.read_exact(&mut again).await.unwrap();
        Ok((again, name))
    }

    #[tokio::test]
    async fn finds_the_name_and_gives_the_bytes_again() {
        let mut sent = hello("Web.Default.dc1.internal.td");
        sent.extend(b"more");
        let (again, name) = reading(&[&sent]).await.unwrap();
        assert_eq!(&*name, "web.default.dc1.internal.td");
        assert_eq!(again, sent);
    }

    #[tokio::test]
    async fn a_message_in_single_bytes_is_waited_for() {
        let sent = hello("web.td");
        let pieces: Vec<&[u8]> = sent.chunks(1).collect();
        let (again, name) = reading(&pieces).await.unwrap();
        assert_eq!((again, &*name), (sent, "web.td"));
    }

    #[tokio::test]
    async fn what_is_no_handshake_is_refused() {
        let refused = reading(&[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
        assert_eq!(refused.unwrap_err(), HandshakeFailure::Protocol);
    }

    #[tokio::test]
    async fn a_client_without_a_name_is_refused() {
        let refused = reading(&[&hello("127.0.0.1")]).await;
        assert_eq!(refused.unwrap_err(), HandshakeFailure::UnknownName);
    }

    #[tokio::test]
    async fn a_message_without_end_is_refused() {
        // Records of a handshake whose message claims to be 16 MB long.
        let mut record = vec![22, 3, 1, 0x40, 0x00, 1, 0xff, 0xff, 0xff];
        record.resize(5 + 0x4000, 0);
        let mut next = vec![22, 3, 1, 0x40, 0x00];
        next.resize(5 + 0x4000, 0);
        let refused = reading(&[&record, &next, &next]).await;
        assert_eq!(refused.unwrap_err(), HandshakeFailure::Protocol);
    }
}
