//! Translation: from what Consul says, as plain values, to the model.
//!
//! Everything in here is pure. What cannot be honoured is refused by itself, with its reason;
//! rules about who may call become stricter when they are not understood, never laxer.

pub(crate) mod access_log;
pub(crate) mod api;
pub(crate) mod central;
pub(crate) mod certificate;
pub(crate) mod edge;
pub(crate) mod endpoint;
pub(crate) mod everything;
pub(crate) mod expose;
pub(crate) mod extension;
pub(crate) mod foreign;
pub(crate) mod identity;
pub(crate) mod inbound;
pub(crate) mod ingress;
pub(crate) mod intention;
pub(crate) mod jwt;
pub(crate) mod matcher;
pub(crate) mod mesh;
pub(crate) mod mesh_gateway;
pub(crate) mod opaque;
pub(crate) mod policy;
pub(crate) mod prepared;
pub(crate) mod sidecar;
pub(crate) mod sni_gateway;
pub(crate) mod terminating_gateway;
pub(crate) mod terms;
pub(crate) mod upstream;
