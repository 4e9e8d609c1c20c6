//! The stage for integration tests: real Consul, real Envoy, our own programs,
//! origins and clients, each test in a network namespace of its own.
//!
//! The harness panics instead of returning errors: a test that can't set its
//! stage has failed, and the message is for the person who reads the log.

pub mod world;

pub mod process;
pub mod tools;
pub mod wait;

pub mod consul;
pub mod datacenter;
pub mod entry_gateway;
pub mod gateway;
pub mod mesh_gateway;
pub mod sidecar;
pub mod terminating;

mod ready;

pub mod admin;
pub mod client;
pub mod load;
pub mod origin;

pub mod certs;
pub mod handshake;

pub mod corpus;
pub mod workspace;
