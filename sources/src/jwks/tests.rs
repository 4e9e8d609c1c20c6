//! Keys against a scripted server: rotation, outages, answers that are no keys.

use super::*;
use crate::memory::{Memory, MemoryError, MemoryOptions};
use crate::publish::Task;
use meridian_model::jwt::VerificationKey;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server that gives every request the answer of the moment.
struct Server {
    uri: String,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<AtomicUsize>,
    _task: Task,
}

impl Server {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let requests = Arc::new(AtomicUsize::new(0));
        let (now, count) = (Arc::clone(&answer), Arc::clone(&requests));
        let task = Task::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                // A client that went away is the next test's business.
                let _ = stream.read(&mut head).await;
                count.fetch_add(1, Ordering::SeqCst);
                let answer = now.lock().unwrap().clone();
                let _ = stream.write_all(&answer).await;
            }
        });
        Self {
            uri,
            answer,
            requests,
            _task: task,
        }
    }

    fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn remote(&self) -> RemoteKeys {
        RemoteKeys {
            uri: self.uri.clone(),
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            cache: Duration::from_secs(600),
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            authorities: Authorities::System,
        }
    }

    /// Follows the keys, which are fresh for so long.
    fn follow(&self, fresh: Duration) -> Following {
        self.follow_with(fresh, None)
    }

    /// The same, remembering them.
    fn follow_with(&self, fresh: Duration, shelf: Option<Shelf>) -> Following {
        let remote = self.remote();
        let pace = Pace {
            fresh,
            first_pause: remote.first_pause,
            longest_pause: remote.longest_pause,
            cool_down: Duration::from_millis(300),
        };
        let (sender, news) = mpsc::channel(16);
        let work = keep(KeyOrigin::Remote(remote), pace, sender, Arc::new(()), shelf);
        Following {
            news,
            _task: Task::spawn(work),
        }
    }
}

struct Following {
    news: mpsc::Receiver<(Topic, News)>,
    _task: Task,
}

impl Following {
    async fn news(&mut self) -> News {
        let news = tokio::time::timeout(DEADLINE, self.news.recv()).await;
        news.expect("news in time").expect("a running task").1
    }

