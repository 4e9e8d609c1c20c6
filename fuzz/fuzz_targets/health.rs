//! Health answers of Consul: see `meridian_sources::fuzzing::health`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_sources::fuzzing::health(bytes));
