//! More requests than a worker begins at once: nobody waits for those before to end.

use crate::client::{self, Client};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use crate::until;
use meridian_model::UpstreamProtocol::Http1;

/// Three times as many as a worker begins at once.
const HELD: usize = 96;

#[tokio::test]
async fn requests_that_an_origin_holds_keep_no_other_waiting() {
    let origin = Origin::serving(|mut incoming| async move {
        while let Some(seen) = incoming.request().await {
            if seen.path() != "/held" {
                incoming.write(response(200, "ok")).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start_on(1, simple(Http1, origin.address)).await;
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n")
            .await;
        held.push(client);
    }
    until("all of them at the origin", || origin.seen().len() == HELD).await;
    let others = (0..HELD).map(|_| client::get(proxy.address("in"), "/"));
    for answer in futures::future::join_all(others).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(origin.seen().len(), 2 * HELD);
    drop(held);
}
