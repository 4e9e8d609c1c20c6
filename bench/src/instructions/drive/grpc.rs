//! Unary gRPC calls of a kibibyte each way, one after the other, over one connection.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::runtime::{Builder, Runtime};

use super::at_rest;

const MESSAGE: usize = 1024;

/// Length-prefixed, uncompressed.
fn message() -> Bytes {
    let head = [0, 0, 0, 4, 0];
    [&head[..], &[b'x'; MESSAGE]].concat().into()
}

/// Calls so many times, each when the proxy rests.
pub(super) fn send(address: SocketAddr, process: u32, calls: u32) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let stream = tokio::net::TcpStream::connect(address)
            .await
            .context("connecting")?;
        stream.set_nodelay(true).context("setting an option")?;
        let (mut client, connection) = h2::client::handshake(stream).await?;
        // How it ends is seen by the calls on it.
        tokio::spawn(async { drop(connection.await) });
        for _ in 0..calls {
            at_rest(process)?;
            let call = Request::post("http://shop.test/orders.Orders/Get")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("user-agent", "bench/1")
                .body(())?;
            let (answer, mut out) = client.send_request(call, false)?;
            out.send_data(message(), true)?;
            let mut body = answer.await.context("waiting for an answer")?.into_body();
            ensure!(read(&mut body).await? == message().len(), "no good reply");
            let trailers = body.trailers().await?.context("no trailers")?;
            ensure!(trailers.contains_key("grpc-status"), "no status");
        }
        Ok(())
    })
}

/// The origin: answers every call on every connection, when the proxy rests.
pub(super) fn serve(listener: &TcpListener, process: u32) {
    for stream in listener.incoming().flatten() {
        // What goes wrong here shows at the client.
        let _ = answer(stream, process);
    }
}

fn answer(stream: TcpStream, process: u32) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(call) = connection.accept().await {
            let (call, mut respond) = call?;
            tokio::spawn(async move {
                let mut body = call.into_body();
                read(&mut body).await?;
                at_rest(process)?;
                let head = Response::builder()
                    .header("content-type", "application/grpc")
                    .body(())?;
                let mut out = respond.send_response(head, false)?;
                out.send_data(message(), false)?;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                out.send_trailers(trailers)?;
                anyhow::Ok(())
            });
        }
        Ok(())
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().context("making a runtime")
}

/// Reads a body to its end; its length.
async fn read(body: &mut RecvStream) -> anyhow::Result<usize> {
    let mut length = 0;
    while let Some(piece) = body.data().await.transpose()? {
        body.flow_control().release_capacity(piece.len())?;
        length += piece.len();
    }
    Ok(length)
}
