//! An HTTP/2 origin in plain text.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

pub(crate) struct Http2Origin {
    pub(crate) address: SocketAddr,
    opened: Arc<AtomicUsize>,
}

/// A stream that was opened by a client.
pub(crate) struct Call {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Http2Origin {
    /// Serves each stream as `serve` says.
    pub(crate) async fn serving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let serve = Arc::new(serve);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(Call { request, respond }));
                    }
                });
            }
        });
        Self { address, opened }
    }

    /// Echoes bodies piece by piece and ends with trailers as gRPC does.
    pub(crate) async fn echo() -> Self {
        Self::serving(|mut call| async move {
            let mut out = call.begin();
            let mut body = call.request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
                if send(&mut out, piece).await.is_none() {
                    return;
                }
            }
            let _ = out.send_trailers(grpc_trailers(0));
        })
        .await
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl Call {
    /// Sends a gRPC head that is followed by something.
    pub(crate) fn begin(&mut self) -> h2::SendStream<Bytes> {
        let head = Response::builder()
            .status(StatusCode::OK)
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        self.respond.send_response(head, false).unwrap()
    }

    /// Reads the body to its end.
    pub(crate) async fn body(&mut self) -> Vec<u8> {
        drain(self.request.body_mut()).await
    }

    /// Answers with a body of known length and no trailers.
    pub(crate) fn answer(&mut self, text: &str) {
        let head = Response::builder()
            .header("content-length", text.len())
            .body(())
            .unwrap();
        let mut out = self.respond.send_response(head, false).unwrap();
        out.send_data(Bytes::from(text.to_owned()), true).unwrap();
    }
}

/// Reads a body to its end.
pub(crate) async fn drain(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend(piece);
    }
    all
}

/// Sends bytes as the window allows. `None` when the other side has gone.
pub(crate) async fn send(out: &mut h2::SendStream<Bytes>, mut bytes: Bytes) -> Option<()> {
    while !bytes.is_empty() {
        out.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| out.poll_capacity(cx))
            .await?
            .ok()?;
        let piece = bytes.split_to(room.min(bytes.len()));
        out.send_data(piece, false).ok()?;
    }
    Some(())
}

pub(crate) fn grpc_trailers(status: u8) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.to_string().parse().unwrap());
    trailers
}
