//! The admin listener of a proxy, and what its metrics say.

use std::net::SocketAddr;

use http::Method;
use serde_json::Value;

use crate::client::{self, Protocol, Reply};

/// Where a proxy answers to its operator.
#[derive(Debug, Clone, Copy)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The admin listener at an address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status of `/ready`; an error when nobody answers.
    pub async fn ready(&self) -> Result<u16, String> {
        Ok(self.ask(Method::GET, "/ready", "").await?.status.as_u16())
    }

    /// The snapshot in use.
    pub async fn snapshot(&self) -> Value {
        let reply = self.expect(Method::GET, "/snapshot").await;
        serde_json::from_str(&reply.text()).expect("/snapshot is JSON")
    }

    /// All metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.expect(Method::GET, "/metrics").await.text())
    }

    /// Any call; an error when nobody answers.
    pub async fn ask(&self, method: Method, path: &str, body: &str) -> Result<Reply, String> {
        client::once(self.address, Protocol::Http1, method, path, body.to_owned())
            .await
            .map_err(|error| format!("admin listener: {error}"))
    }

    async fn expect(&self, method: Method, path: &str) -> Reply {
        let reply = self.ask(method, path, "").await;
        let reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(reply.status, 200, "{path}");
        reply
    }
}

/// One scrape in the Prometheus text format.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line: name, labels, value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name, with the `_total`, `_sum`, … of its kind.
    pub name: String,
    /// Labels as written.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Reads the text format; lines that it does not know are left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: lines.filter_map(Sample::parse).collect(),
        }
    }

    /// Sum over the samples of a name that carry all the given labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.named(name)
            .filter(|sample| labels.iter().all(|label| sample.has(label)))
            .map(|sample| sample.value)
            .sum()
    }

    /// Samples of a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        Some(Self {
            name: name.to_owned(),
            labels: labels.split("\",").filter_map(parse_label).collect(),
            value: value.parse().ok()?,
        })
    }

    fn has(&self, (name, value): &(&str, &str)) -> bool {
        self.labels
            .iter()
            .any(|label| (label.0.as_str(), label.1.as_str()) == (*name, *value))
    }
}

fn parse_label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once("=\"")?;
    Some((
        name.trim().to_owned(),
        value.trim_end_matches('"').to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_the_labels_that_are_asked_for() {
        let metrics = Metrics::parse(
            "# HELP a b\na_total{x=\"1\",y=\"p,q\"} 2\na_total{x=\"1\",y=\"r\"} 3\na_total{x=\"2\"} 5\nb 7\n",
        );
        assert_eq!(metrics.sum("a_total", &[("x", "1")]), 5.0);
        assert_eq!(metrics.sum("a_total", &[("y", "p,q")]), 2.0);
        assert_eq!(metrics.sum("a_total", &[]), 10.0);
        assert_eq!(metrics.sum("b", &[]), 7.0);
    }
}
