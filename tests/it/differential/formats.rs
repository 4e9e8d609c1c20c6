//! Header values in which `%` means something to Envoy, each set by a service of
//! its own: what one proxy refuses, it refuses with the whole router.

use serde_json::{Value, json};

use super::observe::Ask;
use super::stage::Destination;

/// Values that every proxy takes.
pub(crate) const VALUES: [&str; 16] = [
    "100%%",
    "%%REQ(x-env)%%",
    "plain words",
    "%REQ(x-env)%",
    "a %REQ(x-env)% b %REQ(X-Team)%",
    "%REQ(x-missing)%",
    "[%REQ(x-missing)%]",
    "%REQ(:path)%",
    "%REQ(:method)%",
    "%REQ(:authority)%",
    "%REQ(:scheme)%",
    "%PROTOCOL%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%REQ(x-list)%",
    "%DOWNSTREAM_PEER_URI_SAN%",
];

/// Values that only Envoy knows: meshd's route answers 500 and names the command.
pub(crate) const REFUSED: [&str; 4] = [
    "%UPSTREAM_CLUSTER%",
    "%HOSTNAME%",
    "%RESPONSE_CODE%",
    "%RESP(x-one)%",
];

/// The service that sets a value.
pub(crate) fn service(number: usize) -> Destination {
    Destination::http(&format!("format-{number}"))
}

/// Its router.
pub(crate) fn entry(number: usize, value: &str) -> Value {
    json!({
        "Kind": "service-router", "Name": service(number).name,
        "Routes": [{
            "Match": {"HTTP": {"PathPrefix": "/formats"}},
            "Destination": {
                "RequestHeaders": {"Set": {"x-set": value}, "Add": {"x-env": value}},
                "ResponseHeaders": {"Set": {"x-set": value}, "Add": {"x-one": value}},
            },
        }],
    })
}

/// What is asked of it.
pub(crate) fn ask() -> Ask {
    Ask::get("/formats/x?q=1")
        .header("x-env", "production")
        .header("x-team", "blue")
        .header("x-list", "1")
        .header("x-list", "2")
        .header("x-reply", "x-one=1")
}
