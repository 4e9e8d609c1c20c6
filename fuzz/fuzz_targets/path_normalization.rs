//! Targets of requests: see `meridian_dataplane::fuzzing::path_normalization`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_dataplane::fuzzing::path_normalization(bytes));
