//! Lines of x-forwarded-client-cert: see `meridian_dataplane::fuzzing::forwarded_certificate`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meridian_dataplane::fuzzing::forwarded_certificate(bytes));
