//! Constant load that counts every response.
//!
//! Open loop: a request starts when its time has come, whatever became of those
//! before it, so that a stall shows as lost or late requests and not as less load.
//! Requests go to several gateways as a load balancer sends them: only to those
//! that say they are ready, and once more to another one where HTTP allows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Request};
use tokio::sync::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::Admin;
use crate::client::{Connection, Protocol, empty};

/// As often as load balancers ask at their most eager.
const READINESS: Duration = Duration::from_millis(100);

/// Attempts at one request: each gateway once, and one stale connection.
const ATTEMPTS: usize = 3;

/// One gateway: where its traffic goes and where it says whether it is ready.
#[derive(Debug)]
pub struct Target {
    traffic: SocketAddr,
    admin: Admin,
    ready: AtomicBool,
    idle: Mutex<Vec<Connection>>,
}

impl Target {
    /// A gateway that is ready now.
    pub fn new(traffic: SocketAddr, admin: Admin) -> Arc<Self> {
        Arc::new(Self {
            traffic,
            admin,
            ready: AtomicBool::new(true),
            idle: Mutex::default(),
        })
    }
}

/// What to send, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second.
    pub rate: u32,
    /// `Host` of every request.
    pub authority: String,
    /// Path of every request.
    pub path: String,
}

/// Every request, accounted for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Requests started.
    pub sent: u64,
    /// Final replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a reply, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Requests sent again after a connection that failed before any byte of a reply.
    pub repeated: u64,
    /// Longest time to a reply.
    pub slowest: Duration,
}

impl Report {
    /// Replies of the one good status.
    pub fn good(&self) -> u64 {
        self.statuses.get(&200).copied().unwrap_or_default()
    }

    /// Requests without a good reply.
    pub fn lost(&self) -> u64 {
        self.sent - self.good()
    }
}

/// Load in progress.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    under_way: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    driver: JoinHandle<Report>,
    probes: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts sending GET.
    pub fn start(plan: Plan, targets: Vec<Arc<Target>>) -> Self {
        Self::of(Method::GET, plan, targets)
    }

    /// Starts sending requests of any method, without a body. Those that are not
    /// idempotent are sent again only where no connection came about.
    pub fn of(method: Method, plan: Plan, targets: Vec<Arc<Target>>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let probes = targets
            .iter()
            .cloned()
            .map(|target| tokio::spawn(watch_readiness(target)));
        let probes = probes.collect();
        let (under_way, sent) = (Arc::default(), Arc::default());
        let balancer = Balancer {
            method,
            plan,
            targets,
            next: AtomicUsize::new(0),
            under_way: Arc::clone(&under_way),
            sent: Arc::clone(&sent),
        };
        Self {
            stop,
            under_way,
            sent,
            probes,
            driver: tokio::spawn(drive(Arc::new(balancer), stopped)),
        }
    }

    /// Requests that are sent and not answered yet.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Requests started so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for every request under way, and reports.
    pub async fn stop(self) -> Report {
        self.stop.send_replace(true);
        let report = self.driver.await.expect("the load generator");
        for probe in &self.probes {
            probe.abort();
        }
        report
    }
}

async fn watch_readiness(target: Arc<Target>) {
    let mut tick = interval(READINESS);
    loop {
        tick.tick().await;
        let ready = target.admin.ready().await.is_ok_and(|status| status == 200);
        target.ready.store(ready, Ordering::Relaxed);
    }
}

async fn drive(balancer: Arc<Balancer>, mut stopped: watch::Receiver<bool>) -> Report {
    let mut tick = interval(Duration::from_secs(1) / balancer.plan.rate);
    // Late ticks are made up for: the rate holds on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    let mut report = Report::default();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = tick.tick() => {
                report.sent += 1;
                let balancer = Arc::clone(&balancer);
                running.spawn(async move { balancer.request().await });
            }
            Some(outcome) = running.join_next() => report.add(outcome.expect("one request")),
        }
    }
    while let Some(outcome) = running.join_next().await {
        report.add(outcome.expect("one request"));
    }
    report
}

/// One request's end.
struct Outcome {
    reply: Result<u16, String>,
    repeated: u64,
    took: Duration,
}

