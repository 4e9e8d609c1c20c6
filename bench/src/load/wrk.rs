//! wrk, one thread, reporting through its own Lua hook rather than in prose.

use std::process::Command;
use std::time::Duration;

use meridian_tests::world::World;
use serde::Deserialize;

use super::{Latency, Outcome};

/// Prints the totals as one JSON object; times in microseconds.
const REPORT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"replies":%d,"failed":%d,"refused":%d,"elapsed":%d,"bytes":%d,"p50":%d,"p99":%d}\n',
    summary.requests, e.connect + e.read + e.write + e.timeout, e.status,
    summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99)))
end
"#;

#[derive(Debug, Deserialize)]
struct Report {
    replies: u64,
    failed: u64,
    /// Replies with a status of 400 or more.
    refused: u64,
    elapsed: u64,
    bytes: u64,
    p50: u64,
    p99: u64,
}

pub(super) fn run(
    world: &World,
    url: &str,
    connections: usize,
    close: bool,
    span: Duration,
) -> Outcome {
    let script = world.write("report.lua", REPORT);
    let closing: &[_] = if close {
        &["--header", "connection: close"]
    } else {
        &[]
    };
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", span.as_secs())])
        .arg("--script")
        .arg(script)
        .args(closing)
        .arg(url)
        .output()
        .expect("wrk runs: tests/tools/setup.sh --bench installs it");
    parse(&String::from_utf8_lossy(&output.stdout)).unwrap_or_else(|| panic!("wrk: {output:?}"))
}

fn parse(text: &str) -> Option<Outcome> {
    let line = text.lines().find(|line| line.starts_with('{'))?;
    let report: Report = serde_json::from_str(line).ok()?;
    Some(Outcome {
        good: report.replies - report.refused,
        failed: report.failed + report.refused,
        elapsed: Duration::from_micros(report.elapsed),
        bytes: report.bytes,
        latency: Some(Latency {
            median: Duration::from_micros(report.p50),
            ninety_ninth: Duration::from_micros(report.p99),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_no_good_reply() {
        let text = "Running 1s test\n{\"replies\":10,\"failed\":1,\"refused\":4,\
                    \"elapsed\":1000000,\"bytes\":99,\"p50\":1500,\"p99\":9000}\n";
        let outcome = parse(text).unwrap();
        assert_eq!((outcome.good, outcome.failed), (6, 5));
        assert_eq!(outcome.elapsed, Duration::from_secs(1));
    }
}
