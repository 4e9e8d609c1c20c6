//! h2load: HTTP/2 with several streams on a connection.

use std::process::Command;
use std::time::Duration;

use super::Outcome;

/// With further arguments for what is not a plain GET.
pub(super) fn run(
    url: &str,
    [connections, streams]: [usize; 2],
    arguments: &[&str],
    span: Duration,
) -> Outcome {
    let output = Command::new("h2load")
        .args(["--threads", "1", "--clients", &connections.to_string()])
        .args(["--max-concurrent-streams", &streams.to_string()])
        .args(["--duration", &span.as_secs().to_string()])
        .args(arguments)
        .arg(url)
        .output()
        .expect("h2load runs: tests/tools/setup.sh --bench installs it");
    parse(&String::from_utf8_lossy(&output.stdout), span)
        .unwrap_or_else(|| panic!("h2load: {output:?}"))
}

/// h2load reports in prose: `status codes: 9 2xx, 0 3xx, …` and, before it,
/// `requests: … 1 failed, …`. What a timed run leaves unfinished is no failure.
fn parse(text: &str, span: Duration) -> Option<Outcome> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let number = |list: &str, label: &str| {
        let entry = list.split(',').find(|entry| entry.ends_with(label))?;
        entry.split_whitespace().next()?.parse::<u64>().ok()
    };
    let codes = line("status codes: ")?;
    let bytes = line("traffic: ")?.split_once('(')?.1.split_once(')')?.0;
    let good = number(codes, " 2xx")?;
    let refused = number(codes, " 3xx")? + number(codes, " 4xx")? + number(codes, " 5xx")?;
    Some(Outcome {
        good,
        failed: refused + number(line("requests: ")?, " errored")?,
        elapsed: span,
        bytes: bytes.parse().ok()?,
        latency: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
finished in 1.00s, 30.00 req/s, 40.00KB/s
requests: 30 total, 34 started, 30 done, 28 succeeded, 2 failed, 1 errored, 0 timeout
status codes: 28 2xx, 0 3xx, 0 4xx, 1 5xx
traffic: 39.06KB (40000) total, 1.00KB (1024) headers (space savings 90.00%), 30.00KB (30720) data
";

    #[test]
    fn only_success_is_good() {
        let outcome = parse(REPORT, Duration::from_secs(1)).unwrap();
        assert_eq!((outcome.good, outcome.failed), (28, 2));
        assert_eq!(outcome.bytes, 40_000);
    }
}
