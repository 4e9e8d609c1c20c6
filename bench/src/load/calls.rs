//! gRPC calls by h2load, which costs less than the proxies between it and the
//! origin. It sees statuses of HTTP and no trailers: one real call before and
//! after the turns shows that those are there.

use std::time::Duration;

use meridian_tests::client::{grpc, loopback};
use meridian_tests::world::World;

use super::{Outcome, streams};
use crate::origin::{CALL, MESSAGE, message};

pub(super) fn run(world: &World, port: u16, clients: [usize; 2], span: Duration) -> Outcome {
    let file = world.write("call", &message());
    let arguments = [
        "--data",
        &file.display().to_string(),
        "--header=content-type: application/grpc",
        "--header=te: trailers",
    ];
    let url = format!("http://127.0.0.1:{port}{CALL}");
    let outcome = streams::run(&url, clients, &arguments, span);
    assert_eq!(outcome.failed, 0, "calls on {port}: {outcome:?}");
    outcome
}

/// A call with its answer and its outcome in the trailers.
pub(super) async fn verify(port: u16) {
    let (answer, trailers) = grpc::unary(loopback(port), CALL, &[b'x'; MESSAGE])
        .await
        .unwrap_or_else(|error| panic!("a call on {port}: {error}"));
    assert_eq!(answer.len(), MESSAGE, "the answer on {port}");
    let status = trailers.get("grpc-status").map(|status| status.as_bytes());
    assert_eq!(status, Some(&b"0"[..]), "trailers on {port}: {trailers:?}");
}
