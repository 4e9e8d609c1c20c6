//! The shared Pingora library that moves bytes.

pub mod admin;
pub mod route;
pub mod normalize;
pub mod headers;
pub mod balance;
pub mod resilience;
