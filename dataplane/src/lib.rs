//! The shared Pingora library that moves bytes.

pub mod admin;
