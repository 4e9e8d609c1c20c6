//! Calls against a scripted server.

use super::scripted::Scripted;
use crate::{Client, Error};

#[tokio::test]
async fn asks_by_path_with_the_token() {
    let server = Scripted::answering("200 OK", r#"["global","eu"]"#).await;
    assert_eq!(server.client().regions().await.unwrap(), ["global", "eu"]);
    let asked = server.asked().await;
    assert!(asked.starts_with("GET /v1/regions HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.to_lowercase().contains("x-nomad-token: t0ken"),
        "{asked}"
    );
}

#[tokio::test]
async fn refusals_keep_nomads_words() {
    let server = Scripted::answering("500 Internal Server Error", "No path to region\n").await;
    let error = server.client().agent_self().await.unwrap_err();
    assert_eq!(error.to_string(), "read agent: 500 No path to region");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_overloaded_agent_may_be_asked_again() {
    let server = Scripted::answering("429 Too Many Requests", "").await;
    let error = server.client().regions().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_answer() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[\"glo".to_vec();
    let error = Scripted::raw(head)
        .await
        .client()
        .regions()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_foreign_answer_is_named() {
    let server = Scripted::answering("200 OK", "<html>").await;
    let error = server.client().regions().await.unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(answer.len() + super::BODY + 1, b' ');
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        assert_ne!(stream.read(&mut head).await.unwrap(), 0);
        // Fails once the client has had enough, which is what this is about.
        let _ = stream.write_all(&answer).await;
    });
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    let error = client.regions().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    drop(client);
    server.await.unwrap();
}

#[test]
fn malformed_addresses_and_tokens_are_refused() {
    for address in ["127.0.0.1:4646", "unix:///nomad.sock", "nomad"] {
        let refused = Client::new(address, None);
        assert!(matches!(refused, Err(Error::Address { .. })), "{address}");
    }
    let refused = Client::new("http://127.0.0.1:4646", Some("a\nb"));
    assert!(matches!(refused, Err(Error::Token)));
}
