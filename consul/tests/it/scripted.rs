//! A server that answers as it is told, one answer a request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use consul::{Address, Client, ClientConfig, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A whole answer with this index and body.
    Value(u64, &'static str),
    /// A whole answer after a while.
    Slow(Duration, &'static str),
    /// A status with this body.
    Status(u16, &'static str),
    /// Announces more than it sends.
    Truncated,
    /// Never answers.
    Hang,
    /// Sends this many bytes without announcing how many.
    Endless(usize),
}

/// The server. Its task ends with it.
pub(crate) struct Scripted {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut steps: VecDeque<_> = steps.into_iter().collect();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // After the last step the server hangs, as an agent without news does.
                let step = steps.pop_front().unwrap_or(Step::Hang);
                tokio::spawn(serve(stream, step, log.clone()));
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    pub(crate) fn client(&self, limits: Limits) -> Client {
        let address = Address::parse(&self.address, false).unwrap();
        Client::new(ClientConfig {
            limits,
            ..ClientConfig::new(address)
        })
        .unwrap()
    }

    /// Heads of all requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Targets of all requests so far: path and query.
    pub(crate) fn targets(&self) -> Vec<String> {
        let target = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        self.seen().iter().map(target).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, step: Step, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
    let answer = match step {
        Step::Value(index, body) => whole(200, &format!("X-Consul-Index: {index}\r\n"), body),
        Step::Slow(pause, body) => {
            tokio::time::sleep(pause).await;
            whole(200, "X-Consul-Index: 5\r\n", body)
        }
        Step::Status(status, body) => whole(status, "X-Consul-Index: 9\r\n", body),
        Step::Truncated => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[\"dc1\"".to_owned(),
        Step::Hang => return hang(stream).await,
        Step::Endless(bytes) => {
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
                " ".repeat(bytes)
            )
        }
    };
    // The client may have gone away: its test then says why.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Holds the connection until the client gives up.
async fn hang(mut stream: TcpStream) {
    while matches!(stream.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
}

fn whole(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
