//! Generated routers, and requests that just match them or just don't.

use meridian_tests::client::Protocol;
use serde_json::{Map, Value, json};

use super::draw::Draw;
use super::observe::{Ask, Outcome};
use super::stage::Destination;

/// A service with its router and what is asked of it.
#[derive(Debug)]
pub(crate) struct Routed {
    /// The service.
    pub destination: Destination,
    /// Its service-router entry.
    pub entry: Value,
    /// Requests.
    pub asks: Vec<Ask>,
}

impl Routed {
    /// The routes that were taken, for the reader of a difference.
    pub(crate) fn taken(&self, outcomes: &[Outcome]) -> Value {
        let mut taken = Map::new();
        for outcome in outcomes {
            let sight = outcome.sight.as_ref();
            let number = sight.and_then(|sight| sight.headers.get("x-route"));
            let number = number.map(|values| values.concat()).unwrap_or_default();
            let at: Option<usize> = number.parse().ok();
            let route = at.map_or(Value::Null, |at| self.entry["Routes"][at].clone());
            taken.insert(number, route);
        }
        Value::Object(taken)
    }
}

/// A condition on a path, and a path that meets it.
const PATHS: [(&str, &str, &str); 16] = [
    ("PathExact", "/api", "/api"),
    ("PathExact", "/api/", "/api/"),
    ("PathExact", "/Api/V1", "/Api/V1"),
    ("PathExact", "/a%20b", "/a%20b"),
    ("PathExact", "/", "/"),
    ("PathPrefix", "/api", "/api/v1/users"),
    ("PathPrefix", "/api/", "/api/v2"),
    ("PathPrefix", "/Api", "/Apis"),
    ("PathPrefix", "/a.b", "/a.b/c"),
    ("PathPrefix", "/x//y", "/x//y/z"),
    ("PathRegex", "/api/v[0-9]+", "/api/v2"),
    ("PathRegex", "/(a|Api)/.*", "/a/b"),
    ("PathRegex", "/[^/]+", "/single"),
    ("PathRegex", "/api.*", "/api/v1/users"),
    ("PathRegex", "(?i)/admin/.+", "/Admin/x"),
    ("PathRegex", "/x{2,3}", "/xxx"),
];

/// Paths that are no plain ones, to be asked for as they stand.
const ODD: [&str; 24] = [
    "//api",
    "/api//v1",
    "/x/../api",
    "/./api",
    "/api/.",
    "/api/..",
    "/%61pi",
    "/api%2Fv1",
    "/api%2fv1",
    "/api/%2e%2e/x",
    "/api/%2E/v1",
    "/api.",
    "/api..",
    "/api...",
    "/api?",
    "/api?&",
    "/api??q=1",
    "/api;p=1",
    "/api%",
    "/api%zz",
    "/API/V1",
    "/api\\v1",
    "/api/%5cv1",
    "/api|v1",
];

const HEADERS: [&str; 3] = ["x-env", "x-team", "x-flag"];
const VALUES: [&str; 6] = ["prod", "prod-eu", "dev", "PROD", "a,b", "eu-prod"];
const PARAMETERS: [&str; 2] = ["q", "mode"];
const QUERIES: [&str; 8] = [
    "q=1",
    "q=",
    "q",
    "q=2&q=1",
    "mode=fast",
    "mode=fast&q=1",
    "q=%31",
    "Q=1",
];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

