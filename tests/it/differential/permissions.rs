//! Generated intentions with permissions, and requests around them.

use serde_json::{Map, Value, json};

use super::draw::Draw;
use super::observe::Ask;

/// The destination of all intentions here.
pub(crate) const DESTINATION: &str = "guarded";

/// One caller, its intention, and what it asks.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Service name.
    pub name: String,
    /// Its `Sources` element.
    pub source: Value,
    /// Requests.
    pub asks: Vec<Ask>,
}

const PATHS: [(&str, &str, &str); 10] = [
    ("PathExact", "/admin", "/admin"),
    ("PathExact", "/Admin", "/Admin"),
    ("PathExact", "/a%20b", "/a%20b"),
    ("PathPrefix", "/admin", "/admin/users"),
    ("PathPrefix", "/api/", "/api/v1"),
    ("PathPrefix", "/", "/anything"),
    ("PathRegex", "/api/v[0-9]", "/api/v7"),
    ("PathRegex", "/(admin|root).*", "/root/x"),
    ("PathRegex", "(?i)/secret", "/SECRET"),
    ("PathRegex", "/[^/]*", "/word"),
];

const HEADERS: [&str; 2] = ["x-role", "x-team"];
const VALUES: [&str; 6] = ["admin", "ADMIN", "admin-eu", "sub-admin", "a,b", "guest"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// Callers whose intentions hold up to `permissions` permissions.
pub(crate) fn generate(seed: u64, callers: usize, permissions: usize, asks: usize) -> Vec<Caller> {
    (0..callers)
        .map(|number| caller(seed, number, permissions, asks))
        .collect()
}

fn caller(seed: u64, number: usize, permissions: usize, asks: usize) -> Caller {
    let name = format!("source-{number}");
    let mut draw = Draw::new(seed, &name);
    let count = 1 + draw.below(permissions);
    let rules: Vec<_> = (0..count).map(|_| rule(&mut draw)).collect();
    let written: Vec<_> = rules.iter().map(|rule| rule.written.clone()).collect();
    let source = match number {
        0 => json!({"Name": name, "Action": "allow"}),
        1 => json!({"Name": name, "Action": "deny"}),
        _ => json!({"Name": name, "Permissions": written}),
    };
    Caller {
        name,
        source,
        asks: (0..asks)
            .map(|at| ask(&rules[at % rules.len()], &mut draw))
            .collect(),
    }
}

/// A permission, and a request that meets it.
struct Rule {
    written: Value,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    method: &'static str,
}

fn rule(draw: &mut Draw) -> Rule {
    let mut http = Map::new();
    let mut met = Rule {
        written: Value::Null,
        path: "/other",
        headers: Vec::new(),
        method: "GET",
    };
    if draw.chance(75) {
        let (kind, text, example) = draw.pick(&PATHS);
        http.insert(kind.to_owned(), json!(text));
        met.path = example;
    }
    if http.is_empty() || draw.chance(50) {
        let tests: Vec<_> = (0..=draw.below(2))
            .map(|_| header_test(draw, &mut met.headers))
            .collect();
        http.insert("Header".to_owned(), json!(tests));
    }
    if draw.chance(30) {
        let methods = draw.some(&METHODS, 2);
        met.method = methods[0];
        http.insert("Methods".to_owned(), json!(methods));
    }
    let action = if draw.chance(50) { "allow" } else { "deny" };
    met.written = json!({"Action": action, "HTTP": http});
    met
}

fn header_test(draw: &mut Draw, met_by: &mut Vec<(&'static str, String)>) -> Value {
    let name = draw.pick(&HEADERS);
    let (test, text, example) = draw.pick(&[
        ("Present", "", "anything"),
        ("Exact", "admin", "admin"),
        ("Prefix", "admin", "admin-eu"),
        ("Suffix", "admin", "sub-admin"),
        ("Contains", "dmi", "sub-admin"),
        ("Regex", "adm.n", "admin"),
    ]);
    let mut written = json!({"Name": name, test: text});
    if test == "Present" {
        written[test] = json!(true);
    }
    if draw.chance(30) {
        written["Invert"] = json!(true);
    } else {
        met_by.push((name, example.to_owned()));
    }
    // Consul refuses it beside the tests that know no case.
    if !matches!(test, "Present" | "Regex") && draw.chance(30) {
        written["IgnoreCase"] = json!(true);
    }
    written
}

fn ask(rule: &Rule, draw: &mut Draw) -> Ask {
    let mut target = rule.path.to_owned();
    let mut headers = rule.headers.clone();
    let mut method = rule.method;
    for _ in 0..draw.below(3) {
        match draw.below(7) {
            0 => target = draw.pick(&PATHS).2.to_owned(),
            1 => target = draw.pick(&ODD).to_owned(),
            2 => target.push_str(draw.pick(&["/", "x", "/x", "?q=1", "?", "/..", "%2e"])),
            3 => headers.push((draw.pick(&HEADERS), draw.pick(&VALUES).to_owned())),
            4 => headers.clear(),
            5 => method = draw.pick(&METHODS),
            _ => target = target.to_ascii_uppercase(),
        }
    }
    Ask {
        method,
        target,
        headers,
        body: "",
    }
}

/// Paths that mean `/admin` to some, and something else to others.
pub(crate) const ODD: [&str; 30] = [
    "/admin",
    "//admin",
    "/x//admin",
    "/./admin",
    "/admin/.",
    "/admin/..",
    "/x/../admin",
    "/../admin",
    "/x/..//admin",
    "/%61dmin",
    "/admin%2Fx",
    "/admin%2fx",
    "/x%2F..%2Fadmin",
    "/x/%2e%2e/admin",
    "/x/%2E%2e/admin",
    "/%2e/admin",
    "/admin.",
    "/admin..",
    "/admin...",
    "/admin?",
    "/admin?x=/../y",
    "/admin;x=1",
    "/admin%3Bx",
    "/admin%20",
    "/admin%",
    "/admin%zz",
    "/admin%00",
    "/x\\admin",
    "/x%5c..%5Cadmin",
    "/ADMIN",
];

/// The intentions of all callers, as one entry.
pub(crate) fn entry(callers: &[Caller]) -> Value {
    let sources: Vec<_> = callers.iter().map(|caller| caller.source.clone()).collect();
    json!({"Kind": "service-intentions", "Name": DESTINATION, "Sources": sources})
}
