//! Load on one address, and what became of it.

mod bodies;
mod calls;
mod crowd;
mod handshakes;
mod messages;
mod open;
mod plain;
mod streams;
mod tally;
mod wrk;

use std::time::Duration;

use meridian_tests::world::World;

use crate::account::Tree;
use crate::turns::{Measure, Plan, Sample};

pub(crate) use crowd::Arrivals;
pub(crate) use plain::Client;

/// How requests are sent.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    /// wrk: every connection sends its next request when it has the reply.
    Closed {
        /// `http` or `https`.
        scheme: &'static str,
        /// Connections.
        connections: usize,
        /// Path.
        path: String,
        /// Whether each request has a connection of its own.
        close: bool,
    },
    /// h2load: the same with streams; over TLS where the URL says so.
    Streams {
        /// Connections.
        connections: usize,
        /// Concurrent streams on each.
        streams: usize,
        /// `http` or `https`.
        scheme: &'static str,
    },
    /// By timetable; latency counts from when a request was due.
    Open {
        /// Requests a second.
        rate: f64,
        /// Connections.
        connections: u32,
    },
    /// Requests that share some connections, and wait until one is free.
    Crowd {
        /// When requests are due.
        arrivals: Arrivals,
        /// Connections at most.
        connections: usize,
    },
    /// h2load: unary gRPC calls, a message each way.
    Calls {
        /// Connections.
        connections: usize,
        /// Concurrent calls on each.
        streams: usize,
    },
    /// gRPC streams that stay open; a message and its answer count as a request.
    Messages {
        /// Connections.
        connections: usize,
        /// Streams on each.
        streams: usize,
    },
    /// 1 MiB there and 1 MiB back in each request.
    Bodies {
        /// Connections.
        connections: usize,
    },
    /// A new TLS connection for each request, without resumption.
    Handshakes {
        /// Clients that do so at the same time.
        clients: usize,
        /// The one certificate that is trusted, in PEM.
        trusted: String,
    },
}

/// What a load generator saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Good replies.
    pub(crate) good: u64,
    /// Everything else.
    pub(crate) failed: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Bytes received, heads included.
    pub(crate) bytes: u64,
    /// Latencies, where the generator reports percentiles.
    pub(crate) latency: Option<Latency>,
}

/// Percentiles of the time to a complete reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    /// Half are faster.
    pub(crate) median: Duration,
    /// One in a hundred is slower.
    pub(crate) ninety_ninth: Duration,
}

impl Load {
    /// Sends load to a port for a while.
    ///
    /// # Panics
    /// When the generator does not run, or not one reply is good.
    pub(crate) fn run(&self, world: &World, port: u16, span: Duration) -> Outcome {
        let outcome = match self {
            Self::Closed {
                scheme,
                connections,
                path,
                close,
            } => {
                let url = format!("{scheme}://127.0.0.1:{port}{path}");
                wrk::run(world, &url, *connections, *close, span)
            }
            Self::Streams {
                connections,
                streams,
                scheme,
            } => streams::run(
                &format!("{scheme}://127.0.0.1:{port}/"),
                [*connections, *streams],
                &[],
                span,
            ),
            Self::Open { rate, connections } => open::run(port, *rate, *connections, span),
            Self::Crowd {
                arrivals,
                connections,
            } => crowd::run(port, *arrivals, *connections, span),
            Self::Calls {
                connections,
                streams,
            } => calls::run(world, port, [*connections, *streams], span),
            Self::Messages {
                connections,
                streams,
            } => messages::run(port, [*connections, *streams], span),
            Self::Bodies { connections } => bodies::run(port, *connections, span),
            Self::Handshakes { clients, trusted } => handshakes::run(port, trusted, *clients, span),
        };
        assert!(outcome.good > 0, "no good reply: {outcome:?}");
        outcome
    }

    /// Sees by one request of its own what the generator does not look at.
    ///
    /// # Panics
    /// When the answer is not as it should be.
    pub(crate) async fn verify(&self, port: u16) {
        if matches!(self, Self::Calls { .. }) {
            calls::verify(port).await;
        }
    }

    /// Load before the first round, where the plan has some.
    pub(crate) fn warm_up(&self, world: &World, port: u16, plan: Plan) {
        if !plan.warm_up.is_zero() {
            self.run(world, port, plan.warm_up);
        }
    }

    /// One turn of a contender: load on its port, and what that cost its processes.
    pub(crate) fn turn(
        &self,
        world: &World,
        port: u16,
        processes: &[Tree],
        span: Duration,
    ) -> Sample {
        let used = || processes.iter().map(|tree| tree.usage().processor).sum();
        let before: Duration = used();
        let outcome = self.run(world, port, span);
        let spent = used().saturating_sub(before);
        let resident: u64 = processes.iter().map(|tree| tree.usage().resident).sum();
        let seconds = outcome.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let count = |number: u64| number as f64;
        let mut sample = Sample::from([
            (Measure::RequestsPerSecond, count(outcome.good) / seconds),
            (
                Measure::MebibytesPerSecond,
                count(outcome.bytes) / seconds / MEBIBYTE,
            ),
            (
                Measure::ProcessorPerThousand,
                spent.as_secs_f64() * 1000.0 / count(outcome.good),
            ),
            (Measure::Resident, count(resident) / MEBIBYTE),
            (Measure::Failures, count(outcome.failed)),
        ]);
        if let Some(latency) = outcome.latency {
            sample.insert(Measure::MedianLatency, millis(latency.median));
            sample.insert(Measure::NinetyNinth, millis(latency.ninety_ninth));
        }
        sample
    }
}

const MEBIBYTE: f64 = 1_048_576.0;

/// Milliseconds, with their fraction.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
