//! Who issues tokens, and where the keys are published.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use meridian_tests::client::loopback;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Where keys are published.
pub(super) const JWKS: u16 = 9001;

/// Someone who issues tokens, with one ES256 key under any names.
pub(super) struct Issuer {
    pub(super) name: &'static str,
    pair: EcdsaKeyPair,
}

impl Issuer {
    pub(super) fn new(name: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).expect("a key");
        Self { name, pair }
    }

    pub(super) fn keys(&self, ids: &[&str]) -> String {
        let point = self.pair.public_key().as_ref();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = |id: &&str| {
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id,
                "x": coordinate(&point[1..33]), "y": coordinate(&point[33..])})
        };
        json!({"keys": ids.iter().map(key).collect::<Vec<_>>()}).to_string()
    }

    pub(super) fn local_keys(&self) -> String {
        STANDARD.encode(self.keys(&[self.name]))
    }

    pub(super) fn token(&self, kid: &str, claims: &Value) -> String {
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string();
        let signed = format!("{}.{}", encode(header), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("a signature"));
        format!("{signed}.{signature}")
    }
}

/// Publishes keys by HTTP.
pub(super) struct KeyServer {
    state: Arc<Mutex<Published>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Published {
    /// `None` while it fails.
    keys: Option<String>,
    requests: usize,
}

impl KeyServer {
    pub(super) async fn start(keys: &str) -> Self {
        let listener = TcpListener::bind(loopback(JWKS)).await.expect("a port");
        let state = Arc::new(Mutex::new(Published {
            keys: Some(keys.to_owned()),
            requests: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A client that goes away in the middle has its own test.
                let _ = stream.read(&mut [0; 4096]).await;
                let (status, body) = {
                    let mut state = shared.lock().expect("no panic elsewhere");
                    state.requests += 1;
                    match &state.keys {
                        Some(keys) => ("200 OK", keys.clone()),
                        None => ("500 Oops", String::new()),
                    }
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { state, task }
    }

    pub(super) fn publish(&self, keys: &str) {
        self.state.lock().expect("no panic elsewhere").keys = Some(keys.to_owned());
    }

    pub(super) fn fail(&self) {
        self.state.lock().expect("no panic elsewhere").keys = None;
    }

    pub(super) fn requests(&self) -> usize {
        self.state.lock().expect("no panic elsewhere").requests
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
