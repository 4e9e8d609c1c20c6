//! What each path of the admin listener answers.

use super::Operations;
use super::access::Access;
use super::problem::Problem;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a body: only log filters are sent, and those are one line.
const BODY_BYTES: usize = 4 * 1024;

/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";

/// The Prometheus text exposition format has this version.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
GET  /live       is the process alive
GET  /ready      are all listeners open, and what is waited for
GET  /metrics    Prometheus metrics
GET  /snapshot   what the proxy knows: listeners, clusters, identities, sources
GET  /log-level  the log's filter
PUT  /log-level  change it: ?level=debug, or the filter as body
POST /drain      drain and end, as SIGTERM does
";

/// Answers requests of operators.
pub(super) struct Router {
    operations: Arc<dyn Operations>,
    scope: Scope,
}

/// How much a listener answers.
#[derive(Debug)]
pub(super) enum Scope {
    /// Everything, to those who may ask.
    Everything(Access),
    /// Metrics, to everybody.
    Metrics,
}

impl Router {
    pub(super) fn new(operations: Arc<dyn Operations>, scope: Scope) -> Self {
        Self { operations, scope }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let without_body = request.method() == Method::HEAD;
        let mut response = self
            .route(request)
            .await
            .unwrap_or_else(Problem::into_response);
        // Answers tell the moment, and `/snapshot` is nobody else's business.
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if without_body {
            *response.body_mut() = Full::default();
        }
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
        let admitted = match (&self.scope, request.uri().path()) {
            (Scope::Everything(access), _) => access.admit(request.headers()),
            (Scope::Metrics, "/metrics") => Ok(()),
            (Scope::Metrics, _) => {
                let detail = "this listener tells metrics only: GET /metrics";
                return Err(Problem::new(StatusCode::NOT_FOUND, detail));
            }
        };
        // The paths of health checks tell strangers yes or no, nothing more.
        match request.uri().path() {
            "/live" => return reading(&request).map(|()| text("alive\n")),
            "/ready" => {
                reading(&request)?;
                return self.ready(admitted.is_ok());
            }
            _ => admitted?,
        }
        match request.uri().path() {
            "/" => reading(&request).map(|()| text(INDEX)),
            "/metrics" => reading(&request).map(|()| typed(METRICS, self.operations.metrics())),
            "/snapshot" => {
                reading(&request)?;
                let document = format!("{:#}\n", self.operations.snapshot());
                Ok(typed("application/json", document))
            }
            "/log-level" => self.log_level(request).await,
            "/drain" => self.drain(request.method()),
            _ => Err(Problem::new(StatusCode::NOT_FOUND, "GET / lists the paths")),
        }
    }

    fn ready(&self, details: bool) -> Result<Response<Full<Bytes>>, Problem> {
        match self.operations.waiting_for() {
            None => Ok(text("ready\n")),
            Some(what) if details => Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("waiting for {}", what.join(", ")),
            )),
            Some(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready")),
        }
    }

    async fn log_level(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::PUT | Method::POST => {
                let filter = filter(request).await?;
                self.operations
                    .set_log_filter(&filter)
                    .map_err(|reason| Problem::new(StatusCode::BAD_REQUEST, reason))?;
                tracing::info!(%filter, "log filter changed");
            }
            _ => return Err(Problem::method("GET, HEAD, PUT, POST")),
        }
        Ok(text(format!("{}\n", self.operations.log_filter())))
    }

    fn drain(&self, method: &Method) -> Result<Response<Full<Bytes>>, Problem> {
        if method != Method::POST {
            return Err(Problem::method("POST"));
        }
        self.operations.drain();
        let mut response = text("draining\n");
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }
}

fn reading(request: &Request<Incoming>) -> Result<(), Problem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method("GET, HEAD")),
    }
}

/// The log filter of a request: its `level` parameter, or its body.
async fn filter(request: Request<Incoming>) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail);
    if let Some(level) = request.uri().query().and_then(level_parameter) {
        return level.ok_or_else(|| bad("`level` is not valid percent-encoding"));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let body = tokio::time::timeout(BODY_DEADLINE, body)
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"))?
        .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a filter has at most 4 KiB"))?
        .to_bytes();
    match std::str::from_utf8(&body).map(str::trim) {
        Ok("") => Err(bad("give a filter: ?level=debug, or as body")),
        Ok(filter) => Ok(filter.to_owned()),
        Err(_) => Err(bad("the filter is not UTF-8")),
    }
}

/// The value of `level`; `Some(None)` when it can't be decoded.
fn level_parameter(query: &str) -> Option<Option<String>> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("level="))?;
    Some(percent_decoded(value))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || (rest.next()? as char).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(TEXT, body)
}

fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::level_parameter;

    #[test]
    fn reads_the_level_of_a_query() {
        let read = |query| level_parameter(query).flatten();
        assert_eq!(read("level=debug").as_deref(), Some("debug"));
        assert_eq!(
            read("x=1&level=info%2Ch2%3dtrace").as_deref(),
            Some("info,h2=trace")
        );
        assert_eq!(level_parameter("levels=debug"), None);
        assert_eq!(level_parameter("level=%z"), Some(None));
    }
}
