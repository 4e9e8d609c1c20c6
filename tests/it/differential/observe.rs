//! What one request came to, and how two proxies differ over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use http::{HeaderMap, Request};
use meridian_tests::client::{Connection, Reply, full};

use super::native::Sight;

/// Header that tells the destinations which request this is.
pub(crate) const CASE: &str = "x-case";

/// One request, as the client of a proxy sends it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Headers; names may repeat.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: &'static str,
}

impl Ask {
    /// A GET without more.
    pub(crate) fn get(target: &str) -> Self {
        Self {
            method: "GET",
            target: target.to_owned(),
            headers: Vec::new(),
            body: "",
        }
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it on a connection of its own, marked as `case`.
    pub(crate) async fn send(&self, connection: Connection, case: &str) -> Outcome {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.target)
            .header(CASE, case);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(full(self.body)).expect("a request");
        match connection.authority("dest.example").send(request).await {
            Ok(reply) => Outcome::of(&reply),
            Err(error) => Outcome::broken(&error.to_string()),
        }
    }
}

/// What came back, and what the destination saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Status; 0 without a reply.
    pub status: u16,
    /// Response headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The destination's report, if the request got there.
    pub sight: Option<Sight>,
    /// Body of a proxy's own answer.
    pub words: String,
}

impl Outcome {
    fn of(reply: &Reply) -> Self {
        let mut headers = listed(&reply.headers);
        // The moment, which is another one for each of the two.
        headers.remove("date");
        let reported = headers.get("content-type").map(|kinds| kinds.concat());
        let sight = (reported.as_deref() == Some("application/sight"))
            .then(|| serde_json::from_slice(&reply.body).ok())
            .flatten();
        if sight.is_some() {
            // The report's own length, which says what its parts say.
            headers.remove("content-length");
        }
        Self {
            status: reply.status.as_u16(),
            words: if sight.is_some() {
                String::new()
            } else {
                reply.text()
            },
            headers,
            sight,
        }
    }

    fn broken(error: &str) -> Self {
        Self {
            status: 0,
            headers: BTreeMap::new(),
            sight: None,
            words: error.to_owned(),
        }
    }
}

fn listed(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut listed = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        listed.entry(name.to_string()).or_default().push(value);
    }
    listed
}

/// One thing that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    /// What: `status`, `target`, `request x-env`, `response server`, …
    pub what: String,
    /// With Envoy.
    pub envoy: String,
    /// With meshd.
    pub meshd: String,
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, envoy, meshd } = self;
        write!(formatter, "{what}: Envoy {envoy:?}, meshd {meshd:?}")
    }
}

/// Everything in which two outcomes differ.
pub(crate) fn differences(envoy: &Outcome, meshd: &Outcome) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |what: &str, envoy: String, meshd: String| {
        if envoy != meshd {
            let what = what.to_owned();
            found.push(Difference { what, envoy, meshd });
        }
    };
    compare("status", envoy.status.to_string(), meshd.status.to_string());
    compare("words", envoy.words.clone(), meshd.words.clone());
    for name in names(&envoy.headers, &meshd.headers) {
        let of = |outcome: &Outcome| joined(&outcome.headers, name);
        compare(&format!("response {name}"), of(envoy), of(meshd));
    }
    match (&envoy.sight, &meshd.sight) {
        (Some(envoy), Some(meshd)) => {
            let mut field = |what, of: fn(&Sight) -> String| compare(what, of(envoy), of(meshd));
            field("instance", |sight| sight.instance.clone());
            field("sni", |sight| sight.sni.clone());
            field("method", |sight| sight.method.clone());
            field("target", |sight| sight.target.clone());
            field("host", |sight| sight.host.clone());
            field("body", |sight| sight.body.clone());
            field("tries", |sight| sight.tries.to_string());
            for name in names(&envoy.headers, &meshd.headers) {
                let of = |sight: &Sight| joined(&sight.headers, name);
                compare(&format!("request {name}"), of(envoy), of(meshd));
            }
        }
        (envoy, meshd) => {
            let of = |sight: &Option<Sight>| sight.is_some().to_string();
            compare("reached", of(envoy), of(meshd));
        }
    }
    found
}

fn names<'a>(
    one: &'a BTreeMap<String, Vec<String>>,
    other: &'a BTreeMap<String, Vec<String>>,
) -> BTreeSet<&'a str> {
    let all = one.keys().chain(other.keys()).map(String::as_str);
    all.filter(|name| *name != CASE).collect()
}

/// Values of a header, one after the other; `-` for none.
fn joined(headers: &BTreeMap<String, Vec<String>>, name: &str) -> String {
    match headers.get(name) {
        None => "-".to_owned(),
        // Random, so that only its presence can be compared.
        Some(_) if name == "x-request-id" => "some".to_owned(),
        Some(values) => values.join(" | "),
    }
}