    async fn next(&mut self) -> Arc<Keys> {
        match self.news().await {
            News::Learned(Fact::Keys(keys)) => keys,
            other => panic!("{other:?}"),
        }
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn keys(ids: &[&str]) -> Vec<u8> {
    let x = "A".repeat(43);
    let keys: Vec<_> = ids
        .iter()
        .map(|id| format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}"#))
        .collect();
    http("200 OK", &format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
}

fn ids(keys: &Keys) -> Vec<&str> {
    match &keys.set {
        KeySet::Known(keys) => keys
            .iter()
            .filter_map(|key: &VerificationKey| key.id.as_deref())
            .collect(),
        KeySet::Unavailable { reason } => panic!("{reason}"),
    }
}

/// Long enough never to pass in a test.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_rotation_is_seen_when_the_answer_is_old() {
    let server = Server::start(keys(&["a"])).await;
    let mut following = server.follow(Duration::from_millis(50));
    assert_eq!(ids(&*following.next().await), ["a"]);
    server.answers(keys(&["a", "b"]));
    assert_eq!(ids(&*following.next().await), ["a", "b"]);
    server.answers(keys(&["b"]));
    assert_eq!(ids(&*following.next().await), ["b"], "a is withdrawn");
}

#[tokio::test]
async fn unknown_keys_make_for_one_fetch_in_a_cool_down() {
    let server = Server::start(keys(&["a"])).await;
    let mut following = server.follow(LONG);
    let first = following.next().await;
    server.answers(keys(&["b"]));
    for _ in 0..1000 {
        first.refresh.ask();
    }
    let second = following.next().await;
    assert_eq!(ids(&second), ["b"]);
    assert_eq!(second.refresh, first.refresh, "the bell stays the same");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn keys_outlive_an_outage_of_their_issuer() {
    let server = Server::start(keys(&["a"])).await;
    let mut following = server.follow(Duration::from_millis(20));
    assert_eq!(ids(&*following.next().await), ["a"]);
    server.answers(http("500 Oops", ""));
    let before = server.requests();
    while server.requests() < before + 4 {
        tokio::task::yield_now().await;
    }
    server.answers(keys(&["b"]));
    let next = following.next().await;
    assert_eq!(ids(&next), ["b"], "nothing was said in between");
}

/// Opens the memory of a run, once the run before has let go of it.
async fn next_run(folder: &tempfile::TempDir, server: &Server) -> (Memory, Shelf) {
    let options = MemoryOptions {
        directory: folder.path().join("state"),
        keep_keys: false,
    };
    let opening = async {
        loop {
            match Memory::open(&options, "web") {
                Err(MemoryError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    };
    let memory = tokio::time::timeout(DEADLINE, opening).await.unwrap();
    let origin = KeyOrigin::Remote(server.remote());
    let request = origin.request().unwrap();
    let shelf = memory.shelf(&Topic::Keys(origin), request);
    (memory, shelf)
}

#[tokio::test]
async fn keys_outlive_a_restart_while_their_issuer_is_away_and_say_how_old_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(keys(&["a"])).await;
    let began = SystemTime::now() - Duration::from_secs(1);
    let (memory, shelf) = next_run(&folder, &server).await;
    let mut following = server.follow_with(LONG, Some(shelf));
    assert_eq!(ids(&*following.next().await), ["a"]);
    memory.write_now();
    drop((memory, following));

    server.answers(http("500 Oops", ""));
    let (memory, shelf) = next_run(&folder, &server).await;
    let mut following = server.follow_with(LONG, Some(shelf));
    let News::Remembered(Fact::Keys(found), at) = following.news().await else {
        panic!("keys of the last run");
    };
    assert_eq!(ids(&found), ["a"]);
    assert!(at >= began && at <= SystemTime::now(), "{at:?}");
    // The same keys, but from their issuer.
    server.answers(keys(&["a"]));
    assert_eq!(ids(&*following.next().await), ["a"]);
    drop((memory, following));

    // Whom the run before believed is no reason to believe them now.
    server.answers(http("500 Oops", ""));
    let (memory, _) = next_run(&folder, &server).await;
    let other = KeyOrigin::Remote(RemoteKeys {
        authorities: Authorities::File("/other.pem".into()),
        ..server.remote()
    });
    let request = other.request().unwrap();
    let shelf = memory.shelf(&Topic::Keys(other), request);
    let mut following = server.follow_with(LONG, Some(shelf));
    let next = following.next().await;
    assert!(matches!(next.set, KeySet::Unavailable { .. }), "{next:?}");
}

#[tokio::test]
async fn bad_answers_are_no_keys_and_are_asked_again() {
    let huge = "x".repeat(2 << 20);
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let cases = [
        (http("500 Oops", ""), "500"),
        (http("204 Nothing", ""), "204"),
        (moved.as_bytes().to_vec(), "302"),
        (http("200 OK", "<html>"), "no key set"),
        (http("200 OK", r#"{"keys":[]}"#), "no key set"),
        (http("200 OK", &huge), "1 MiB"),
        (Vec::new(), "request failed"),
    ];
    for (answer, expected) in cases {
        let server = Server::start(answer).await;
        let mut following = server.follow(LONG);
        match &following.next().await.set {
            KeySet::Unavailable { reason } => assert!(reason.contains(expected), "{reason}"),
            known => panic!("{expected}: {known:?}"),
        }
        server.answers(keys(&["a"]));
        assert_eq!(ids(&*following.next().await), ["a"], "{expected}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(Vec::new()).await;
    let remote = RemoteKeys {
        uri: format!("http://{}/", listener.local_addr().unwrap()),
        timeout: Duration::from_millis(50),
        ..server.remote()
    };
    let origin = KeyOrigin::Remote(remote);
    let fetch = fetch::fetch(&origin);
    let outcome = tokio::time::timeout(DEADLINE, fetch).await.unwrap();
    assert!(matches!(outcome, Err(fetch::FetchError::Http(error)) if error.is_timeout()));
}

#[tokio::test]
async fn a_stranger_with_tls_is_not_believed() {
    let server = Server::start(keys(&["a"])).await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let remote = RemoteKeys {
        uri: server.uri.replace("http:", "https:"),
        authorities: Authorities::Pem(made.cert.pem()),
        ..server.remote()
    };
    let outcome = fetch::fetch(&KeyOrigin::Remote(remote.clone())).await;
    assert!(matches!(outcome, Err(fetch::FetchError::Http(_))));
    let nobody = RemoteKeys {
        authorities: Authorities::Pem("no PEM".to_owned()),
        ..remote
    };
    let outcome = fetch::fetch(&KeyOrigin::Remote(nobody)).await;
    assert!(matches!(outcome, Err(fetch::FetchError::NoAuthority)));
}

#[tokio::test]
async fn a_file_is_read_within_the_same_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let origin = KeyOrigin::File(path.clone());
    let outcome = fetch::fetch(&origin).await;
    assert!(matches!(outcome, Err(fetch::FetchError::File(_))));
    let set = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#,
        "A".repeat(43)
    );
    std::fs::write(&path, &set).unwrap();
    assert_eq!(fetch::fetch(&origin).await.unwrap().keys.len(), 1);
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    let outcome = fetch::fetch(&origin).await;
    assert!(matches!(outcome, Err(fetch::FetchError::TooLarge)));
}
