//! gRPC streams over h2, on which message and answer take turns.

use std::error::Error;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::Request;
use meridian_tests::client::grpc::frame;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Outcome;
use super::tally::Tally;
use crate::origin::{CALL, MESSAGE};

type Failure = Box<dyn Error + Send + Sync>;

pub(super) fn run(port: u16, clients: [usize; 2], span: Duration) -> Outcome {
    // Off the caller's runtime, which stands still meanwhile.
    let client = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(all(port, clients, span))
    });
    client
        .join()
        .expect("the client's thread")
        .unwrap_or_else(|failure| panic!("gRPC on {port}: {failure}"))
}

async fn all(
    port: u16,
    [connections, streams]: [usize; 2],
    span: Duration,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = h2::client::handshake(stream).await?;
        // How it ends is seen by the calls on it.
        tokio::spawn(async { drop(connection.await) });
        for _ in 0..streams {
            callers.spawn(caller(client.clone(), port, began + span));
        }
    }
    let mut total = Tally::default();
    while let Some(tally) = callers.join_next().await {
        total = total.and(tally?);
    }
    Ok(total.outcome(began.elapsed()))
}

async fn caller(client: SendRequest<Bytes>, port: u16, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let caller = Caller {
        client,
        port,
        message: frame(&[b'x'; MESSAGE]),
    };
    while Instant::now() < end {
        if caller.stream(end, &mut tally).await.is_err() {
            tally.failed += 1;
            // Without its connection a caller has nobody to call.
            if caller.client.clone().ready().await.is_err() {
                break;
            }
        }
    }
    tally
}

struct Caller {
    client: SendRequest<Bytes>,
    port: u16,
    message: Bytes,
}

impl Caller {
    /// The last message ends the stream. An empty frame for that would come back from the origin
    /// as one before the trailers, and Envoy takes only one such frame in a row on a connection.
    async fn stream(&self, end: Instant, tally: &mut Tally) -> Result<(), Failure> {
        let mut client = self.client.clone().ready().await?;
        let (response, mut outgoing) = client.send_request(self.request()?, false)?;
        let mut began = Instant::now();
        outgoing.send_data(self.message.clone(), false)?;
        let mut incoming = accepted(response.await?)?;
        let mut last = false;
        loop {
            let mut received = 0;
            while received < self.message.len() {
                received += piece(&mut incoming).await?.ok_or("the stream ended")?;
            }
            self.answered(received, began, tally)?;
            if last {
                break;
            }
            began = Instant::now();
            last = began >= end;
            outgoing.send_data(self.message.clone(), last)?;
        }
        while piece(&mut incoming).await?.is_some() {}
        succeeded(&mut incoming).await
    }

    fn request(&self) -> http::Result<Request<()>> {
        Request::post(format!("http://127.0.0.1:{}{CALL}", self.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
    }

    fn answered(&self, received: usize, began: Instant, tally: &mut Tally) -> Result<(), Failure> {
        if received != self.message.len() {
            return Err("the answer is not the message".into());
        }
        tally.latencies.push(began.elapsed());
        tally.bytes += received as u64;
        Ok(())
    }
}

fn accepted(response: http::Response<RecvStream>) -> Result<RecvStream, Failure> {
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(format!("status {status}").into()),
    }
}

/// The length of the next piece of an answer; none at its end.
async fn piece(incoming: &mut RecvStream) -> Result<Option<usize>, Failure> {
    let Some(piece) = incoming.data().await.transpose()? else {
        return Ok(None);
    };
    incoming.flow_control().release_capacity(piece.len())?;
    Ok(Some(piece.len()))
}

/// A call is good when its trailers say so.
async fn succeeded(incoming: &mut RecvStream) -> Result<(), Failure> {
    let trailers = incoming.trailers().await?.ok_or("no trailers")?;
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        other => Err(format!("grpc-status {other:?}").into()),
    }
}
