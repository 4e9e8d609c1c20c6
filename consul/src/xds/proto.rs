//! The few fields of xDS that carry a certificate, with their numbers from Envoy's API
//! (`envoy/service/discovery/v3`, `envoy/config/listener/v3`, `envoy/extensions/transport_sockets/tls/v3`).
//! What is not named here is skipped in decoding.

use std::collections::HashMap;

use prost::{Message, Oneof};

const TLS_CONTEXT: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaRequest {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    type_url: String,
    #[prost(string, tag = "6")]
    response_nonce: String,
}

/// `Node`. The agent takes its name of an Envoy for a promise of what it can do, so this one has
/// another.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<Struct>,
    #[prost(string, tag = "6")]
    user_agent_name: String,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(map = "string, message", tag = "1")]
    fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, for texts.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) removed_resources: Vec<String>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `Listener`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Listener {
    #[prost(message, repeated, tag = "3")]
    pub(super) filter_chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "25")]
    pub(super) default_filter_chain: Option<FilterChain>,
}

/// `FilterChain`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FilterChain {
    #[prost(message, optional, tag = "6")]
    pub(super) transport_socket: Option<TransportSocket>,
}

/// `TransportSocket`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TransportSocket {
    #[prost(message, optional, tag = "3")]
    pub(super) typed_config: Option<Any>,
}

/// `DownstreamTlsContext`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsContext {
    #[prost(message, optional, tag = "1")]
    pub(super) common: Option<CommonTlsContext>,
}

/// `CommonTlsContext`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CommonTlsContext {
    #[prost(message, repeated, tag = "2")]
    pub(super) certificates: Vec<TlsCertificate>,
}

/// `TlsCertificate`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsCertificate {
    #[prost(message, optional, tag = "1")]
    pub(super) chain: Option<DataSource>,
    #[prost(message, optional, tag = "2")]
    pub(super) key: Option<DataSource>,
}

/// `DataSource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DataSource {
    #[prost(oneof = "Inline", tags = "2, 3")]
    pub(super) inline: Option<Inline>,
}

/// What stands in a [`DataSource`] itself.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Inline {
    #[prost(bytes, tag = "2")]
    Bytes(Vec<u8>),
    #[prost(string, tag = "3")]
    Text(String),
}

impl DeltaRequest {
    /// Asks for everything of a type. `scope` is the registration's, where it is not the default.
    pub(super) fn first<'a>(
        type_url: &str,
        id: &str,
        scope: impl IntoIterator<Item = (&'a str, &'a Option<String>)>,
    ) -> Self {
        let fields = scope.into_iter().filter_map(|(name, value)| {
            let text = Some(value.clone()?);
            Some((name.to_owned(), Value { text }))
        });
        let node = Node {
            id: id.to_owned(),
            metadata: Some(Struct {
                fields: fields.collect(),
            }),
            user_agent_name: env!("CARGO_PKG_NAME").to_owned(),
        };
        Self {
            node: Some(node),
            type_url: type_url.to_owned(),
            response_nonce: String::new(),
        }
    }

    pub(super) fn acknowledging(response: &DeltaResponse) -> Self {
        Self {
            node: None,
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
        }
    }
}

impl TransportSocket {
    /// The TLS of a server, if it is that.
    pub(super) fn tls_context(self) -> Option<TlsContext> {
        let config = self.typed_config?;
        (config.type_url == TLS_CONTEXT)
            .then(|| TlsContext::decode(config.value.as_slice()).ok())
            .flatten()
    }
}

impl DataSource {
    /// The text that stands in it.
    pub(super) fn text(self) -> Option<String> {
        match self.inline? {
            Inline::Text(text) => Some(text),
            Inline::Bytes(bytes) => String::from_utf8(bytes).ok(),
        }
    }
}
