//! Why a handshake came to nothing: one label for metrics, one sentence for the log.

use super::certificate::LeafError;
use meridian_model::SpiffeId;
use meridian_telemetry::metrics::TlsResult;
use rustls::{AlertDescription, CertificateError, OtherError};
use std::fmt;
use std::io;
use std::sync::Arc;

/// What went wrong, as a bounded set of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// The peer sent no certificate.
    NoCertificate,
    /// The peer's certificate has expired.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// No root of ours signed the peer's chain.
    UnknownIssuer,
    /// The peer is of a trust domain that we hold no roots of, or not of the expected one.
    UnknownTrustDomain,
    /// The leaf has no URI, several, a malformed one, or belongs to an authority.
    BadSpiffe,
    /// A valid identity, but not one of those expected here.
    WrongIdentity,
    /// The peer refused our certificate.
    Refused,
    /// The peer does not speak TLS as we do.
    Protocol,
    /// The peer asked for a name that nothing is served under, or for none.
    UnknownName,
    /// The deadline passed.
    Timeout,
    /// The peer went away.
    Closed,
    /// Anything else; the log line has the cause.
    Other,
}

impl HandshakeFailure {
    /// What an error of a handshake, or of the first read after it, means.
    pub fn classify(error: &io::Error) -> Self {
        claim(error).0
    }

    /// The handshake counter's word for it; the log tells more of them apart.
    pub fn metric(self) -> TlsResult {
        match self {
            Self::NoCertificate => TlsResult::NoCertificate,
            Self::Expired | Self::NotYetValid => TlsResult::Expired,
            Self::UnknownIssuer => TlsResult::UnknownIssuer,
            Self::UnknownTrustDomain => TlsResult::UnknownTrustDomain,
            Self::BadSpiffe => TlsResult::BadSpiffe,
            Self::WrongIdentity => TlsResult::WrongIdentity,
            Self::Timeout => TlsResult::Timeout,
            Self::Closed => TlsResult::Closed,
            Self::Refused | Self::Protocol | Self::UnknownName | Self::Other => TlsResult::Other,
        }
    }

    /// The reason as it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownTrustDomain => "unknown_trust_domain",
            Self::BadSpiffe => "bad_spiffe",
            Self::WrongIdentity => "wrong_identity",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::UnknownName => "unknown_name",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "peer sent no certificate",
            Self::Expired => "peer's certificate has expired",
            Self::NotYetValid => "peer's certificate is not valid yet",
            Self::UnknownIssuer => "peer's chain ends in no trusted root",
            Self::UnknownTrustDomain => "peer is of another trust domain",
            Self::BadSpiffe => "peer's certificate names no single SPIFFE ID",
            Self::WrongIdentity => "peer is not the expected service",
            Self::Refused => "peer refused our certificate",
            Self::Protocol => "peer does not speak TLS as we do",
            Self::UnknownName => "peer asked for no name that is served",
            Self::Timeout => "deadline passed",
            Self::Closed => "peer closed the connection",
            Self::Other => "handshake failed",
        })
    }
}

/// A handshake that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("TLS handshake failed: {failure}")]
pub struct HandshakeError {
    /// What went wrong.
    pub failure: HandshakeFailure,
    /// Who the peer claimed to be, where that was read.
    pub peer: Option<SpiffeId>,
    /// What rustls or the socket said.
    #[source]
    pub source: io::Error,
}

impl HandshakeError {
    /// The deadline passed before the handshake ended.
    pub fn timeout() -> Self {
        io::Error::from(io::ErrorKind::TimedOut).into()
    }
}

impl From<io::Error> for HandshakeError {
    /// Classifies an error of a handshake, or of the first read after it: in
    /// TLS 1.3 a server's refusal arrives only then.
    fn from(source: io::Error) -> Self {
        let (failure, peer) = claim(&source);
        Self {
            failure,
            peer,
            source,
        }
    }
}

impl From<LeafError> for HandshakeError {
    fn from(error: LeafError) -> Self {
        let error = rustls::Error::from(IdentityError::from(error));
        io::Error::new(io::ErrorKind::InvalidData, error).into()
    }
}

/// A verdict of our verifiers; travels inside rustls' certificate error.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    /// The leaf names nobody.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The peer is of a trust domain that is not believed here.
    #[error("{0} is of another trust domain")]
    UnknownTrustDomain(SpiffeId),
    /// The peer is not one of the expected.
    #[error("{0} is not expected here")]
    WrongIdentity(SpiffeId),
}

impl From<IdentityError> for rustls::Error {
    fn from(error: IdentityError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// What went wrong, and who the peer claimed to be.
fn claim(error: &io::Error) -> (HandshakeFailure, Option<SpiffeId>) {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => of_rustls(error),
        None => (of_socket(error.kind()), None),
    }
}

fn of_rustls(error: &rustls::Error) -> (HandshakeFailure, Option<SpiffeId>) {
    use HandshakeFailure as F;
    let failure = match error {
        rustls::Error::NoCertificatesPresented => F::NoCertificate,
        rustls::Error::InvalidCertificate(error) => return of_certificate(error),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::InvalidMessage(_)
        | rustls::Error::NoApplicationProtocol
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::DecryptError
        | rustls::Error::PeerSentOversizedRecord => F::Protocol,
        _ => F::Other,
    };
    (failure, None)
}

fn of_certificate(error: &CertificateError) -> (HandshakeFailure, Option<SpiffeId>) {
    use HandshakeFailure as F;
    let failure = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => F::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            F::NotYetValid
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => F::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            F::WrongIdentity
        }
        CertificateError::Other(OtherError(inner)) => {
            return match inner.downcast_ref::<IdentityError>() {
                Some(IdentityError::Leaf(_)) => (F::BadSpiffe, None),
                Some(IdentityError::UnknownTrustDomain(peer)) => {
                    (F::UnknownTrustDomain, Some(peer.clone()))
                }
                Some(IdentityError::WrongIdentity(peer)) => (F::WrongIdentity, Some(peer.clone())),
                None => (F::Other, None),
            };
        }
        _ => F::Other,
    };
    (failure, None)
}

fn of_alert(alert: AlertDescription) -> HandshakeFailure {
    match alert {
        AlertDescription::AccessDenied
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRequired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate => HandshakeFailure::Refused,
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => HandshakeFailure::Closed,
        _ => HandshakeFailure::Protocol,
    }
}

fn of_socket(kind: io::ErrorKind) -> HandshakeFailure {
    match kind {
        io::ErrorKind::TimedOut => HandshakeFailure::Timeout,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => HandshakeFailure::Closed,
        _ => HandshakeFailure::Other,
    }
}
