//! Micro-benchmarks of what a request meets and of what a change costs: `make micro`.
//!
//! Figures of one machine; docs/performance.md says which of them have a bar.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark's set-up fails by panicking"
)]
#![allow(
    missing_docs,
    reason = "criterion's macros make public functions of their own"
)]

mod balance;
mod headers;
mod intention;
mod route;
mod snapshot;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    micro,
    route::find,
    balance::pick,
    balance::update,
    intention::decide,
    headers::transform,
    snapshot::build,
    snapshot::update,
);
criterion_main!(micro);
