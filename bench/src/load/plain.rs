//! A client that sends the same HTTP/1.1 request again and again.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// More than any proxy lets a request wait; ends a turn whose proxy hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection at a time, made when it is needed.
#[derive(Debug)]
pub(crate) struct Client {
    port: u16,
    request: Vec<u8>,
    connection: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    /// Whether it is 200.
    pub(crate) good: bool,
    /// Bytes, the head's included.
    pub(crate) bytes: u64,
}

impl Client {
    /// Of a port, with a body or none.
    pub(crate) fn new(port: u16, body: &[u8]) -> Self {
        Self {
            port,
            request: request(port, body),
            connection: None,
        }
    }

    /// Sends the request and reads the whole reply. After an error the next
    /// request opens a connection of its own.
    pub(crate) fn exchange(&mut self) -> io::Result<Reply> {
        let mut reader = match self.connection.take() {
            Some(reader) => reader,
            None => BufReader::with_capacity(64 << 10, connect(self.port)?),
        };
        reader.get_mut().write_all(&self.request)?;
        let reply = read_reply(&mut reader)?;
        self.connection = Some(reader);
        Ok(reply)
    }
}

/// The bytes of a request, with a body or none.
pub(super) fn request(port: u16, body: &[u8]) -> Vec<u8> {
    let head = if body.is_empty() {
        format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n")
    } else {
        let length = body.len();
        format!("POST / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {length}\r\n\r\n")
    };
    [head.as_bytes(), body].concat()
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A reply with a length, which is all that the origins send.
pub(super) fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    let mut bytes = reader.read_line(&mut line)?;
    if bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let good = line.split(' ').nth(1) == Some("200");
    let mut length = 0;
    loop {
        line.clear();
        bytes += reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let body = io::copy(&mut reader.take(length), &mut io::sink())?;
    if body < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Reply {
        good,
        bytes: bytes as u64 + body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_to_their_end_and_no_further() {
        let mut wire: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 No\r\n\r\n";
        let first = read_reply(&mut wire).unwrap();
        assert!(first.good);
        assert_eq!(first.bytes, 40);
        assert!(!read_reply(&mut wire).unwrap().good);
    }

    #[test]
    fn a_closed_connection_is_an_error() {
        assert!(read_reply(&mut io::empty()).is_err());
        let mut cut: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
        assert!(read_reply(&mut cut).is_err());
    }
}
