//! The data plane from outside: started from snapshots, spoken to over real sockets, in front of
//! real origins. Two of them in a row are a pair of the mesh.
//!
//! First what the tests stand on, then one file a subject.

#![expect(clippy::unwrap_used, reason = "a test's set-up fails by panicking")]

mod certificates;
mod client;
mod http2_client;
mod http2_origin;
mod origin;
mod proxy;
mod shapes;

mod admission;
mod answers;
mod bodies;
mod circuit;
mod crossing;
mod drain;
mod edge;
mod ejection;
mod external;
mod framing;
mod grpc;
mod http2;
mod limits;
mod listeners;
mod logs;
mod mesh;
mod pacing;
mod rates;
mod resilience;
mod revocation;
mod rotation;
mod sharing;
mod status;
mod telemetry;
mod trailers;
mod upgrade;

use std::time::Duration;

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a future gives, within the deadline.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    soon(what, async {
        while !holds() {
            looks.tick().await;
        }
    })
    .await;
}
