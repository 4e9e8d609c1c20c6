//! The admin listener over real connections.

use super::{AdminConfig, AdminError, AdminListener, AdminToken, Operations};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a loaded machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Program {
    unready: AtomicBool,
    filter: Mutex<String>,
    drains: AtomicUsize,
}

impl Operations for Program {
    fn waiting_for(&self) -> Option<Vec<String>> {
        let unready = self.unready.load(Ordering::SeqCst);
        unready.then(|| vec!["listener public".to_owned(), "identity web".to_owned()])
    }

    fn metrics(&self) -> String {
        "meridian_up 1\n".to_owned()
    }

    fn snapshot(&self) -> serde_json::Value {
        serde_json::json!({ "generation": 7 })
    }

    fn log_filter(&self) -> String {
        self.filter.lock().unwrap().clone()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        if filter == "loudly" {
            return Err("no such level".to_owned());
        }
        filter.clone_into(&mut self.filter.lock().unwrap());
        Ok(())
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::SeqCst);
    }
}

async fn started(token: Option<&str>) -> (SocketAddr, Arc<Program>) {
    let listener = AdminListener::bind(AdminConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        token: token.and_then(AdminToken::new),
    })
    .await
    .unwrap();
    let address = listener.address();
    let program = Arc::new(Program::default());
    tokio::spawn(listener.serve(Arc::<Program>::clone(&program)));
    (address, program)
}

/// Sends a request as it stands and reads until the end of the connection.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    answer
}

async fn ask(address: SocketAddr, line: &str, extra: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{extra}\r\n{body}"
    );
    raw(address, &request).await
}

#[tokio::test]
async fn readiness_says_what_is_waited_for() {
    let (address, program) = started(None).await;
    let answer = ask(address, "GET /ready", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");

    program.unready.store(true, Ordering::SeqCst);
    let answer = ask(address, "GET /ready", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("waiting for listener public, identity web"),
        "{answer}"
    );
    assert!(answer.contains("application/problem+json"), "{answer}");
    let answer = ask(address, "GET /live", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn reading_paths_answer() {
    let (address, _) = started(None).await;
    for (path, expected) in [
        ("/", "POST /drain"),
        ("/metrics", "meridian_up 1"),
        ("/snapshot", "\"generation\": 7"),
    ] {
        let answer = ask(address, &format!("GET {path}"), "", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains(expected), "{path}: {answer}");
        assert!(
            answer.contains("cache-control: no-store"),
            "{path}: {answer}"
        );
        let refused = ask(address, &format!("DELETE {path}"), "", "").await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{path}: {refused}");
        let head = ask(address, &format!("HEAD {path}"), "", "").await;
        assert!(head.ends_with("\r\n\r\n"), "{path}: {head}");
    }
    let answer = ask(address, "GET /nowhere", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn the_log_level_changes_by_query_or_body() {
    let (address, program) = started(None).await;
    let answer = ask(address, "PUT /log-level?level=debug", "", "").await;
    assert!(answer.ends_with("\r\n\r\ndebug\n"), "{answer}");
    let answer = ask(address, "POST /log-level", "", "info,h2=trace\n").await;
    assert!(answer.ends_with("\r\n\r\ninfo,h2=trace\n"), "{answer}");
    for (line, body) in [
        ("PUT /log-level?level=loudly", String::new()),
        ("PUT /log-level", String::new()),
        ("PUT /log-level", "x".repeat(5000)),
    ] {
        let answer = ask(address, line, "", &body).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(program.log_filter(), "info,h2=trace");
}

#[tokio::test]
async fn only_a_post_drains() {
    let (address, program) = started(None).await;
    let answer = ask(address, "GET /drain", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: POST"), "{answer}");
    assert_eq!(program.drains.load(Ordering::SeqCst), 0);
    let answer = ask(address, "POST /drain", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(program.drains.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_drain() {
    let (address, program) = started(None).await;
    let answer = ask(
        address,
        "POST /drain",
        "Origin: http://evil.example\r\n",
        "",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(program.drains.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_token_protects_everything_but_health() {
    let (address, program) = started(Some("s3cret")).await;
    program.unready.store(true, Ordering::SeqCst);
    let answer = ask(address, "GET /ready", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        !answer.contains("public"),
        "strangers learn no names: {answer}"
    );
    for line in [
        "GET /",
        "GET /metrics",
        "GET /snapshot",
        "PUT /log-level?level=debug",
        "POST /drain",
    ] {
        let answer = ask(address, line, "", "").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{line}: {answer}");
    }
    assert_eq!(program.drains.load(Ordering::SeqCst), 0);
    let answer = ask(
        address,
        "GET /snapshot",
        "Authorization: Bearer s3cret\r\n",
        "",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let (address, _) = started(None).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(super::HEAD_BYTES));
    let answer = ask(address, "GET /live", &long, "").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = "X-Many: 1\r\n".repeat(super::HEADERS + 1);
    let answer = ask(address, "GET /live", &many, "").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped() {
    let (address, _) = started(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    let read = timeout(super::HEAD_DEADLINE * 2, stream.read(&mut byte));
    assert_eq!(read.await.expect("closed in time").unwrap(), 0);
}

#[tokio::test]
async fn refuses_to_be_open_to_others_without_a_token() {
    let bind = "0.0.0.0:0".parse().unwrap();
    let refused = AdminListener::bind(AdminConfig { bind, token: None }).await;
    assert!(matches!(refused, Err(AdminError::Unprotected { .. })));
    let token = AdminToken::new("s3cret");
    let listener = AdminListener::bind(AdminConfig { bind, token }).await;
    assert!(listener.is_ok());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let (address, _) = started(None).await;
    let config = AdminConfig {
        bind: address,
        token: None,
    };
    let error = AdminListener::bind(config).await.unwrap_err();
    assert_eq!(error.to_string(), format!("bind admin listener {address}"));
}
