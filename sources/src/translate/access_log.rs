//! `AccessLogs` of proxy-defaults: where and how finished requests are written down.
//!
//! `DisableListenerLogs` needs nothing: it is about connections that no filter chain of Envoy's
//! takes, of which there is no record here.

use meridian_model::AccessLogPlan;
use meridian_model::access_log::{LinePlan, LogDestination};
use serde_json::Value;

/// Consul's own line, without what no record here holds: the addresses of the proxy's own ends,
/// the server name, and reasons of transport failures and of terminated connections.
const DEFAULT: [(&str, &str); 16] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
];

/// What is asked for; `None` where no log is. The error says what is wrong with it.
pub(crate) fn plan(written: &Value) -> Result<Option<AccessLogPlan>, String> {
    if written["Enabled"] != Value::Bool(true) {
        return Ok(None);
    }
    let text = |key: &str| written[key].as_str().filter(|text| !text.is_empty());
    let destination = match (text("Type"), text("Path")) {
        (None | Some("stdout"), _) => LogDestination::Stdout,
        (Some("stderr"), _) => LogDestination::Stderr,
        (Some("file"), Some(path)) => LogDestination::File(path.into()),
        (Some("file"), None) => return Err("Type `file` has no Path".to_owned()),
        (Some(other), _) => return Err(format!("Type `{other}` is not known")),
    };
    let line = match (text("JSONFormat"), text("TextFormat")) {
        (Some(format), _) => LinePlan::Json(fields(format)?),
        // As Consul hands it to Envoy.
        (None, Some(format)) if format.ends_with('\n') => LinePlan::Text(format.to_owned()),
        (None, Some(format)) => LinePlan::Text(format!("{format}\n")),
        (None, None) => {
            let owned = |(name, pattern): (&str, &str)| (name.to_owned(), pattern.to_owned());
            LinePlan::Json(DEFAULT.map(owned).into())
        }
    };
    Ok(Some(AccessLogPlan { destination, line }))
}

fn fields(format: &str) -> Result<Vec<(String, String)>, String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(format)
        .map_err(|error| format!("JSONFormat is no JSON object: {error}"))?;
    object
        .into_iter()
        .map(|(name, pattern)| match pattern {
            Value::String(pattern) => Ok((name, pattern)),
            _ => Err(format!("the field `{name}` of JSONFormat is no text")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut written: Value) -> AccessLogPlan {
        written["Enabled"] = json!(true);
        plan(&written).unwrap().unwrap()
    }

    #[test]
    fn no_log_is_kept_unless_it_is_enabled() {
        for written in [
            json!(null),
            json!({}),
            json!({"Enabled": false, "Type": "?"}),
        ] {
            assert_eq!(plan(&written), Ok(None));
        }
    }

    #[test]
    fn every_destination_is_known() {
        let destination = |written| read(written).destination;
        assert_eq!(destination(json!({})), LogDestination::Stdout);
        assert_eq!(
            destination(json!({"Type": "stderr"})),
            LogDestination::Stderr
        );
        let file = destination(json!({"Type": "file", "Path": "/l"}));
        assert_eq!(file, LogDestination::File("/l".into()));
        for wrong in [json!({"Type": "file"}), json!({"Type": "carrier pigeon"})] {
            let mut written = wrong;
            written["Enabled"] = json!(true);
            assert!(plan(&written).is_err(), "{written}");
        }
    }

    #[test]
    fn lines_are_consuls_unless_a_format_is_given() {
        let LinePlan::Json(fields) = read(json!({})).line else {
            panic!("no JSON")
        };
        assert_eq!(fields.len(), DEFAULT.len());
        let text = read(json!({"TextFormat": "%PROTOCOL%"})).line;
        assert_eq!(text, LinePlan::Text("%PROTOCOL%\n".to_owned()));
        let object = read(json!({"JSONFormat": "{\"a\": \"%PROTOCOL%\"}"})).line;
        let expected = ("a".to_owned(), "%PROTOCOL%".to_owned());
        assert_eq!(object, LinePlan::Json(vec![expected]));
    }

    #[test]
    fn a_format_that_cannot_be_read_is_refused() {
        for format in ["[]", "{\"a\": 1}", "x"] {
            let written = json!({"Enabled": true, "JSONFormat": format});
            assert!(
                plan(&written).unwrap_err().contains("JSONFormat"),
                "{format}"
            );
        }
    }
}
