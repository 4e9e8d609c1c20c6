//! What a route counts: requests that were received.
//!
//! A route's series come into being with its first request. They take 6 kB, and
//! most of thousands of routes are asked for seldom or never.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntGauge};

use super::Open;
use super::family::Families;
use super::scope::{Handle, Key, OTHER};
use super::status::StatusCounters;
use super::words::{Direction, Word};

/// The labels of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteLabels {
    /// Which way the traffic goes.
    pub direction: Direction,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The cluster's name; empty for a route that answers by itself.
    pub cluster: Arc<str>,
}

impl RouteLabels {
    fn values(&self) -> [&str; 4] {
        [
            self.direction.as_str(),
            &self.listener,
            &self.route,
            &self.cluster,
        ]
    }
}

impl Key for RouteLabels {
    fn other() -> Self {
        let other: Arc<str> = OTHER.into();
        Self {
            // There is no fourth direction, and three kinds of `other` would be
            // three times the bound.
            direction: Direction::Edge,
            listener: Arc::clone(&other),
            route: Arc::clone(&other),
            cluster: other,
        }
    }
}

/// The handles of a route.
#[derive(Debug)]
pub struct RouteMetrics {
    labels: RouteLabels,
    families: Arc<Families>,
    series: OnceLock<Box<RouteSeries>>,
}

#[derive(Debug)]
struct RouteSeries {
    requests: StatusCounters,
    duration: Histogram,
    active: IntGauge,
    request_size: Histogram,
    response_size: Histogram,
}

impl RouteSeries {
    fn new(families: &Families, values: &[&str]) -> Self {
        Self {
            requests: StatusCounters::new(&families.server_requests, values),
            duration: families.server_duration.with_label_values(values),
            active: families.server_active.with_label_values(values),
            request_size: families.server_request_size.with_label_values(values),
            response_size: families.server_response_size.with_label_values(values),
        }
    }
}

impl RouteMetrics {
    pub(super) fn new(families: &Arc<Families>, labels: &RouteLabels) -> Self {
        Self {
            labels: labels.clone(),
            families: Arc::clone(families),
            series: OnceLock::new(),
        }
    }

    /// One load, but for the route's first request.
    fn series(&self) -> &RouteSeries {
        let make = || Box::new(RouteSeries::new(&self.families, &self.labels.values()));
        self.series.get_or_init(make)
    }

    /// Counts a request as in flight until the result is dropped.
    pub fn begin(self: &Arc<Self>) -> Open {
        Open::new(&self.series().active, self)
    }

    /// Counts a finished request: the status that the client was sent, the time
    /// from head to last byte, the bytes of body in and out.
    pub fn finished(&self, status: u16, duration: Duration, body_in: u64, body_out: u64) {
        let series = self.series();
        series.requests.of(status).inc();
        series.duration.observe(duration.as_secs_f64());
        series.request_size.observe(body_in as f64);
        series.response_size.observe(body_out as f64);
    }
}

impl Handle for RouteMetrics {
    fn forget(&self) {
        let Some(series) = self.series.get() else {
            return;
        };
        let (families, labels) = (&self.families, self.labels.values());
        series.requests.forget();
        // Each fails only for a series that is not there, which is what is wanted.
        for family in [
            &families.server_duration,
            &families.server_request_size,
            &families.server_response_size,
        ] {
            let _ = family.remove_label_values(&labels);
        }
        let _ = families.server_active.remove_label_values(&labels);
    }
}
