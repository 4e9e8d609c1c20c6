//! The protocol of a service, and what follows from it.

use meridian_model::UpstreamProtocol;
use meridian_model::listener::{Alpn, ClientCertificateHeader};

/// The service's protocol (`Protocol` of service-defaults, merged into `Config.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Http,
    Http2,
    Grpc,
}

impl Protocol {
    /// Consul compares without case, and treats what it doesn't know as TCP.
    pub(super) fn parse(text: Option<&str>) -> Self {
        match text.unwrap_or_default().to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            _ => Self::Tcp,
        }
    }

    pub(super) fn alpn(self) -> Vec<Alpn> {
        match self {
            Self::Tcp => Vec::new(),
            Self::Http => vec![Alpn::Http1],
            Self::Http2 | Self::Grpc => vec![Alpn::H2, Alpn::Http1],
        }
    }

    pub(super) fn upstream(self) -> UpstreamProtocol {
        match self {
            Self::Tcp => UpstreamProtocol::Tcp,
            Self::Http => UpstreamProtocol::Http1,
            Self::Http2 | Self::Grpc => UpstreamProtocol::Http2,
        }
    }

    /// Consul's Envoy forwards the caller's certificate for HTTP, and strips it for gRPC.
    pub(super) fn client_certificate(self) -> ClientCertificateHeader {
        match self {
            Self::Http | Self::Http2 => ClientCertificateHeader::AppendForward,
            Self::Grpc | Self::Tcp => ClientCertificateHeader::Sanitize,
        }
    }
}
