//! What a request's head goes through at the edge.

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use meridian_dataplane::headers::RequestHeader;
use meridian_dataplane::headers::{
    HeaderNames, MessageFacts, UpgradeHeaders, modify_request, strip_headers, strip_hop_by_hop,
};
use meridian_model::route::HeaderModifier;

/// A browser's.
const HEAD: [(&str, &str); 12] = [
    ("host", "shop.test"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"),
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("cookie", "session=0123456789abcdef; theme=dark"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("x-forwarded-for", "192.0.2.7"),
    ("te", "trailers"),
];

pub(crate) fn transform(criterion: &mut Criterion) {
    let mut head = RequestHeader::build("GET", b"/orders/17", Some(HEAD.len())).unwrap();
    for (name, value) in HEAD {
        head.append_header(name, value).unwrap();
    }
    let strangers = HeaderNames::edge();
    let changes = HeaderModifier {
        remove: vec![HeaderName::from_static("x-debug")],
        set: vec![(
            HeaderName::from_static("x-edge"),
            HeaderValue::from_static("bench").into(),
        )],
        add: Vec::new(),
    };
    let headers = HeaderMap::new();
    let facts = MessageFacts {
        client: None,
        local: None,
        identity: None,
        server_name: None,
        secure: false,
        authority: Some("shop.test"),
        method: "GET",
        path: "/orders/17",
        version: Version::HTTP_11,
        headers: &headers,
    };
    criterion.bench_function("header transformation", |bencher| {
        bencher.iter_batched_ref(
            || head.clone(),
            |head| {
                strip_headers(&strangers, head);
                strip_hop_by_hop(head, UpgradeHeaders::Strip).unwrap();
                modify_request(&changes, head, &facts).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
}
