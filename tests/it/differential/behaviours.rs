//! Generated retries and timeouts, and answers that call for them.

use serde_json::{Value, json};

use super::draw::Draw;
use super::observe::Ask;

/// The one service of all these routes.
pub(crate) const SERVICE: &str = "behaving";

/// A route and what is asked of it.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// Element of `Routes`.
    pub route: Value,
    /// Requests.
    pub asks: Vec<Ask>,
}

/// Routes, each under a path of its own.
pub(crate) fn generate(seed: u64, routes: usize, asks: usize) -> Vec<Behaviour> {
    let mut draw = Draw::new(seed, SERVICE);
    let mut behaviours: Vec<_> = (0..routes)
        .map(|number| retried(number, asks, &mut draw))
        .collect();
    behaviours.extend(timeouts());
    behaviours
}

fn retried(number: usize, asks: usize, draw: &mut Draw) -> Behaviour {
    let path = format!("/retried/{number}");
    let mut destination = json!({});
    if draw.chance(80) {
        destination["NumRetries"] = json!(draw.below(4));
    }
    if draw.chance(60) {
        let words = [
            "5xx",
            "gateway-error",
            "retriable-4xx",
            "reset",
            "connect-failure",
        ];
        let on: Vec<_> = (0..=draw.below(2)).map(|_| draw.pick(&words)).collect();
        destination["RetryOn"] = json!(on);
    }
    if draw.chance(40) {
        let codes = [500, 503, 418, 404];
        let on: Vec<_> = (0..=draw.below(2)).map(|_| draw.pick(&codes)).collect();
        destination["RetryOnStatusCodes"] = json!(on);
    }
    if draw.chance(20) {
        destination["RetryOnConnectFailure"] = json!(true);
    }
    Behaviour {
        route: route(&path, destination),
        asks: (0..asks).map(|_| scripted(&path, draw)).collect(),
    }
}

fn scripted(path: &str, draw: &mut Draw) -> Ask {
    let statuses = ["500", "503", "504", "409", "418", "404", "200"];
    let script: Vec<_> = (0..=draw.below(4)).map(|_| draw.pick(&statuses)).collect();
    let mut ask = Ask::get(path).header("x-script", &script.join(","));
    if draw.chance(25) {
        ask.method = draw.pick(&["POST", "PUT", "DELETE"]);
        ask.body = "payload";
    }
    ask
}

fn timeouts() -> Vec<Behaviour> {
    let slow = |path: &str, milliseconds: &str| Ask::get(path).header("x-delay", milliseconds);
    vec![
        Behaviour {
            route: route("/short", json!({"RequestTimeout": "200ms"})),
            asks: vec![slow("/short", "0"), slow("/short", "1500")],
        },
        Behaviour {
            route: route("/endless", json!({"RequestTimeout": "-1s"})),
            asks: vec![slow("/endless", "300")],
        },
        // The limit holds for all tries together.
        Behaviour {
            route: route(
                "/both",
                json!({"RequestTimeout": "600ms", "NumRetries": 5, "RetryOnStatusCodes": [503]}),
            ),
            asks: vec![slow("/both", "400").header("x-script", "503")],
        },
    ]
}

fn route(path: &str, destination: Value) -> Value {
    json!({"Match": {"HTTP": {"PathExact": path}}, "Destination": destination})
}

/// All routes as one entry.
pub(crate) fn entry(behaviours: &[Behaviour]) -> Value {
    let routes: Vec<_> = behaviours.iter().map(|one| one.route.clone()).collect();
    json!({"Kind": "service-router", "Name": SERVICE, "Routes": routes})
}
