//! The client: one agent, one connection pool, and how a request is put on the wire.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    address::Address,
    call::Call,
    config::ClientConfig,
    connections::Connections,
    error::{ConfigError, Endpoint, Error},
    query::Meta,
    secret::{Secret, TokenSource},
};

/// A Consul agent, spoken to over HTTP. Clones share connections and are cheap.
///
/// Over plain HTTP or a unix socket, every blocking query pins one connection, and an agent
/// allows 200 of them to a client address unless `limits.http_max_conns_per_client` is raised.
/// Over `https://` all requests share one HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connections: Connections,
    base: Url,
    tokens: TokenSource,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Builds a client. Nothing is sent yet, but files are read, and read again while it lives: the
    /// token's for every request, certificates within a second or so of a change.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let config = Arc::new(config);
        Ok(Self {
            shared: Arc::new(Shared {
                connections: Connections::new(Arc::clone(&config), pool)?,
                base: base(&config)?,
                tokens: TokenSource::new(config.token.clone())?,
                config,
            }),
        })
    }

    /// The settings that the client was built from.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// The token that the next request carries.
    pub(crate) async fn token(&self) -> Option<Secret> {
        self.shared.tokens.current().await
    }

    /// Sends `call`, takes the answer whole, and turns a status other than 200 into an error;
    /// a 404 only when the caller has no use for it.
    pub(crate) async fn send(&self, call: &Call, waiting: Duration) -> Result<Answer, Error> {
        let endpoint = call.endpoint();
        let limit = self.shared.config.limits.request + waiting;
        let failed = |e| Error::transport(endpoint.clone(), e, limit);
        let token = self.shared.tokens.current().await;
        let http = self.shared.connections.current().await;
        let request = self.request(&http, call, token.as_ref(), limit)?;
        let mut response = http.execute(request).await.map_err(failed)?;
        if matches!(
            response.status(),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED
        ) {
            // A blocking query may have waited a minute, and its token may have been replaced in
            // the meantime: that is no refusal of the new one.
            let now = self.shared.tokens.current().await;
            if now != token {
                let request = self.request(&http, call, now.as_ref(), limit)?;
                response = http.execute(request).await.map_err(failed)?;
            }
        }
        let status = response.status();
        let meta = Meta::read(response.headers());
        if status != StatusCode::OK && !(call.may_be_absent && status == StatusCode::NOT_FOUND) {
            let excerpt = excerpt(response).await;
            return Err(Error::Status {
                endpoint,
                status,
                excerpt,
                index: meta.index,
            });
        }
        let body = self.body(response, &endpoint, limit).await?;
        Ok(Answer {
            absent: status == StatusCode::NOT_FOUND,
            meta,
            body,
        })
    }

    /// Sends `call` and reads its answer as JSON.
    pub(crate) async fn send_for<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let answer = self.send(call, Duration::ZERO).await?;
        serde_json::from_slice(&answer.body).map_err(|e| Error::Decode {
            endpoint: call.endpoint(),
            source: Box::new(e),
        })
    }

    /// Sends `call` and has no use for what the answer says beyond its status.
    pub(crate) async fn send_unit(&self, call: &Call) -> Result<(), Error> {
        self.send(call, Duration::ZERO).await.map(drop)
    }

    fn request(
        &self,
        http: &reqwest::Client,
        call: &Call,
        token: Option<&Secret>,
        limit: Duration,
    ) -> Result<reqwest::Request, Error> {
        let Shared { base, config, .. } = &*self.shared;
        let unwritable = |source| Error::Encode {
            endpoint: call.endpoint(),
            source,
        };
        let mut url = base.clone();
        call.extend(&mut url, config)
            .map_err(|e| unwritable(Box::new(e)))?;
        let mut request = http.request(call.method.clone(), url).timeout(limit);
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(token.expose()).map_err(|e| unwritable(Box::new(e)))?;
            value.set_sensitive(true);
            request = request.header("x-consul-token", value);
        }
        if let Some(auth) = &config.auth {
            request = request.basic_auth(&auth.user, auth.password.as_ref().map(|p| p.expose()));
        }
        if let Some(body) = &call.body {
            let body = body
                .as_ref()
                .map_err(|e| unwritable(e.to_string().into()))?;
            request = request
                .header(header::CONTENT_TYPE, call.media_type)
                .body(body.clone());
        }
        request
            .build()
            .map_err(|e| unwritable(Box::new(e.without_url())))
    }

    async fn body(
        &self,
        mut response: reqwest::Response,
        endpoint: &Endpoint,
        time_limit: Duration,
    ) -> Result<Vec<u8>, Error> {
        let limit = self.shared.config.limits.response_body;
        let too_large = || Error::TooLarge {
            endpoint: endpoint.clone(),
            limit,
        };
        if response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        let failed = |e| Error::transport(endpoint.clone(), e, time_limit);
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Makes connections, with certificates as their files hold them now.
pub(crate) fn pool(config: &ClientConfig) -> Result<reqwest::Client, Error> {
    let tls = config.tls.build(config.address.is_tls())?;
    let mut http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // An agent doesn't redirect, and a redirect would take the token along.
        .redirect(reqwest::redirect::Policy::none())
        // The way to the local agent doesn't lead through a proxy.
        .no_proxy()
        .connect_timeout(config.limits.connect)
        // A blocking query is silent for minutes: these find out that the host is gone.
        .tcp_keepalive(KEEPALIVE)
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_timeout(KEEPALIVE)
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
    match &config.address {
        Address::Unix(path) => http = http.unix_socket(path.as_path()),
        Address::Url(url) => {
            if let Some(name) = certified_name(config)? {
                http = http.dns_resolver(Arc::new(Alias::of(url, name)));
            }
        }
    }
    let http = http.build().map_err(|e| ConfigError::Http(Box::new(e)))?;
    Ok(http)
}

/// The URL that every request's begins with.
fn base(config: &ClientConfig) -> Result<Url, ConfigError> {
    let mut url = match &config.address {
        Address::Unix(_) => return plain_base(),
        Address::Url(url) => url.clone(),
    };
    if let Some(name) = certified_name(config)? {
        set_host(&mut url, name)?;
    }
    Ok(url)
}

/// The name in the agent's certificate, where it is not that of the address.
fn certified_name(config: &ClientConfig) -> Result<Option<&str>, ConfigError> {
    if config.address.is_tls() {
        config.tls.dns_name()
    } else {
        Ok(None)
    }
}

/// Silence on a connection before it is probed, and between probes. 15 s: a vanished agent host
/// is noticed well before the default waiting time of a watch is over.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An answer, taken whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The agent said 404 and the caller can live with it.
    pub(crate) absent: bool,
    pub(crate) meta: Meta,
    pub(crate) body: Vec<u8>,
}

