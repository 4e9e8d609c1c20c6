//! Trailers of a request, on their way to the upstream.

use super::forward::Scene;
use super::forwarded::CLIENT_CERTIFICATE;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};
use meridian_model::listener::HeaderUnderscores;

/// What frames, directs or authorizes a request stands in its head or counts for nothing
/// (RFC 9110, 6.5.1). An application that puts head and trailers together must not find there
/// what nobody has checked.
const HEAD_ONLY: [HeaderName; 6] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRANSFER_ENCODING,
    CLIENT_CERTIFICATE,
];

/// Removes what may not go on: what only a head may say, and of strangers what their heads may
/// not say either.
pub(crate) fn clean(trailers: &mut HeaderMap, scene: &Scene<'_>) {
    for name in &HEAD_ONLY {
        trailers.remove(name);
    }
    let service = &scene.app.service;
    let strangers = service.trust.is_edge().then_some(scene.edge_headers);
    let plain = service.normalization.underscores != HeaderUnderscores::Allow;
    let unwanted = |name: &&HeaderName| {
        strangers.is_some_and(|names| names.contains(name)) || plain && name.as_str().contains('_')
    };
    let found: Vec<HeaderName> = trailers.keys().filter(unwanted).cloned().collect();
    for name in found {
        trailers.remove(name);
    }
}
