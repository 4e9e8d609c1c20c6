//! Checks that an agent runs, as far as a sidecar that stands between them and its service cares.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::{call::Call, client::Client, health::CheckStatus, query::Query};

impl Client {
    /// Checks of a service instance registered with the agent, by their IDs
    /// (`GET /v1/agent/checks`). Doesn't block: a watch polls.
    #[must_use]
    pub fn agent_checks(&self, service_id: &str) -> Query<BTreeMap<String, AgentCheck>> {
        let call = Call::get("list agent checks", ["v1", "agent", "checks"]);
        // In a bexpr string, Go's rules for quoting hold.
        let expression = format!("ServiceID == {}", serde_json::Value::from(service_id));
        Query::new(self, call).filter(&expression)
    }
}

/// A check of a service instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgentCheck {
    /// The name.
    pub name: String,
    /// `http`, `grpc`, `tcp`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The state.
    pub status: CheckStatus,
    /// The port of the sidecar that the check goes through; 0 where it goes to the service.
    pub exposed_port: u16,
    /// The URL that an HTTP check called last. The API has no other place that tells it; a check
    /// that has not run yet, or whose output the agent discards, has none.
    #[serde(rename = "Output", deserialize_with = "called_url")]
    pub called: Option<String>,
}

fn called_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let output = Option::<String>::deserialize(deserializer)?;
    Ok(output.as_deref().and_then(url).map(ToOwned::to_owned))
}

/// `HTTP GET URL: 200 OK …` after an answer, `Get "URL": …` after none. What the service itself
/// said comes later in the line and is not looked at.
fn url(output: &str) -> Option<&str> {
    let (first, rest) = output.split_once(' ')?;
    if first == "HTTP" {
        let (_method, rest) = rest.split_once(' ')?;
        rest.split_whitespace().next()?.strip_suffix(':')
    } else {
        rest.strip_prefix('"')?.split('"').next()
    }
    .filter(|url| url.starts_with("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(output: &str) -> Option<String> {
        let json = serde_json::json!({"Type": "http", "Output": output});
        serde_json::from_value::<AgentCheck>(json).unwrap().called
    }

    #[test]
    fn the_called_url_is_read_whether_it_answered_or_not() {
        let here = Some("http://127.0.0.1:21500/health?x=1".to_owned());
        let answered = "HTTP GET http://127.0.0.1:21500/health?x=1: 200 OK Output: fine";
        assert_eq!(called(answered), here);
        let refused = "Get \"http://127.0.0.1:21500/health?x=1\": dial tcp 127.0.0.1:21500: \
                       connect: connection refused";
        assert_eq!(called(refused), here);
        let posted = "HTTP POST http://127.0.0.1:21500/health?x=1: 503 Service Unavailable";
        assert_eq!(called(posted), here);
    }

    #[test]
    fn other_words_are_no_url() {
        for output in [
            "",
            "TCP connect 127.0.0.1:80: Success",
            "HTTP GET https://127.0.0.1:21500/: 200 OK",
            "HTTP GET http://127.0.0.1:21500/",
            "fine Get \"http://127.0.0.1:1/\": x",
        ] {
            assert_eq!(called(output), None, "{output}");
        }
        let absent: AgentCheck = serde_json::from_str(r#"{"Output": null}"#).unwrap();
        assert_eq!(absent.called, None);
    }
}