/// As many services as are asked for, each with its router.
pub(crate) fn generate(seed: u64, services: usize, routes: usize, asks: usize) -> Vec<Routed> {
    (0..services)
        .map(|number| {
            let name = format!("routed-{number}");
            let mut draw = Draw::new(seed, &name);
            let rules: Vec<_> = (0..routes).map(|_| rule(&mut draw)).collect();
            let protocol = if number % 4 == 3 {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            Routed {
                destination: Destination::over(&name, protocol),
                entry: entry(&name, &rules, &mut draw),
                asks: (0..asks)
                    .map(|at| ask(&rules[at % rules.len()], &mut draw))
                    .collect(),
            }
        })
        .collect()
}

/// Conditions of a route as Consul writes them, and a request that meets them.
struct Rule {
    http: Value,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    query: Vec<String>,
    method: &'static str,
}

fn rule(draw: &mut Draw) -> Rule {
    let mut http = Map::new();
    let mut path = "/other";
    if draw.chance(85) {
        let (kind, text, example) = draw.pick(&PATHS);
        http.insert(kind.to_owned(), json!(text));
        path = example;
        if draw.chance(30) {
            http.insert("CaseInsensitive".to_owned(), json!(true));
        }
    }
    let mut rule = Rule {
        http: Value::Null,
        path,
        headers: Vec::new(),
        query: Vec::new(),
        method: "GET",
    };
    // Without a path a route needs something else, or it hides all behind it.
    if http.is_empty() || draw.chance(45) {
        let count = 1 + draw.below(2);
        let tests: Vec<_> = (0..count)
            .map(|_| header_test(draw, &mut rule.headers))
            .collect();
        http.insert("Header".to_owned(), json!(tests));
    }
    if draw.chance(25) {
        let test = query_test(draw, &mut rule.query);
        http.insert("QueryParam".to_owned(), json!([test]));
    }
    if draw.chance(25) {
        let methods = draw.some(&METHODS, 2);
        rule.method = methods[0];
        http.insert("Methods".to_owned(), json!(methods));
    }
    rule.http = Value::Object(http);
    rule
}

fn header_test(draw: &mut Draw, met_by: &mut Vec<(&'static str, String)>) -> Value {
    let name = draw.pick(&HEADERS);
    let (test, text, example) = draw.pick(&[
        ("Present", "", "anything"),
        ("Exact", "prod", "prod"),
        ("Exact", "a,b", "a,b"),
        ("Prefix", "prod", "prod-eu"),
        ("Suffix", "prod", "eu-prod"),
        ("Regex", "pro.(-eu)?", "prod-eu"),
        ("Regex", "[a-z]+", "dev"),
    ]);
    let invert = draw.chance(30);
    if !invert {
        met_by.push((name, example.to_owned()));
    }
    let value = match test {
        "Present" => json!(true),
        _ => json!(text),
    };
    json!({"Name": name, test: value, "Invert": invert})
}

fn query_test(draw: &mut Draw, met_by: &mut Vec<String>) -> Value {
    let name = draw.pick(&PARAMETERS);
    let (test, value, example) = draw.pick(&[
        ("Present", json!(true), "x"),
        ("Exact", json!("1"), "1"),
        ("Exact", json!("fast"), "fast"),
        ("Regex", json!("[0-9]+"), "17"),
        ("Regex", json!("f.*t"), "fast"),
    ]);
    met_by.push(format!("{name}={example}"));
    json!({"Name": name, test: value})
}

fn entry(name: &str, rules: &[Rule], draw: &mut Draw) -> Value {
    let routes: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(number, rule)| {
            json!({
                "Match": {"HTTP": rule.http},
                "Destination": destination(number, rule, draw),
            })
        })
        .collect();
    json!({"Kind": "service-router", "Name": name, "Routes": routes})
}

/// The destination tells which route was taken, and changes the request.
fn destination(number: usize, rule: &Rule, draw: &mut Draw) -> Value {
    let mut set = Map::new();
    set.insert("x-route".to_owned(), json!(number.to_string()));
    let mut destination = json!({});
    // Consul refuses it beside an expression, and without a path.
    let rewritable = ["PathExact", "PathPrefix"]
        .iter()
        .any(|kind| rule.http.get(kind).is_some());
    if rewritable && draw.chance(40) {
        let rewrite = draw.pick(&["/", "/new", "/new/", "/v9/base", "/a%20b"]);
        destination["PrefixRewrite"] = json!(rewrite);
    }
    if draw.chance(30) {
        set.insert(draw.pick(&HEADERS).to_owned(), json!("set"));
    }
    destination["RequestHeaders"] = json!({"Set": set});
    if draw.chance(30) {
        destination["RequestHeaders"]["Add"] = json!({draw.pick(&HEADERS): "added"});
    }
    if draw.chance(30) {
        destination["RequestHeaders"]["Remove"] = json!([draw.pick(&HEADERS)]);
    }
    if draw.chance(40) {
        destination["ResponseHeaders"] = json!({
            "Set": {draw.pick(&["x-one", "x-two"]): "set"},
            "Add": {draw.pick(&["x-one", "x-two", "x-three"]): "added"},
            "Remove": [draw.pick(&["x-one", "x-two"])],
        });
    }
    destination
}

/// A request that meets a rule, more often than not with something changed.
fn ask(rule: &Rule, draw: &mut Draw) -> Ask {
    let mut target = rule.path.to_owned();
    let mut query = rule.query.join("&");
    let mut headers = rule.headers.clone();
    let mut method = rule.method;
    for _ in 0..draw.below(3) {
        match draw.below(9) {
            0 => target = draw.pick(&ODD).to_owned(),
            1 => target = draw.pick(&PATHS).2.to_owned(),
            2 => target = swap_case(&target),
            3 => target.push_str(draw.pick(&["/", "x", "/x", "//", "%20", "."])),
            4 => query = draw.pick(&QUERIES).to_owned(),
            5 => headers.push((draw.pick(&HEADERS), draw.pick(&VALUES).to_owned())),
            6 => headers.clear(),
            7 => method = draw.pick(&METHODS),
            _ => headers.retain(|_| draw.chance(50)),
        }
    }
    if !query.is_empty() && !target.contains('?') {
        target = format!("{target}?{query}");
    }
    let ask = Ask {
        method,
        target,
        headers,
        body: if method == "GET" { "" } else { "body" },
    };
    ask.header("x-reply", "x-one=1,x-one=2,x-two=3")
}

fn swap_case(text: &str) -> String {
    let swap = |letter: char| {
        if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    text.chars().map(swap).collect()
}
