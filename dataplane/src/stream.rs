//! TCP: one accepted connection, carried to an endpoint byte by byte.
//!
//! Refused clients see what Envoy's would: the connection is taken, then closed
//! in good order without a byte.

use crate::authorize;
use crate::balance::OpenConnection;
use crate::downstream::{Connection, Wire};
use crate::external::{Decision, Facts};
use crate::listener::DrainWatch;
use crate::proxy::Shared;
use crate::relay::{End, Outcome, Reset, relay};
use crate::resilience::{Outcome as Health, Permit};
use crate::tables::{App, ClusterState, Picked, TcpApp, draw};
use crate::tls::HandshakeFailure;
use crate::upstream::{DialError, UpstreamIo, dial};
use meridian_model::{EndpointAddress, Verdict};
use meridian_telemetry::access_log::{AccessRecord, Protocol};
use meridian_telemetry::metrics::{self, Layer, Open, RetryReason, TlsResult, TryError};
use meridian_telemetry::text::Text;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a refused client may take to see the end and close its own side.
/// Closing at once, with its bytes unread, would make the end a reset.
const FAREWELL: Duration = Duration::from_secs(1);

/// Other endpoints that are tried when one can't be reached: nothing was sent
/// yet, so that each try is safe.
const CONNECT_TRIES: u32 = 3;

/// Serves one connection to its end.
pub(crate) async fn serve(
    shared: &Shared,
    stream: Wire,
    connection: &Arc<Connection<App>>,
    _drain: DrainWatch,
) {
    let state = connection.listener.state();
    let Some(app) = state.app.tcp(connection.chosen_by.as_deref()).cloned() else {
        // The listener became an HTTP one between accept and here.
        return;
    };
    drop(state);
    let mut story = Story::begin(shared, &app, connection);
    if let Some(rules) = &app.service.authorization {
        let verdict = authorize::connection(rules, connection.peer());
        app.metrics.verdict(Layer::L4, authorize::label(verdict));
        if verdict == Verdict::Deny {
            story.end("denied");
            return close_in_good_order(stream).await;
        }
    }
    for check in &app.checks {
        let facts = Facts {
            connection,
            own: app.own.as_ref(),
            request: None,
        };
        if let Decision::Refuse(refusal) = check.ask(&facts).await {
            app.metrics.verdict(Layer::External, metrics::Verdict::Deny);
            story.end(match refusal.unanswered {
                true => "external_unanswered",
                false => "external_denied",
            });
            return close_in_good_order(stream).await;
        }
        app.metrics
            .verdict(Layer::External, metrics::Verdict::Allow);
    }
    let Some(cluster) = draw(&app.clusters, |(_, weight)| *weight).and_then(|(c, _)| c.state())
    else {
        story.end("no_route");
        return close_in_good_order(stream).await;
    };
    let Connected { upstream, _counted } = match connect(&cluster, connection, &mut story).await {
        Ok(connected) => connected,
        Err(reason) => {
            story.end(reason);
            return close_in_good_order(stream).await;
        }
    };
    let idle = app.service.idle_timeout;
    let outcome = relay(stream, upstream, idle, connection.closed(), &*app.metrics).await;
    story.relayed(&outcome);
}

/// A connection to an endpoint.
struct Connected {
    upstream: UpstreamIo,
    /// Counts it: against the cluster's limit, and as open for the cluster and the instance.
    _counted: (Permit, Open, OpenConnection),
}

/// Connects to an endpoint, and to another where that fails.
async fn connect(
    cluster: &Arc<ClusterState>,
    connection: &Connection<App>,
    story: &mut Story<'_>,
) -> Result<Connected, &'static str> {
    let Some(permit) = cluster.breaker.try_connection() else {
        cluster.metrics.failed(TryError::Overflow, Duration::ZERO);
        return Err("overflow");
    };
    let client = connection.peer_address.map(|address| address.ip());
    let mut reason = "no_healthy_upstream";
    let mut tried = Vec::new();
    for _ in 0..CONNECT_TRIES {
        let now = Instant::now();
        let hash = cluster.connection_hash(client);
        let Some(picked) = cluster.pick(hash, now, &tried) else {
            break;
        };
        // Nobody else is left, and asking the same one at once again would change nothing.
        if tried.contains(&picked.member.id()) {
            break;
        }
        if !tried.is_empty() {
            cluster.metrics.retried(RetryReason::ConnectFailure);
        }
        let address = &picked.member.endpoint().address;
        story.tried(cluster, address);
        let limit = cluster.model.connect_timeout;
        match dial(address, &picked.profile, limit).await {
            Ok(upstream) => {
                if picked.profile.is_tls() {
                    cluster.metrics.handshake(TlsResult::Ok);
                }
                cluster.report(&picked, Health::Success, now);
                return Ok(Connected {
                    upstream,
                    _counted: (permit, cluster.metrics.connected(), picked.member.connect()),
                });
            }
            Err(error) => {
                reason = failed(cluster, &picked, &error, now);
                tried.push(picked.member.id());
            }
        }
    }
    Err(reason)
}

