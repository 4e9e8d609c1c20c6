//! The listener for scrapers, where the configuration of the mesh asks for one.
//!
//! Dashboards that scraped a service's Envoy at the address in its configuration go on scraping
//! there. The listener follows the snapshots, on the runtime of the control plane.

use meridian_dataplane::admin::{AdminListener, Operations};
use meridian_model::Snapshot;
use meridian_telemetry::Chain;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Pause until an address that was taken is tried again: its last holder may be on its way out.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps a listener open wherever the newest snapshot wants one. Ends with the snapshots.
pub(crate) async fn follow(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    operations: Arc<dyn Operations>,
) {
    loop {
        let wanted = snapshots.borrow_and_update().scrape;
        tokio::select! {
            () = moved(&mut snapshots, wanted) => {}
            () = serve(wanted, &operations) => return,
        }
        if snapshots.has_changed().is_err() {
            return;
        }
    }
}

/// Returns once a snapshot wants something else, or none will come any more.
async fn moved(snapshots: &mut watch::Receiver<Arc<Snapshot>>, last: Option<SocketAddr>) {
    // An error says that no more snapshots will come.
    let _ = snapshots.wait_for(|now| now.scrape != last).await;
}

/// Answers scrapers; never returns.
async fn serve(address: Option<SocketAddr>, operations: &Arc<dyn Operations>) {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let mut complained = false;
    loop {
        match AdminListener::for_scrapers(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics listener open");
                listener.serve(Arc::clone(operations)).await;
            }
            Err(error) if !std::mem::replace(&mut complained, true) => {
                tracing::error!(error = %Chain(&error), "metrics listener cannot be opened; trying on");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    struct Told;

    impl Operations for Told {
        fn waiting_for(&self) -> Option<Vec<String>> {
            None
        }
        fn metrics(&self) -> String {
            "told 1\n".to_owned()
        }
        fn snapshot(&self) -> serde_json::Value {
            panic!("a scraper asked for the snapshot")
        }
        fn log_filter(&self) -> String {
            panic!("a scraper asked for the log's filter")
        }
        fn set_log_filter(&self, _: &str) -> Result<(), String> {
            panic!("a scraper set the log's filter")
        }
        fn drain(&self) {
            panic!("a scraper asked for the end")
        }
    }

    async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        // By a name, as Prometheus does.
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: web.node.consul\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn free() -> SocketAddr {
        let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
        held.local_addr().unwrap()
    }

    fn wanting(scrape: Option<SocketAddr>) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            scrape,
            ..Snapshot::default()
        })
    }

    async fn until_answered(address: SocketAddr) -> String {
        loop {
            match ask(address, "/metrics").await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    #[tokio::test]
    async fn metrics_alone_are_told_where_the_snapshot_says() {
        let (one, other) = (free().await, free().await);
        let (sender, snapshots) = watch::channel(wanting(None));
        let task = tokio::spawn(follow(snapshots, Arc::new(Told)));
        sender.send_replace(wanting(Some(one)));
        assert!(until_answered(one).await.ends_with("told 1\n"));
        for path in ["/", "/ready", "/snapshot", "/log-level", "/drain"] {
            let answer = ask(one, path).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        sender.send_replace(wanting(Some(other)));
        assert!(until_answered(other).await.starts_with("HTTP/1.1 200"));
        assert!(
            ask(one, "/metrics").await.is_err(),
            "the old address is closed"
        );
        drop(sender);
        task.await.unwrap();
    }
}
