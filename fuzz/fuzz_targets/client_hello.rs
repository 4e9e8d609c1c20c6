//! First messages of TLS handshakes: see `meridian_dataplane::fuzzing::client_hello`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_dataplane::fuzzing::client_hello(bytes));
