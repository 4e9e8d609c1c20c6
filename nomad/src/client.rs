//! One agent, and how it is asked.

use crate::Error;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use rustls::RootCertStore;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Time to connect. Agents are local or nearby, and a lost SYN is sent again
/// after 1 s and 3 s.
const CONNECT: Duration = Duration::from_secs(5);

/// Time for a whole answer: a call may be forwarded to another region.
const REQUEST: Duration = Duration::from_secs(30);

/// Bytes of an answer: a job of 10,000 lines is under one MiB.
const BODY: usize = 16 << 20;

/// Characters of Nomad's error text that are kept.
const MESSAGE: usize = 1024;

/// Asks one agent. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Url,
}

impl Client {
    /// A client of the agent at `address`, such as `http://127.0.0.1:4646`, with
    /// an ACL token where the cluster wants one.
    ///
    /// # Errors
    /// When address or token are malformed.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, Error> {
        let invalid = || Error::Address {
            address: address.to_owned(),
        };
        let url = Url::parse(address).map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(invalid());
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token).map_err(|_| Error::Token)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-nomad-token"), value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .tls_backend_preconfigured(tls(url.scheme() == "https"))
            // Nomad's API redirects nobody; its UI, at `/`, does.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http, address: url })
    }

    /// Reads a value.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
    ) -> Result<T, Error> {
        self.call(operation, Method::GET, path, None).await
    }

    /// Sends a value, and reads the answer.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
        body: &serde_json::Value,
    ) -> Result<T, Error> {
        self.call(operation, Method::PUT, path, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<T, Error> {
        let mut url = self.address.clone();
        // Segments are encoded: the ID of a dispatched job has a slash.
        // `new` refused addresses that have no path to extend.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|source| Error::Transport { operation, source })?;
        let status = response.status();
        let bytes = read(operation, response).await?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(Error::Status {
                operation,
                status: status.as_u16(),
                message: text.trim().chars().take(MESSAGE).collect(),
            });
        }
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode { operation, source })
    }
}

/// Reads a body up to its bound.
async fn read(operation: &'static str, mut response: Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| Error::Transport { operation, source })?
    {
        if bytes.len() + chunk.len() > BODY {
            return Err(Error::TooLarge {
                operation,
                limit: BODY,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Trusts the system's authorities. A plain-text client gets a configuration
/// as well, because reqwest wants one, but reads no certificate for it.
fn tls(used: bool) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    if used {
        // Single unreadable certificates don't matter; an empty store refuses the agent.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .expect("ring has cipher suites of both versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
