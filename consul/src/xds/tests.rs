//! What is made of listeners, without a connection.

use super::proto::{
    Any, CommonTlsContext, DataSource, FilterChain, Inline, Resource, TlsCertificate, TlsContext,
    TransportSocket,
};
use super::*;

const TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

fn data(inline: Inline) -> Option<DataSource> {
    Some(DataSource {
        inline: Some(inline),
    })
}

fn listener(name: &str, type_url: &str, certificate: Option<&str>) -> Resource {
    let certificates = certificate.map(|text| TlsCertificate {
        chain: data(Inline::Text(text.to_owned())),
        key: data(Inline::Bytes(b"key".to_vec())),
    });
    let context = TlsContext {
        common: Some(CommonTlsContext {
            certificates: certificates.into_iter().collect(),
        }),
    };
    let chain = FilterChain {
        transport_socket: Some(TransportSocket {
            typed_config: Some(Any {
                type_url: type_url.to_owned(),
                value: context.encode_to_vec(),
            }),
        }),
    };
    let listener = Listener {
        filter_chains: vec![FilterChain::default(), chain],
        default_filter_chain: None,
    };
    Resource {
        name: name.to_owned(),
        resource: Some(Any {
            type_url: LISTENERS.to_owned(),
            value: listener.encode_to_vec(),
        }),
    }
}

fn message(resources: Vec<Resource>, removed: &[&str]) -> DeltaResponse {
    DeltaResponse {
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaResponse::default()
    }
}

fn text(served: &Served) -> Option<Option<String>> {
    let certificate = served.certificate()?;
    Some(certificate.map(|found| found.certificate_pem))
}

#[tokio::test]
async fn a_certificate_is_found_in_any_listener_and_goes_with_the_last() {
    let mut served = Served::default();
    let later = Instant::now() + SETTLING;
    assert_eq!(text(&served), None, "nothing was said yet");
    let plain = listener("plain", TLS, None);
    let secure = listener("secure", TLS, Some("one"));
    served
        .take(message(vec![plain, secure], &[]), later)
        .unwrap();
    assert_eq!(text(&served), Some(Some("one".to_owned())));
    let renewed = listener("secure", TLS, Some("two"));
    served.take(message(vec![renewed], &[]), later).unwrap();
    assert_eq!(text(&served), Some(Some("two".to_owned())));
    served.take(message(vec![], &["secure"]), later).unwrap();
    assert_eq!(text(&served), Some(None));
}

#[tokio::test]
async fn that_there_is_no_certificate_is_believed_after_a_while() {
    let mut served = Served::default();
    let later = Instant::now() + SETTLING;
    served.take(message(vec![], &[]), later).unwrap();
    assert_eq!(text(&served), None);
    assert_eq!(served.settled_at(), Some(later));
    served.take(message(vec![], &[]), later + SETTLING).unwrap();
    assert_eq!(served.settled_at(), Some(later), "it is not put off");
    served.believe();
    assert_eq!(text(&served), Some(None));
}

#[test]
fn another_transport_is_not_taken_for_tls() {
    let found = listener("x", "type.googleapis.com/other", Some("one"));
    let listener = Listener::decode(found.resource.unwrap().value.as_slice()).unwrap();
    assert_eq!(certificate(listener), None);
}

#[tokio::test]
async fn garbage_is_an_error() {
    let mut served = Served::default();
    let mut broken = listener("x", TLS, None);
    broken.resource = Some(Any {
        type_url: LISTENERS.to_owned(),
        value: vec![0xff; 3],
    });
    let taken = served.take(message(vec![broken], &[]), Instant::now());
    assert!(matches!(taken, Err(Error::Decode { .. })));
}
