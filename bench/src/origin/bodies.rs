//! Reads whole requests and answers each with a large body. nginx has no handler
//! that reads a body to its end before it answers.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::LARGE;

/// Serves for ever.
pub(super) async fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("a port for the origin");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
    let reply: Arc<[u8]> = [head.into_bytes(), vec![b'x'; LARGE]].concat().into();
    while let Ok((stream, _)) = listener.accept().await {
        let reply = Arc::clone(&reply);
        // A connection that the proxy cuts is no concern of the origin.
        tokio::spawn(async move { drop(answer(stream, &reply).await) });
    }
}

async fn answer(stream: TcpStream, reply: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    while let Some(length) = read_head(&mut stream).await? {
        let mut body = (&mut stream).take(length);
        let read = tokio::io::copy_buf(&mut body, &mut tokio::io::sink()).await?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.get_mut().write_all(reply).await?;
    }
    Ok(())
}

/// The length that a head announces; none at the end of the connection. A body
/// without a length can't be told from the next head here, and is refused.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<u64>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(Some(length));
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::ErrorKind::Unsupported.into());
        }
    }
}
