//! The proved other side of one connection, read once after the handshake.

use super::certificate::{self, LeafError};
use meridian_model::SpiffeId;
use rustls::pki_types::CertificateDer;
use std::fmt::Write as _;

/// The certificate of a peer whose chain has been verified.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    /// Whom it names.
    pub spiffe: SpiffeId,
    /// Leaf first, as the peer sent it.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf in lower-case hex, as XFCC's `Hash` has it.
    pub hash: String,
}

impl PeerCertificate {
    /// Reads what a finished handshake left behind. `None` without a certificate.
    ///
    /// # Errors
    /// When the leaf names no SPIFFE ID; the verifiers refuse such a peer
    /// before, so that it means that the connection is not a mesh one.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Option<Self>, LeafError> {
        let Some(chain) = chain else {
            return Ok(None);
        };
        let leaf = chain.first().ok_or(LeafError::Unreadable)?;
        Ok(Some(Self {
            spiffe: certificate::spiffe_id(leaf)?,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            hash: hex(ring::digest::digest(&ring::digest::SHA256, leaf).as_ref()),
        }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn hashes_are_lower_case_hex() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
