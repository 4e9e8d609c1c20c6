//! Two instances of one service, one behind Envoy and one behind meshd, called
//! directly on their mesh listeners with any service's certificate.

use std::collections::BTreeMap;

use meridian_tests::certs::Identity;
use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::handshake;
use meridian_tests::sidecar::Sidecar;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::Value;

use super::native::Native;
use super::observe::{Ask, Outcome};
use super::permissions::DESTINATION;
use super::stage::{KINDS, leaf};

/// Mesh listeners of the two.
const LISTENERS: [u16; 2] = [21000, 21001];

/// Both sidecars.
pub(crate) struct Guards {
    callers: BTreeMap<String, Identity>,
    _sidecars: Vec<Sidecar>,
    _origins: Vec<Native>,
}

impl Guards {
    /// Starts both, with the same settings for the proxy, and fetches the callers' leaves.
    pub(crate) async fn start(
        world: &World,
        consul: &Consul,
        config: &Value,
        callers: impl IntoIterator<Item = &str>,
    ) -> Self {
        let (mut sidecars, mut origins) = (Vec::new(), Vec::new());
        for (kind, listener) in KINDS.into_iter().zip(LISTENERS) {
            let id = format!("{DESTINATION}-{kind:?}").to_lowercase();
            let application = listener - 10000;
            origins.push(Native::plain("application", application).await);
            let mut service = Service::new(DESTINATION, application)
                .id(&id)
                .sidecar(listener);
            service.proxy_config = config.clone();
            consul.register(&service).await;
            sidecars.push(Sidecar::start(world, kind, &service).await);
        }
        let mut leaves = BTreeMap::new();
        for name in callers {
            leaves.insert(name.to_owned(), leaf(consul, name).await);
        }
        Self {
            callers: leaves,
            _sidecars: sidecars,
            _origins: origins,
        }
    }

    /// Waits until both answer every probe with its status.
    pub(crate) async fn agree_on(&self, caller: &str, probes: &[(Ask, u16)]) {
        for (ask, wanted) in probes {
            wait::until(&ask.target, PATIENCE, async || {
                let outcomes = self.ask(caller, ask, "probe").await;
                let statuses = outcomes.map(|outcome| outcome.status);
                let agreed = statuses.iter().all(|status| status == wanted);
                agreed.then_some(()).ok_or_else(|| format!("{statuses:?}"))
            })
            .await;
        }
    }

    /// One request of a caller to both.
    pub(crate) async fn ask(&self, caller: &str, ask: &Ask, case: &str) -> [Outcome; 2] {
        let one = self.ask_one(0, caller, ask, case);
        let (one, other) = tokio::join!(one, self.ask_one(1, caller, ask, case));
        [one, other]
    }

    /// One request of a caller to one of them.
    pub(crate) async fn ask_one(
        &self,
        guard: usize,
        caller: &str,
        ask: &Ask,
        case: &str,
    ) -> Outcome {
        let identity = self.callers[caller].clone();
        let stream = handshake::connect(loopback(LISTENERS[guard]), Some(identity)).await;
        let stream = stream.expect("a handshake");
        let authority = "guarded.example".parse().expect("an authority");
        let connection = Connection::over(stream, Protocol::Http1, authority).await;
        ask.send(connection.expect("HTTP over the mesh"), case)
            .await
    }
}
