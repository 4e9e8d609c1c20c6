//! A request over HTTP/1: see `meridian_dataplane::fuzzing::http1_request`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_dataplane::fuzzing::http1_request(bytes));
