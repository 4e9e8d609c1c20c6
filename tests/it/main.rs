//! One binary for all integration tests: one link, and one list of what is held.

/// The rules of the workspace: arrows between crates, file shapes, licences.
mod tidy;

/// Meridian and Envoy at either end of a mesh connection.
mod interop;
