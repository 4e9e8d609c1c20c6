//! One gRPC call that streams both ways, over HTTP/2.

use std::{fmt, pin::Pin};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::task::JoinHandle;

use super::endpoint;
use super::reach::{Connection, KEEPALIVE};
use crate::{error::Error, secret::Secret};

/// A call under way.
pub(super) struct Exchange {
    sending: SendStream<Bytes>,
    receiving: Receiving,
    received: BytesMut,
    limit: usize,
    pings: Option<PingPong>,
    /// What moves the bytes; ends with the call.
    connection: JoinHandle<()>,
}

enum Receiving {
    /// The answer's head comes with the first message.
    Head(ResponseFuture),
    Body(RecvStream),
}

/// Flag and length in front of each message.
const PREFIX: usize = 5;

impl Exchange {
    /// Calls `method` and sends the first message.
    pub(super) async fn begin(
        connection: Connection,
        method: &str,
        token: Option<Secret>,
        first: &[u8],
    ) -> Result<Self, Error> {
        let Connection {
            io,
            scheme,
            authority,
            limit,
        } = connection;
        let uri = format!("{scheme}://{authority}{method}");
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(unwritable)?;
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(unwritable)?;
            value.set_sensitive(true);
            request.headers_mut().insert("x-consul-token", value);
        }
        let (sender, mut connection) = h2::client::handshake(io).await.map_err(broken)?;
        let pings = connection.ping_pong();
        // How the connection ends is seen by the call on it.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut sender = sender.ready().await.map_err(broken)?;
        let (response, sending) = sender.send_request(request, false).map_err(broken)?;
        let mut exchange = Self {
            sending,
            receiving: Receiving::Head(response),
            received: BytesMut::new(),
            limit,
            pings,
            connection,
        };
        exchange.send(first)?;
        Ok(exchange)
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(message.len()).map_err(unwritable)?;
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(length);
        framed.put_slice(message);
        self.sending
            .send_data(framed.freeze(), false)
            .map_err(broken)
    }

    /// The next message. However long it takes, the other side must show that it is there.
    pub(super) async fn message(&mut self) -> Result<Bytes, Error> {
        loop {
            if let Some(message) = take_message(&mut self.received, self.limit)? {
                return Ok(message);
            }
            match tokio::time::timeout(KEEPALIVE, self.receiving.more()).await {
                Ok(more) => self.received.extend_from_slice(&more?),
                Err(_) => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let Some(pings) = &mut self.pings else {
            return Ok(());
        };
        match tokio::time::timeout(KEEPALIVE, pings.ping(Ping::opaque())).await {
            Ok(pong) => pong.map(drop).map_err(broken),
            Err(_) => Err(Error::Timeout {
                endpoint: endpoint(),
                limit: KEEPALIVE,
            }),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Receiving {
    /// Waits for bytes, which may be none. Cancel safe.
    async fn more(&mut self) -> Result<Bytes, Error> {
        if let Self::Head(response) = self {
            let response = Pin::new(response).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(refused(head.status, String::new()));
            }
            // A call that fails at once has its status in the head.
            if let Some(error) = failure(&head.headers) {
                return Err(error);
            }
            *self = Self::Body(body);
        }
        let Self::Body(body) = self else {
            return Ok(Bytes::new());
        };
        match body.data().await {
            Some(chunk) => {
                let chunk = chunk.map_err(broken)?;
                let taken = body.flow_control().release_capacity(chunk.len());
                taken.map_err(broken)?;
                Ok(chunk)
            }
            None => {
                let trailers = body.trailers().await.map_err(broken)?;
                Err(trailers.as_ref().and_then(failure).unwrap_or_else(ended))
            }
        }
    }
}

/// Takes a whole message out of what was received.
fn take_message(received: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Error> {
    let Some(prefix) = received.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if flag != 0 {
        return Err(Error::Decode {
            endpoint: endpoint(),
            source: "a compressed message, which was not asked for".into(),
        });
    }
    if length > limit {
        return Err(Error::TooLarge {
            endpoint: endpoint(),
            limit,
        });
    }
    if received.len() < PREFIX + length {
        return Ok(None);
    }
    received.advance(PREFIX);
    Ok(Some(received.split_to(length).freeze()))
}

/// The failure that head or trailers tell of.
fn failure(headers: &HeaderMap) -> Option<Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?;
    (code != "0").then(|| {
        let message = text("grpc-message").unwrap_or_default();
        refused(http_status(code), format!("gRPC status {code}: {message}"))
    })
}

/// The HTTP status that means the same as a gRPC status, as gateways between both have it.
fn http_status(code: &str) -> StatusCode {
    match code {
        "5" => StatusCode::NOT_FOUND,
        "7" => StatusCode::FORBIDDEN,
        "8" => StatusCode::TOO_MANY_REQUESTS,
        "14" => StatusCode::SERVICE_UNAVAILABLE,
        "16" => StatusCode::UNAUTHORIZED,
        "3" | "9" | "11" => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refused(status: StatusCode, mut excerpt: String) -> Error {
    excerpt.truncate(excerpt.floor_char_boundary(Error::EXCERPT));
    Error::Status {
        endpoint: endpoint(),
        status,
        excerpt,
        index: None,
    }
}

fn ended() -> Error {
    Error::Interrupted {
        endpoint: endpoint(),
        source: "the agent ended the stream".into(),
    }
}

fn broken(source: h2::Error) -> Error {
    Error::Interrupted {
        endpoint: endpoint(),
        source: Box::new(source),
    }
}

fn unwritable(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Encode {
        endpoint: endpoint(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let mut received = BytesMut::from(&[0, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0][..]);
        let message = take_message(&mut received, 10).unwrap();
        assert_eq!(message.as_deref(), Some(&b"ab"[..]));
        assert_eq!(take_message(&mut received, 10).unwrap(), None);
        received.put_u8(0);
        let message = take_message(&mut received, 10).unwrap();
        assert_eq!(message.as_deref(), Some(&b""[..]));
        assert!(received.is_empty());
    }

    #[test]
    fn what_cannot_be_a_message_is_an_error() {
        let mut compressed = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert!(take_message(&mut compressed, 10).is_err());
        let mut long = BytesMut::from(&[0, 0, 0, 0, 11][..]);
        assert!(take_message(&mut long, 10).is_err());
    }

    #[test]
    fn a_refused_token_is_known_as_such() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert!(failure(&headers).is_none());
        headers.insert("grpc-status", HeaderValue::from_static("7"));
        assert!(failure(&headers).unwrap().is_forbidden());
    }
}
