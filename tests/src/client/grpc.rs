//! gRPC calls as they look on the wire: HTTP/2, length-prefixed messages, and the
//! outcome in the trailers. No generated code: what is tested is the transport.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::time::timeout;

use super::{Connection, Error, Protocol, REPLY};

/// Messages under way in one direction; the tests send one at a time.
const IN_FLIGHT: usize = 4;

/// A call in progress, both directions open.
#[derive(Debug)]
pub struct Call {
    outgoing: Sender<Bytes, Infallible>,
    incoming: Incoming,
    buffer: BytesMut,
    trailers: HeaderMap,
    // Ends the connection when dropped.
    _connection: Connection,
}

impl Call {
    /// Starts a streaming call. The peer answers with headers before any message.
    pub async fn start(address: SocketAddr, path: &str) -> Result<Self, Error> {
        let (outgoing, body) = Channel::new(IN_FLIGHT);
        let mut connection = Connection::open(address, Protocol::Http2).await?;
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body.boxed())?;
        let response = within(connection.begin(request)).await?;
        let incoming = accepted(response)?;
        Ok(Self {
            outgoing,
            incoming,
            buffer: BytesMut::new(),
            trailers: HeaderMap::new(),
            _connection: connection,
        })
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Ok(self.outgoing.send_data(frame(message)).await?)
    }

    /// The next message; none at the end of the stream.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return Ok(Some(message));
            }
            let Some(piece) =
                within(async { Ok(self.incoming.frame().await.transpose()?) }).await?
            else {
                return Ok(None);
            };
            match piece.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(piece) => self
                    .trailers
                    .extend(piece.into_trailers().unwrap_or_default()),
            }
        }
    }

    /// Ends the outgoing direction and reads to the end; returns the trailers.
    pub async fn finish(mut self) -> Result<HeaderMap, Error> {
        // Replacing the sender drops the old one, which ends the body.
        self.outgoing = Channel::<Bytes, Infallible>::new(1).0;
        while self.message().await?.is_some() {}
        Ok(self.trailers)
    }
}

/// One message there, one back; returns it with the trailers.
pub async fn unary(
    address: SocketAddr,
    path: &str,
    message: &[u8],
) -> Result<(Bytes, HeaderMap), Error> {
    unary_with(address, path, message, None).await
}

/// As [`unary`], with trailers behind the message, as gRPC itself has none.
pub async fn unary_with(
    address: SocketAddr,
    path: &str,
    message: &[u8],
    trailers: Option<HeaderMap>,
) -> Result<(Bytes, HeaderMap), Error> {
    let mut connection = Connection::open(address, Protocol::Http2).await?;
    let body = super::full(frame(message)).with_trailers(async move { trailers.map(Ok) });
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body.boxed())?;
    let reply = connection.send(request).await?;
    let status = reply.status;
    if status != 200 {
        return Err(format!("status {status}: {}", reply.text()).into());
    }
    let mut body = BytesMut::from(&reply.body[..]);
    let answer = unframe(&mut body).ok_or("no message in the reply")?;
    Ok((answer, reply.trailers))
}

fn accepted(response: Response<Incoming>) -> Result<Incoming, Error> {
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(format!("status {status}").into()),
    }
}

async fn within<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(REPLY, step)
        .await
        .map_err(|_| format!("nothing within {REPLY:?}"))?
}

/// A message uncompressed: a zero byte, four bytes of length, the bytes.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a message below 4 GiB"));
    framed.put_slice(message);
    framed.freeze()
}

fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = (&buffer.get(1..5)?[..]).get_u32() as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_rest_of_a_message() {
        let whole = frame(b"hello");
        let mut buffer = BytesMut::from(&whole[..7]);
        assert_eq!(unframe(&mut buffer), None);
        buffer.extend_from_slice(&whole[7..]);
        assert_eq!(unframe(&mut buffer).as_deref(), Some(&b"hello"[..]));
        assert!(buffer.is_empty());
    }
}
