//! SPIFFE IDs of certificates: see `meridian_dataplane::fuzzing::spiffe_id`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_dataplane::fuzzing::spiffe_id(bytes));
