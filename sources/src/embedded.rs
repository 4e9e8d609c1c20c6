//! Everything in one process: a registry and a certificate authority, for `meridian dev` and for
//! tests.
//!
//! The registry answers the same questions as Consul, with the same values. From there on a
//! sidecar and a gateway are made by the same code.

mod ca;
mod origin;
mod registry;

pub use ca::{CaError, DevelopmentCa};
pub use registry::{EmbeddedInstance, EmbeddedService, EmbeddedUpstream};

use crate::intent::Intent;
use crate::publish::{Publisher, Source, SourceMetrics, Task};
use crate::resolve;
use crate::role;
use crate::translate::sidecar::Sidecar;
use meridian_model::{SpiffeId, Verdict};
use origin::Following;
use registry::Registry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A registry with its CA. Clones are the same one.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Mutex<Registry>,
    /// Counts changes; sources wait on it.
    version: watch::Sender<u64>,
}

impl Embedded {
    /// An empty registry. Calls that no intention is about are denied until
    /// [`Embedded::set_default`] says otherwise.
    ///
    /// # Errors
    /// When the CA cannot be made.
    pub fn new(trust_domain: &str, datacenter: &str) -> Result<Self, CaError> {
        let ca = DevelopmentCa::new(trust_domain, datacenter)?;
        let shared = Shared {
            registry: Mutex::new(Registry::new(ca)),
            version: watch::Sender::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Adds a service, or replaces it.
    pub fn set_service(&self, service: EmbeddedService) {
        self.change(|registry| registry.set_service(service));
    }

    /// Takes a service out.
    pub fn remove_service(&self, name: &str) {
        self.change(|registry| registry.remove_service(name));
    }

    /// Adds an intention, or replaces the one about the same two; `*` stands for any service.
    pub fn set_intention(&self, source: &str, destination: &str, verdict: Verdict) {
        self.change(|registry| registry.set_intention(source, destination, verdict));
    }

    /// Takes an intention out.
    pub fn remove_intention(&self, source: &str, destination: &str) {
        self.change(|registry| registry.remove_intention(source, destination));
    }

    /// The verdict where no intention is about a call.
    pub fn set_default(&self, verdict: Verdict) {
        self.change(|registry| registry.default = verdict);
    }

    /// Gives every service a new leaf with a new key.
    pub fn rotate_leaves(&self) {
        self.change(Registry::rotate_leaves);
    }

    /// Makes a new root, and new leaves signed by it. The old roots stay trusted until
    /// [`Embedded::forget_old_roots`].
    ///
    /// # Errors
    /// When the CA cannot make one.
    pub fn rotate_root(&self) -> Result<(), CaError> {
        let mut done = Ok(());
        self.change(|registry| {
            done = registry.ca.rotate_root();
            registry.rotate_leaves();
        });
        done
    }

    /// Ends a rotation: only the newest root is trusted.
    pub fn forget_old_roots(&self) {
        self.change(|registry| registry.ca.forget_old_roots());
    }

    /// The SPIFFE ID of a service.
    pub fn spiffe(&self, service: &str) -> SpiffeId {
        self.registry().ca.spiffe(service)
    }

    /// The source of the sidecar beside the instance with this ID, which may come later.
    pub fn sidecar(&self, instance: &str, metrics: Arc<dyn SourceMetrics>) -> Source {
        let (publisher, snapshots) = Publisher::new();
        let sidecar = Sidecar {
            proxy: registry::proxy_id(instance),
            default: None,
        };
        let origin = Following::new(self.clone());
        let task = Task::spawn(async move {
            role::serve(sidecar, origin, &*metrics, publisher).await;
        });
        Source { snapshots, task }
    }

    /// The source of a gateway that is the service `name` of the mesh.
    pub fn gateway(
        &self,
        name: &str,
        intents: watch::Receiver<Intent>,
        metrics: Arc<dyn SourceMetrics>,
    ) -> Source {
        let (publisher, snapshots) = Publisher::new();
        let gateway = resolve::Gateway {
            service: Some(name.to_owned()),
            consul: true,
        };
        let origin = Following::new(self.clone());
        let work = resolve::serve(gateway, intents, origin, metrics, publisher);
        Source {
            snapshots,
            task: Task::spawn(work),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Registry)) {
        edit(&mut self.registry());
        self.shared.version.send_modify(|version| *version += 1);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic elsewhere leaves at worst one half-made edit of a development registry.
        self.shared
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
