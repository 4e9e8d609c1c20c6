//! Odd paths under every setting of the `mesh` entry that treats them.

use serde_json::{Value, json};

use super::observe::Ask;
use super::permissions::{Caller, ODD};

/// One state of the `mesh` entry.
pub(crate) struct Setting {
    /// The entry.
    pub(crate) entry: Value,
    /// Requests whose answer tells it from the state before, and the status that
    /// they get under it.
    pub(crate) probes: Vec<(Ask, u16)>,
}

/// May go anywhere but below `/admin`.
pub(crate) fn caller() -> Caller {
    Caller {
        name: "source".to_owned(),
        source: json!({
            "Name": "source",
            "Permissions": [
                {"Action": "deny", "HTTP": {"PathPrefix": "/admin"}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/"}},
            ],
        }),
        asks: Vec::new(),
    }
}

/// Settings of both proxies, to be compared at the same time.
pub(crate) fn proxy() -> Value {
    json!({"local_request_timeout_ms": 500})
}

/// Every action, each told from the one before it by a probe.
pub(crate) fn settings() -> Vec<Setting> {
    let slash = || Ask::get("/x%2Fy");
    let double = || Ask::get("//admin");
    let underscore = || Ask::get("/x").header("x_role", "1");
    let setting = |normalization: Value, probes: Vec<(Ask, u16)>| Setting {
        entry: json!({
            "Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": normalization}},
        }),
        probes,
    };
    vec![
        setting(json!({}), vec![(slash(), 200), (double(), 200)]),
        setting(json!({"MergeSlashes": true}), vec![(double(), 403)]),
        setting(
            json!({"PathWithEscapedSlashesAction": "REJECT_REQUEST"}),
            vec![(slash(), 400), (double(), 200)],
        ),
        setting(
            json!({
                "PathWithEscapedSlashesAction": "UNESCAPE_AND_FORWARD",
                "HeadersWithUnderscoresAction": "REJECT_REQUEST",
            }),
            vec![(slash(), 200), (underscore(), 400)],
        ),
        setting(
            json!({
                "PathWithEscapedSlashesAction": "UNESCAPE_AND_REDIRECT",
                "HeadersWithUnderscoresAction": "DROP_HEADER",
            }),
            vec![(slash(), 307), (underscore(), 200)],
        ),
        setting(
            json!({"InsecureDisablePathNormalization": true}),
            vec![(Ask::get("/x/../admin"), 200), (slash(), 200)],
        ),
    ]
}

/// Odd paths, headers with underscores, and a request that takes too long.
pub(crate) fn asks() -> Vec<Ask> {
    let mut asks: Vec<_> = ODD.iter().map(|target| Ask::get(target)).collect();
    asks.push(Ask::get("/x").header("x_role", "1").header("x-role", "2"));
    asks.push(Ask::get("/slow").header("x-delay", "2000"));
    asks
}
