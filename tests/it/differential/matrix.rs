//! Every test on a header, inverted or not, against every shape of its value:
//! absent, empty, right, wrong, several, several in one.

use meridian_tests::client::Protocol;
use serde_json::{Value, json};

use super::observe::Ask;
use super::permissions::Caller;
use super::routes::Routed;
use super::stage::Destination;

const NAME: &str = "x-role";

const SHAPES: [&[&str]; 9] = [
    &[],
    &[""],
    &["admin"],
    &["guest"],
    &["ADMIN"],
    &["admin", "guest"],
    &["guest", "admin"],
    &["admin,guest"],
    &["guest", "guest"],
];

/// Tests that routers know.
const COMMON: [(&str, &str); 6] = [
    ("Present", ""),
    ("Exact", "admin"),
    ("Prefix", "adm"),
    ("Suffix", "min"),
    ("Regex", "adm.n"),
    ("Exact", "admin,guest"),
];

/// Those that only intentions know.
const OF_INTENTIONS: [(&str, &str); 1] = [("Contains", "dmi")];

/// A router with one route for each test.
pub(crate) fn routed() -> Routed {
    let tests = tests(&COMMON, &[false]);
    let routes: Vec<_> = tests
        .iter()
        .enumerate()
        .map(|(number, test)| {
            json!({
                "Match": {"HTTP": {"PathExact": path(number), "Header": [test]}},
                "Destination": {"RequestHeaders": {"Set": {"x-route": number.to_string()}}},
            })
        })
        .collect();
    let name = "matrix";
    Routed {
        destination: Destination::over(name, Protocol::Http1),
        entry: json!({"Kind": "service-router", "Name": name, "Routes": routes}),
        asks: asks(tests.len()),
    }
}

/// A caller with one permission for each test.
pub(crate) fn caller(action: &str) -> Caller {
    let all = [&COMMON[..], &OF_INTENTIONS[..]].concat();
    let tests = tests(&all, &[false, true]);
    let permissions: Vec<_> = tests
        .iter()
        .enumerate()
        .map(|(number, test)| {
            let http = json!({"PathExact": path(number), "Header": [test]});
            json!({"Action": action, "HTTP": http})
        })
        .collect();
    let name = "source-matrix";
    Caller {
        name: name.to_owned(),
        source: json!({"Name": name, "Permissions": permissions}),
        asks: asks(tests.len()),
    }
}

fn tests(kinds: &[(&str, &str)], folds: &[bool]) -> Vec<Value> {
    let mut tests = Vec::new();
    for (kind, text) in kinds {
        for invert in [false, true] {
            for fold in folds {
                // Consul refuses it beside the tests that know no case.
                if *fold && ["Present", "Regex"].contains(kind) {
                    continue;
                }
                let mut test = json!({"Name": NAME, *kind: text, "Invert": invert});
                if *kind == "Present" {
                    test[*kind] = json!(true);
                }
                if *fold {
                    test["IgnoreCase"] = json!(true);
                }
                tests.push(test);
            }
        }
    }
    tests
}

fn path(number: usize) -> String {
    format!("/matrix/{number}")
}

fn asks(tests: usize) -> Vec<Ask> {
    let all = (0..tests).flat_map(|number| SHAPES.iter().map(move |shape| (number, shape)));
    all.map(|(number, shape)| {
        let ask = Ask::get(&path(number));
        shape.iter().fold(ask, |ask, value| ask.header(NAME, value))
    })
    .collect()
}
