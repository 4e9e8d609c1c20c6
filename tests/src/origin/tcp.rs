//! A TCP origin that shows whether half-close is kept.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::loopback;

/// Said after the client has closed its direction: it arrives only where a proxy
/// keeps the other direction open.
pub const FAREWELL: &[u8] = b"\nend of input seen\n";

/// Asks the origin to reset the connection instead of answering.
pub const RESET: &[u8] = b"reset";

/// Echoes every byte, then says farewell. It ends when dropped.
#[derive(Debug)]
pub struct TcpOrigin {
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl TcpOrigin {
    /// Starts an origin; port 0 takes a free one.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(loopback(port))
            .await
            .expect("a port for the origin");
        let address = listener.local_addr().expect("the address of a listener");
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that the proxy cuts is no concern of the origin.
                tokio::spawn(async { drop(echo(stream).await) });
            }
        });
        Self { address, acceptor }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpOrigin {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            length if buffer[..length] == *RESET => return stream.set_zero_linger(),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
    stream.write_all(FAREWELL).await?;
    stream.shutdown().await
}
