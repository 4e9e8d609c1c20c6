//! Intentions as Consul answers: see `meridian_sources::fuzzing::intentions`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_sources::fuzzing::intentions(bytes));