/// The start of an error's body, fit for one log line.
async fn excerpt(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    // A body that breaks off is no reason to lose the status: what came is shown.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= Error::EXCERPT {
            break;
        }
    }
    bytes.truncate(Error::EXCERPT);
    let text = String::from_utf8_lossy(&bytes);
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The URL of requests over a unix socket, where the host has no meaning.
fn plain_base() -> Result<Url, ConfigError> {
    let address = "http://localhost";
    Url::parse(address).map_err(|e| ConfigError::Address {
        address: address.to_owned(),
        reason: e.to_string(),
    })
}

/// Puts the certificate's name into the URL, for SNI and verification to use it.
fn set_host(url: &mut Url, name: &str) -> Result<(), ConfigError> {
    let address = url.to_string();
    url.set_host(Some(name)).map_err(|e| ConfigError::Address {
        address,
        reason: e.to_string(),
    })
}

/// Resolves every name to the agent's own host, because the URL holds the certificate's name.
struct Alias {
    host: String,
}

impl Alias {
    fn of(url: &Url, name: &str) -> Self {
        // Brackets belong to the URL's form of an IPv6 address, not to the address.
        let host = url.host_str().unwrap_or(name);
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
        }
    }
}

impl Resolve for Alias {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            // Port 0 stands for the URL's port.
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// A header as text, when it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