impl Report {
    fn add(&mut self, outcome: Outcome) {
        match outcome.reply {
            Ok(status) => *self.statuses.entry(status).or_default() += 1,
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
        self.repeated += outcome.repeated;
        self.slowest = self.slowest.max(outcome.took);
    }
}

struct Balancer {
    method: Method,
    plan: Plan,
    targets: Vec<Arc<Target>>,
    next: AtomicUsize,
    under_way: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Balancer {
    async fn request(&self) -> Outcome {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = self.repeatedly().await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    async fn repeatedly(&self) -> Outcome {
        let began = Instant::now();
        let mut repeated = 0;
        let reply = loop {
            let failure = match self.attempt().await {
                Ok(status) => break Ok(status),
                Err(failure) => failure,
            };
            if !failure.repeatable || repeated + 1 == ATTEMPTS as u64 {
                break Err(failure.error);
            }
            repeated += 1;
        };
        Outcome {
            reply,
            repeated,
            took: began.elapsed(),
        }
    }

    /// Sends the request once, on an idle connection if there is one.
    async fn attempt(&self) -> Result<u16, Failure> {
        let target = self.choose();
        let idle = target.idle.lock().await.pop();
        let reused = idle.filter(|connection| !connection.is_closed());
        let repeatable = reused.is_some() && self.method.is_idempotent();
        let mut connection = match reused {
            Some(connection) => connection,
            None => self.connect(target).await?,
        };
        let request = Request::builder()
            .method(self.method.clone())
            .uri(self.plan.path.as_str())
            .body(empty())
            .expect("a request of fixed shape");
        let reply = connection.send(request).await;
        match reply {
            Ok(reply) => {
                if !connection.is_closed() {
                    target.idle.lock().await.push(connection);
                }
                Ok(reply.status.as_u16())
            }
            Err(error) => Err(Failure {
                // RFC 9112, 9.3.1: a client may repeat an idempotent request when a
                // connection that it reused closes before any byte of the reply.
                repeatable: repeatable && closed_before_reply(&*error),
                error: chain(&*error),
            }),
        }
    }

    async fn connect(&self, target: &Target) -> Result<Connection, Failure> {
        match Connection::open(target.traffic, Protocol::Http1).await {
            Ok(connection) => Ok(connection.authority(&self.plan.authority)),
            Err(error) => {
                // Until the next probe says otherwise.
                target.ready.store(false, Ordering::Relaxed);
                Err(Failure::unsent(&*error))
            }
        }
    }

    /// The ready gateways in turn; any of them when none is ready.
    fn choose(&self) -> &Target {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let ready = |target: &&Arc<Target>| target.ready.load(Ordering::Relaxed);
        let count = self.targets.iter().filter(ready).count();
        if count == 0 {
            return &self.targets[turn % self.targets.len()];
        }
        let chosen = self.targets.iter().filter(ready).nth(turn % count);
        // Another task may have marked one unready between the two looks.
        chosen.unwrap_or(&self.targets[0])
    }
}

struct Failure {
    error: String,
    repeatable: bool,
}

impl Failure {
    /// No connection, so nothing was sent: always safe to try elsewhere.
    fn unsent(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            error: chain(error),
            repeatable: true,
        }
    }
}

fn closed_before_reply(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else {
        return false;
    };
    error.is_canceled() || error.is_closed() || error.is_incomplete_message()
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;
    use crate::wait::{self, PATIENCE};

    async fn load(path: &str, requests: u64) -> (Report, u64) {
        let origins = [Origin::start("one", 0).await, Origin::start("two", 0).await];
        // An origin says 200 to everything, `/ready` included.
        let targets = origins
            .iter()
            .map(|origin| Target::new(origin.address(), Admin::new(origin.address())));
        let plan = Plan {
            rate: 200,
            authority: "load.example".to_owned(),
            path: path.to_owned(),
        };
        let load = Load::start(plan, targets.collect());
        wait::holds("enough requests", PATIENCE, async || {
            origins
                .iter()
                .all(|origin| origin.requests() > requests / 2)
        })
        .await;
        let report = load.stop().await;
        (report, origins.iter().map(Origin::requests).sum())
    }

    #[tokio::test]
    async fn every_good_reply_is_counted() {
        let (report, received) = load("/", 40).await;
        assert_eq!((report.lost(), report.repeated), (0, 0), "{report:?}");
        assert!(received >= report.sent, "the rest are readiness checks");
        assert!(report.sent >= 20);
    }

    #[tokio::test]
    async fn every_bad_reply_is_a_loss() {
        let (report, _) = load("/?status=503", 40).await;
        assert_eq!(report.lost(), report.sent);
        assert_eq!(report.statuses[&503], report.sent);
    }
}
