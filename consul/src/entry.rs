//! Configuration entries: read, listed, written with compare-and-set, deleted.
//!
//! Entries have many kinds and every release adds fields, so reading is generic: into
//! [`serde_json::Value`], into one of the types here, or into the caller's own.

mod defaults;
mod gateway;
mod jwt;
mod mesh;
mod resolver;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use defaults::{
    Destination, InstanceLimits, Limits, PassiveHealthCheck, ProxyDefaults, RateLimits, RouteLimit,
    ServiceDefaults, UpstreamConfig, UpstreamSettings,
};
pub use gateway::{
    ApiGatewayEntry, ApiGatewayListener, ApiGatewayTls, BoundApiGatewayEntry, BoundListener,
    FileSystemCertificateEntry, HttpRouteEntry, HttpRouteFilters, HttpRouteMatch, HttpRouteRule,
    HttpRouteService, HttpRouteTest, IngressGatewayEntry, IngressLimits, IngressListener,
    IngressService, IngressTls, InlineCertificateEntry, Reference, RetryFilter, TcpRouteEntry,
    TcpRouteService, TimeoutFilter, UrlRewrite,
};
pub use jwt::{
    JsonWebKeySet, JwksBackOff, JwksCluster, JwksRetryPolicy, JwksTlsCertificates, JwksTrustedCa,
    JwtForwarding, JwtHeaderLocation, JwtLocation, JwtNamedLocation, JwtProviderEntry, LocalJwks,
    RemoteJwks,
};
pub use mesh::{
    DirectionalTls, MeshEntry, MeshHttp, MeshHttpIncoming, MeshPeering, MeshTls,
    MeshTransparentProxy, RequestNormalization,
};
pub use resolver::ServiceResolver;

use crate::{call::Call, client::Client, error::Error, query::Query};

/// A type that one kind of entry is read into.
pub trait Entry: DeserializeOwned {
    /// The kind, as in the entry's `Kind`: `service-defaults`.
    const KIND: &'static str;
}

impl Client {
    /// An entry as JSON; `None` when it doesn't exist (`GET /v1/config/:kind/:name`). Blocks,
    /// also on a missing entry.
    #[must_use]
    pub fn config_entry(&self, kind: &str, name: &str) -> Query<Option<Value>> {
        self.entry_as(kind, name)
    }

    /// An entry as a type; `None` when it doesn't exist. Blocks, also on a missing entry.
    #[must_use]
    pub fn entry<E: Entry>(&self, name: &str) -> Query<Option<E>> {
        self.entry_as(E::KIND, name)
    }

    /// The `proxy-defaults` entry, whose name is always `global`.
    #[must_use]
    pub fn proxy_defaults(&self) -> Query<Option<ProxyDefaults>> {
        self.entry("global")
    }

    /// The `service-defaults` entry of a service.
    #[must_use]
    pub fn service_defaults(&self, service: &str) -> Query<Option<ServiceDefaults>> {
        self.entry(service)
    }

    /// The `mesh` entry, whose name is always `mesh`.
    #[must_use]
    pub fn mesh_entry(&self) -> Query<Option<MeshEntry>> {
        self.entry("mesh")
    }

    /// All entries of a kind as JSON (`GET /v1/config/:kind`). Blocks.
    #[must_use]
    pub fn config_entries(&self, kind: &str) -> Query<Vec<Value>> {
        Query::new(
            self,
            Call::get("list configuration entries", ["v1", "config", kind]),
        )
    }

    /// All entries of a kind as a type. Blocks.
    #[must_use]
    pub fn entries<E: Entry>(&self) -> Query<Vec<E>> {
        Query::new(
            self,
            Call::get("list configuration entries", ["v1", "config", E::KIND]),
        )
    }

    /// Writes an entry, whatever is there (`PUT /v1/config`). The body has `Kind` and `Name`
    /// (`mesh` refuses a `Name`); an entry that Consul refuses is a 400 error, or a 500
    /// one, which then looks retryable but isn't.
    pub async fn write_config_entry(&self, entry: &impl Serialize) -> Result<(), Error> {
        let call = Call::put("write configuration entry", ["v1", "config"]).json(entry);
        self.send_unit(&call).await
    }

    /// Writes an entry when its `ModifyIndex` is still `index` (0: when it doesn't exist);
    /// whether it was written.
    pub async fn write_config_entry_if(
        &self,
        entry: &impl Serialize,
        index: u64,
    ) -> Result<bool, Error> {
        let call = Call::put("write configuration entry", ["v1", "config"]);
        self.send_for(&call.with("cas", index.to_string()).json(entry))
            .await
    }

    /// Deletes an entry (`DELETE /v1/config/:kind/:name`). Deleting a missing one is no error;
    /// one that others need is.
    pub async fn delete_config_entry(&self, kind: &str, name: &str) -> Result<(), Error> {
        self.send_unit(&delete(kind, name)).await
    }

    /// Deletes an entry when its `ModifyIndex` is still `index`; whether it was deleted.
    pub async fn delete_config_entry_if(
        &self,
        kind: &str,
        name: &str,
        index: u64,
    ) -> Result<bool, Error> {
        self.send_for(&delete(kind, name).with("cas", index.to_string()))
            .await
    }

    fn entry_as<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Query<Option<T>> {
        let call = Call::get("read configuration entry", ["v1", "config", kind, name]);
        Query::decoded(self, call, |body| serde_json::from_slice(body).map(Some)).or_absent(|| None)
    }
}

fn delete(kind: &str, name: &str) -> Call {
    Call::delete("delete configuration entry", ["v1", "config", kind, name])
}