/// Counts and logs a dial that failed, and says its word in the access log.
fn failed(
    cluster: &ClusterState,
    picked: &Picked,
    error: &DialError,
    began: Instant,
) -> &'static str {
    let (error_class, word) = classify(error);
    let failure = match error {
        DialError::Tls { failure, .. } => Some(*failure),
        _ => None,
    };
    if let Some(failure) = failure {
        cluster.metrics.handshake(failure.metric());
    }
    cluster.metrics.failed(error_class, began.elapsed());
    tracing::warn!(
        cluster = %cluster.model.name,
        endpoint = %picked.member.endpoint().address,
        reason = failure.map(HandshakeFailure::as_str),
        error = %meridian_telemetry::Chain(error),
        "cannot connect"
    );
    cluster.report(picked, Health::Unreachable, Instant::now());
    word
}

/// What a failed dial counts as, and its word in the access log.
pub(crate) fn classify(error: &DialError) -> (TryError, &'static str) {
    match error {
        DialError::Timeout(_) => (TryError::ConnectTimeout, "connect_timeout"),
        DialError::Connect(_) => (TryError::Connect, "connect_failed"),
        DialError::Tls { .. } => (TryError::Tls, "peer_unverified"),
        DialError::Unusable(_) => (TryError::Other, "unroutable"),
    }
}

/// Ends the connection so that the client reads an orderly end, whatever it sent.
async fn close_in_good_order(mut stream: Wire) {
    let farewell = async {
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // A client that is gone, or does not listen, has no claim to more.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

impl Reset for UpstreamIo {
    fn reset_on_close(&self) -> io::Result<()> {
        match self.tcp_socket() {
            Some(socket) => socket.reset_on_close(),
            None => Ok(()),
        }
    }
}

/// The log line of one connection, written when it is dropped.
struct Story<'a> {
    shared: &'a Shared,
    line: Option<Box<AccessRecord>>,
    began: Instant,
}

impl<'a> Story<'a> {
    fn begin(shared: &'a Shared, app: &TcpApp, connection: &Connection<App>) -> Self {
        let line = shared.access_log.is_on().then(|| {
            let listener = Arc::clone(&app.listener);
            let mut line = AccessRecord::new(SystemTime::now(), listener, Protocol::Tcp);
            line.client = connection.peer_address.map(Text::Address);
            line.peer_identity = connection
                .peer()
                .map(|peer| Text::Shared(peer.spiffe.shared()));
            Box::new(line)
        });
        Self {
            shared,
            line,
            began: Instant::now(),
        }
    }

    fn tried(&mut self, cluster: &ClusterState, address: &EndpointAddress) {
        if let Some(line) = &mut self.line {
            line.tries += 1;
            line.cluster = Some(cluster.model.name.shared());
            line.endpoint = Some(endpoint_text(address));
        }
    }

    fn end(&mut self, outcome: &'static str) {
        if let Some(line) = &mut self.line {
            line.outcome = Some(outcome);
        }
    }

    fn relayed(&mut self, outcome: &Outcome) {
        let word = match &outcome.end {
            // The ordinary end of a connection needs no word.
            End::Closed(_) => None,
            End::Reset(_) => Some("reset"),
            End::Failed(..) => Some("failed"),
            End::Idle => Some("idle_timeout"),
            End::Cancelled => Some("revoked"),
        };
        if let Some(line) = &mut self.line {
            line.bytes_in = outcome.received;
            line.bytes_out = outcome.sent;
            line.outcome = word;
        }
    }
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.duration = self.began.elapsed();
            self.shared.access_log.record(*line);
        }
    }
}

/// An endpoint's address as the log has it.
pub(crate) fn endpoint_text(address: &EndpointAddress) -> Text {
    match address {
        EndpointAddress::Tcp(address) => Text::Address(*address),
        EndpointAddress::Unix(path) => Text::Owned(path.display().to_string().into()),
    }
}
