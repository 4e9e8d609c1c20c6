//! One checked request through the mesh, and what it shows.

use crate::fetch::{self, Answer, FetchError};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How long a program may take to be ready, and health to spread: the
/// scenarios of the mesh contract allow as much.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// What did not come true.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{name} was not ready within {PATIENCE:?}: it answers {status}")]
    NotReady {
        name: &'static str,
        status: StatusCode,
    },
    #[error("{name} was not ready within {PATIENCE:?}")]
    Silent {
        name: &'static str,
        #[source]
        source: FetchError,
    },
    #[error("the mesh does not answer as it should: {found}")]
    Unexpected { found: String },
}

/// Waits until a proxy says that it is ready.
pub(super) async fn ready(name: &'static str, admin: SocketAddr) -> Result<(), CheckError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let failure = match fetch::get(admin, "/ready", HeaderMap::new()).await {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(()),
            Ok(answer) => CheckError::NotReady {
                name,
                status: answer.status,
            },
            Err(source) => CheckError::Silent { name, source },
        };
        if Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends requests until the mesh answers as it should; says what that shows.
/// At first instances may not have passed their checks.
pub(super) async fn mesh(gateway: SocketAddr) -> Result<Vec<String>, CheckError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = match through(gateway).await {
            Ok(told) => return Ok(told),
            Err(found) => found,
        };
        if Instant::now() >= deadline {
            return Err(CheckError::Unexpected { found });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn through(gateway: SocketAddr) -> Result<Vec<String>, String> {
    let ask = async |path| {
        fetch::get(gateway, path, HeaderMap::new())
            .await
            .map_err(|error| meridian_telemetry::Chain(&error).to_string())
    };
    let mut told = allowed(&ask("/").await?)?;
    told.push(denied(&ask("/api").await?)?);
    Ok(told)
}

/// The request that may pass: both services answered, and saw who called.
fn allowed(answer: &Answer) -> Result<Vec<String>, String> {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let callers = [&document["caller"], &document["upstream"]["caller"]];
    let [Some(of_web), Some(of_api)] = callers.map(Value::as_str) else {
        let body = String::from_utf8_lossy(&answer.body);
        return Err(format!("GET / answers {}: {}", answer.status, body.trim()));
    };
    let both = of_web.ends_with("/svc/demo-gateway") && of_api.ends_with("/svc/demo-web");
    if !both || answer.status != StatusCode::OK {
        return Err(format!("web was called by {of_web}, api by {of_api}"));
    }
    Ok(vec![
        format!(
            "GET /     {}: demo-web was called by {of_web}",
            answer.status
        ),
        format!("              and demo-api by {of_api}"),
    ])
}

/// The request that may not.
fn denied(answer: &Answer) -> Result<String, String> {
    let body = String::from_utf8_lossy(&answer.body);
    let line = format!("GET /api  {}: {}", answer.status, body.trim());
    if answer.status == StatusCode::FORBIDDEN {
        Ok(line)
    } else {
        Err(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: StatusCode, body: &str) -> Answer {
        Answer {
            status,
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn both_callers_must_be_who_they_should() {
        let body = |web: &str, api: &str| {
            format!(
                r#"{{"caller":"spiffe://td/svc/{web}","upstream":{{"caller":"spiffe://td/svc/{api}"}}}}"#
            )
        };
        let good = answer(StatusCode::OK, &body("demo-gateway", "demo-web"));
        assert!(allowed(&good).unwrap()[0].contains("200 OK"));
        let strange = answer(StatusCode::OK, &body("demo-gateway", "demo-gateway"));
        assert!(allowed(&strange).is_err());
        let plain = answer(StatusCode::OK, r#"{"caller":null}"#);
        assert!(allowed(&plain).is_err());
        let failed = answer(StatusCode::BAD_GATEWAY, &body("demo-gateway", "demo-web"));
        assert!(allowed(&failed).is_err());
    }

    #[test]
    fn the_intention_must_deny() {
        let denial = answer(StatusCode::FORBIDDEN, "RBAC: access denied");
        assert_eq!(
            denied(&denial).unwrap(),
            "GET /api  403 Forbidden: RBAC: access denied"
        );
        assert!(denied(&answer(StatusCode::OK, "{}")).is_err());
    }
}
