//! Everything in one process: a registry and a certificate authority for development and tests.

mod ca;

pub use ca::{CaError, DevelopmentCa};
