//! The operator's side of a proxy: an HTTP listener and the signals.
//!
//! Both live on the control runtime and never share a thread with traffic, so
//! that a busy proxy still answers its operator. The listener is on loopback by
//! default. Bound elsewhere it demands a token, because `/drain` stops a proxy
//! and `/snapshot` tells everything about it but its keys.
//!
//! | path | what |
//! |---|---|
//! | `GET /live` | 200 while the control runtime turns |
//! | `GET /ready` | 200 once every listener is open; else 503 and what is waited for |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /snapshot` | what the proxy knows, as JSON |
//! | `GET /log-level` | the filter of the program's own log |
//! | `PUT /log-level` | another filter, in `?level=` or the body |
//! | `POST /drain` | drain and end, as SIGTERM does |

mod access;
mod answer;
mod problem;
mod signal;

use self::access::Access;
use self::answer::{Router, Scope};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::access::AdminToken;
pub use self::signal::{SignalError, Signals, Wish};

/// Where operators are answered unless something else is said: Envoy's admin
/// port in Consul's documentation, on loopback.
pub const DEFAULT_BIND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 19000);

/// Connections at a time. A handful of scrapers and people; a leak in one of
/// them must not eat the proxy's file descriptors.
const CONNECTIONS: usize = 64;

/// Bytes of a request's head, the least that hyper takes.
const HEAD_BYTES: usize = 8 * 1024;

/// Header lines of a request: a browser sends some twenty.
const HEADERS: usize = 64;

/// From a connection's first byte, or the end of the answer before, to the end
/// of the next head. Scrapers that come every 15 s connect anew.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// A connection is told to end after this time, whatever it does.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// And cut this much later: enough to take a large `/snapshot` over a slow line.
const CONNECTION_GRACE: Duration = Duration::from_secs(20);

/// Pause after a failed accept; without it, running out of file descriptors
/// would become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Settings of the admin listener.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What `Authorization: Bearer` must carry. Required where `bind` is not
    /// loopback, obeyed everywhere.
    pub token: Option<AdminToken>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            bind: DEFAULT_BIND,
            token: None,
        }
    }
}

impl AdminConfig {
    /// Whether it may be opened so.
    ///
    /// # Errors
    /// [`AdminError::Unprotected`] when others could reach it without a token.
    pub fn check(&self) -> Result<(), AdminError> {
        if self.bind.ip().is_loopback() || self.token.is_some() {
            return Ok(());
        }
        Err(AdminError::Unprotected { bind: self.bind })
    }
}

/// What the listener asks and tells the program. Called on the control runtime.
pub trait Operations: Send + Sync + 'static {
    /// What readiness waits for, or `None` when the proxy is ready. A stale
    /// source is no reason: the last good snapshot goes on being served.
    fn waiting_for(&self) -> Option<Vec<String>>;

    /// All metrics in the Prometheus text format.
    fn metrics(&self) -> String;

    /// What the proxy knows, without secrets.
    fn snapshot(&self) -> serde_json::Value;

    /// The log's filter.
    fn log_filter(&self) -> String;

    /// Replaces the log's filter; the error says what is wrong with it.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;

    /// Asks the program to drain and end. Returns at once; asked again, it does nothing.
    fn drain(&self);
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Reachable from elsewhere and open to everyone. The configuration's fault.
    #[error("admin listener {bind} is not on loopback and has no token")]
    Unprotected {
        /// The address asked for.
        bind: SocketAddr,
    },
    /// The address can't be bound.
    #[error("bind admin listener {bind}")]
    Bind {
        /// The address asked for.
        bind: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A bound admin listener that answers nobody yet.
#[derive(Debug)]
pub struct AdminListener {
    listener: TcpListener,
    address: SocketAddr,
    scope: Scope,
}

impl AdminListener {
    /// Binds. First of all that a program opens, so that `/live` answers and
    /// `/ready` says 503 while the rest starts.
    ///
    /// # Errors
    /// When the address is taken, or open to others without a token.
    pub async fn bind(config: AdminConfig) -> Result<Self, AdminError> {
        config.check()?;
        let scope = Scope::Everything(Access::new(config.token));
        Self::open(config.bind, scope).await
    }

    /// Binds a listener for scrapers: it answers `/metrics` to everybody, and knows no other path.
    /// So it may be opened anywhere without a token.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn for_scrapers(bind: SocketAddr) -> Result<Self, AdminError> {
        Self::open(bind, Scope::Metrics).await
    }

    /// The bound address, port 0 resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the future is dropped.
    pub async fn serve(self, operations: Arc<dyn Operations>) {
        let router = Arc::new(Router::new(operations, self.scope));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // The semaphore is never closed; were it, there would be no place.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let router = Arc::clone(&router);
                    tokio::spawn(async move {
                        converse(stream, router).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin listener could not accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn open(bind: SocketAddr, scope: Scope) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Bind { bind, source };
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            scope,
        })
    }
}

/// Serves one connection up to its lifetime.
async fn converse(stream: TcpStream, router: Arc<Router>) {
    let service = hyper::service::service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, std::convert::Infallible>(router.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(CONNECTION_GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        // Port scanners and closed terminals: of interest to nobody by default.
        tracing::debug!(%error, "admin connection ended early");
    }
}

#[cfg(test)]
mod tests;
