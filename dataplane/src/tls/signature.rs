//! Signatures of handshakes, which are proved alike on both sides.

use super::provider;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::CertificateDer;
use rustls::{DigitallySignedStruct, SignatureScheme};

/// Whether the leaf's key has signed the message of a TLS 1.2 handshake.
pub(super) fn tls12(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = &provider().signature_verification_algorithms;
    verify_tls12_signature(message, leaf, signed, algorithms)
}

/// As [`tls12`], of a TLS 1.3 handshake.
pub(super) fn tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = &provider().signature_verification_algorithms;
    verify_tls13_signature(message, leaf, signed, algorithms)
}

/// What can be proved.
pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider()
        .signature_verification_algorithms
        .supported_schemes()
}
