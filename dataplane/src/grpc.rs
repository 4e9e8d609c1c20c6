//! Unary gRPC calls of our own.

use crate::call::{self, Answer, CallError};
use crate::headers::RequestHeader;
use crate::tables::ClusterState;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use meridian_model::{ClusterName, UpstreamProtocol};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// A method that is called, made once.
#[derive(Debug)]
pub(crate) struct Method {
    head: RequestHeader,
    limit: Duration,
}

/// Why a call gave no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// There is no such cluster.
    #[error("there is no such cluster")]
    NoCluster,
    /// The cluster can't be called by gRPC.
    #[error("its protocol is not HTTP/2, which gRPC needs")]
    NotHttp2,
    /// Authority or metadata can't be sent.
    #[error("its authority or metadata can't stand in a head")]
    Metadata,
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An answer that is no gRPC.
    #[error("it answered with HTTP status {0}")]
    Http(StatusCode),
    /// A gRPC error.
    #[error("it answered with gRPC status {code}: {message}")]
    Status { code: u32, message: String },
    /// Something else than one message.
    #[error("it answered with something else than one plain message")]
    Frame,
    /// A message of another kind.
    #[error("its message can't be read")]
    Message(#[source] prost::DecodeError),
}

impl Method {
    /// A method by its path, `/package.Service/Method`. Without an authority the cluster gives
    /// its name, as in Envoy. `None` where authority or metadata can't stand in a head.
    pub(crate) fn new(
        path: &'static str,
        authority: Option<&str>,
        cluster: &ClusterName,
        metadata: &[(HeaderName, HeaderValue)],
        limit: Duration,
    ) -> Option<Self> {
        let mut head = RequestHeader::build("POST", path.as_bytes(), Some(8)).ok()?;
        let authority = authority.unwrap_or_else(|| host_like(cluster.as_str()));
        head.insert_header(HOST, authority).ok()?;
        head.insert_header(CONTENT_TYPE, "application/grpc").ok()?;
        head.insert_header(TE, "trailers").ok()?;
        let timeout = format!("{}m", limit.as_millis().clamp(1, 99_999_999));
        head.insert_header("grpc-timeout", timeout).ok()?;
        for (name, value) in metadata {
            head.append_header(name.clone(), value.clone()).ok()?;
        }
        Some(Self { head, limit })
    }

    /// Calls it with one message and reads the one that comes back.
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        cluster: &Arc<ClusterState>,
        message: &Q,
    ) -> Result<A, GrpcError> {
        if cluster.model.protocol != UpstreamProtocol::Http2 {
            return Err(GrpcError::NotHttp2);
        }
        let body = frame(message);
        let answer = call::call(cluster, &self.head, &body, self.limit).await?;
        read(&answer)
    }
}

/// The start of a cluster's name that could be a host's.
fn host_like(cluster: &str) -> &str {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match cluster.find(|c| !legal(c)) {
        Some(end) if end > 0 => &cluster[..end],
        Some(_) => "localhost",
        None => cluster,
    }
}

/// A zero byte for "not compressed", four bytes of length, the message.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    // What is sent here is bounded by a request's head and its buffered body.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message.encode_to_vec());
    framed.freeze()
}

fn read<A: Message + Default>(answer: &Answer) -> Result<A, GrpcError> {
    if answer.head.status != StatusCode::OK {
        return Err(GrpcError::Http(answer.head.status));
    }
    // An error without a message has its status in the head.
    let status = status(&answer.trailers).or_else(|| status(&answer.head.headers));
    match status {
        Some((0, _)) => {}
        Some((code, message)) => return Err(GrpcError::Status { code, message }),
        None => {
            let message = "no status".to_owned();
            return Err(GrpcError::Status { code: 2, message });
        }
    }
    let Some((frame, message)) = answer.body.split_first_chunk::<5>() else {
        return Err(GrpcError::Frame);
    };
    let [compressed, length @ ..] = *frame;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(GrpcError::Frame);
    }
    A::decode(message).map_err(GrpcError::Message)
}

fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers
        .get("grpc-message")
        .map_or("", |value| value.to_str().unwrap_or_default());
    Some((code, message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::ResponseHeader;

    #[derive(Clone, PartialEq, Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn text(text: &str) -> Text {
        Text {
            text: text.to_owned(),
        }
    }

    fn answer(status: u16, body: Bytes, trailers: &[(&'static str, &'static str)]) -> Answer {
        let pairs = trailers.iter();
        Answer {
            head: Box::new(ResponseHeader::build(status, None).unwrap()),
            body,
            trailers: pairs
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_framed() {
        let framed = frame(&text("hello"));
        assert_eq!(&framed[..5], [0, 0, 0, 0, 7]);
        let ok = [("grpc-status", "0")];
        let read_back: Text = read(&answer(200, framed.clone(), &ok)).unwrap();
        assert_eq!(read_back, text("hello"));
        for broken in [
            Bytes::new(),
            framed.slice(..6),
            Bytes::from_static(&[1; 12]),
        ] {
            let result: Result<Text, _> = read(&answer(200, broken, &ok));
            assert!(matches!(result, Err(GrpcError::Frame)), "{result:?}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let result: Result<Text, _> = read(&answer(503, Bytes::new(), &[]));
        assert!(matches!(result, Err(GrpcError::Http(status)) if status == 503));
        let refused = [("grpc-status", "7"), ("grpc-message", "no")];
        let result: Result<Text, _> = read(&answer(200, Bytes::new(), &refused));
        assert!(matches!(result, Err(GrpcError::Status { code: 7, .. })));
        let result: Result<Text, _> = read(&answer(200, frame(&text("x")), &[]));
        assert!(matches!(result, Err(GrpcError::Status { code: 2, .. })));
    }

    #[test]
    fn a_clusters_name_becomes_a_host() {
        assert_eq!(
            host_like("local_ext_authz@127.0.0.1:9000"),
            "local_ext_authz"
        );
        assert_eq!(host_like("authz?dc=dc2"), "authz");
        assert_eq!(host_like("authz"), "authz");
    }
}
