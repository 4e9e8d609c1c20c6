//! nomad
