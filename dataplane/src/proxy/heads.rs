//! The heads that go on: what an upstream is sent of a request, and a client of
//! a response.

use super::authority;
use super::failure::Failure;
use super::forwarded::{CLIENT_CERTIFICATE, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use super::respond::REQUEST_ID;
use crate::balance::GeneratedCookie;
use crate::downstream::Connection;
use crate::external::{self, Change};
use crate::headers::{self, MessageFacts, UpgradeHeaders};
use crate::headers::{RequestHeader, ResponseHeader};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use meridian_model::listener::{ClientCertificateHeader, ClientTrust};
use meridian_model::route::HeaderModifier;
use pingora_error::Result;
use std::mem;
use std::net::SocketAddr;

/// What is known of the connection that a request came by.
#[derive(Clone, Copy)]
pub(crate) struct CallerFacts<'a> {
    /// The client's end.
    pub(crate) client: Option<SocketAddr>,
    /// Its address alone, as `x-forwarded-for` has it.
    pub(crate) forwarded_for: Option<&'a HeaderValue>,
    /// Our end.
    pub(crate) local: Option<SocketAddr>,
    /// The SPIFFE ID in the client's certificate.
    pub(crate) identity: Option<&'a str>,
    /// The host name of its TLS handshake.
    pub(crate) server_name: Option<&'a str>,
    /// Whether it came by TLS.
    pub(crate) secure: bool,
}

impl<'a> CallerFacts<'a> {
    /// What is known of a connection.
    pub(crate) fn new<A>(connection: &'a Connection<A>) -> Self {
        let tls = connection.tls.as_ref();
        let peer = tls.and_then(|tls| tls.peer.as_ref());
        Self {
            client: connection.peer_address,
            forwarded_for: connection.forwarded_for(),
            local: connection.local_address,
            identity: peer.map(|peer| peer.spiffe.as_str()),
            server_name: tls.and_then(|tls| tls.sni.as_deref()),
            secure: tls.is_some(),
        }
    }

    /// What headers of a request, or of its response, may speak of.
    fn of(self, request: &'a RequestHeader) -> MessageFacts<'a> {
        let path = request.uri.path_and_query();
        MessageFacts {
            client: self.client,
            local: self.local,
            identity: self.identity,
            server_name: self.server_name,
            secure: self.secure,
            authority: authority::admitted(request),
            method: request.method.as_str(),
            path: path.map_or("/", |path| path.as_str()),
            version: request.version,
            headers: &request.headers,
        }
    }
}

/// What a request's head becomes on its way to the upstream.
pub(crate) struct RequestShape<'a> {
    /// Path and query after normalization and rewriting, if they changed.
    pub(crate) target: Option<&'a str>,
    /// Whether the upstream speaks HTTP/2.
    pub(crate) http2: bool,
    /// Whether a body follows.
    pub(crate) has_body: bool,
    /// Whether this is a WebSocket handshake that may go on.
    pub(crate) upgrade: bool,
    /// Whether the client is a stranger or of the mesh.
    pub(crate) trust: ClientTrust,
    /// What is done about the client certificate's header.
    pub(crate) client_certificate: ClientCertificateHeader,
    /// Our element of that header.
    pub(crate) certificate_element: Option<&'a HeaderValue>,
    /// The connection that the request came by.
    pub(crate) caller: CallerFacts<'a>,
    /// The request's ID.
    pub(crate) request_id: &'a HeaderValue,
    /// Changes that the route wants, in order.
    pub(crate) modifiers: [&'a HeaderModifier; 2],
}

/// Makes the head for an upstream from the client's, which stays what it is.
pub(crate) fn request(
    client: &mut RequestHeader,
    shape: &RequestShape<'_>,
) -> Result<Box<RequestHeader>, Failure> {
    // The head that was read has room for further lines. Its copy has none, and gets none.
    let copy = client.clone();
    let mut head = Box::new(mem::replace(client, copy));
    let client = &*client;
    let malformed = |_| Failure::BadRequest("malformed header");
    let upgrade = if shape.upgrade {
        UpgradeHeaders::Keep
    } else {
        UpgradeHeaders::Strip
    };
    headers::strip_hop_by_hop(&mut head, upgrade)
        .map_err(|_| Failure::BadRequest("connection header nominates a protected header"))?;
    address(&mut head, client, shape)?;
    frame(&mut head, client, shape).map_err(malformed)?;
    forward(&mut head, client, shape).map_err(malformed)?;
    let facts = shape.caller.of(client);
    for modifier in shape.modifiers {
        headers::modify_request(modifier, &mut head, &facts).map_err(malformed)?;
    }
    Ok(head)
}

/// Target, version and host.
fn address(
    head: &mut RequestHeader,
    client: &RequestHeader,
    shape: &RequestShape<'_>,
) -> Result<(), Failure> {
    let target = shape
        .target
        .or_else(|| client.uri.path_and_query().map(|target| target.as_str()))
        .unwrap_or("/");
    let bad = |_| Failure::BadRequest("malformed target");
    // Admission lets HTTP/1.0 go without a host.
    if client.version == Version::HTTP_10 && authority::of(client).is_none() {
        return Err(Failure::BadRequest("no valid host"));
    }
    // One Host line is what the upstream gets, and the target's origin form; most
    // requests have both already.
    if client.uri.authority().is_some() || !client.headers.contains_key(HOST) {
        let host = authority::value(client).ok_or(Failure::BadRequest("no valid host"))?;
        head.insert_header(HOST, host).map_err(bad)?;
    }
    if client.raw_path() != target.as_bytes() {
        head.set_raw_path(target.as_bytes()).map_err(bad)?;
    }
    head.set_version(if shape.http2 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    });
    Ok(())
}

/// How the body is framed, and what becomes of `Expect` and cookies.
fn frame(head: &mut RequestHeader, client: &RequestHeader, shape: &RequestShape<'_>) -> Result<()> {
    let length_known = head.headers.contains_key(CONTENT_LENGTH);
    head.remove_header(&TRANSFER_ENCODING);
    if shape.has_body && !shape.http2 && !length_known {
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    let means_content = [Method::POST, Method::PUT, Method::PATCH].contains(&client.method);
    if means_content && !shape.has_body && !shape.http2 && !length_known {
        // Some servers ask for a length where a body could be (RFC 9110, 8.6).
        head.insert_header(CONTENT_LENGTH, "0")?;
    }
    // The client was told to go on already, or can't be by the upstream, since interim
    // responses do not cross HTTP/2 here: nobody has to wait.
    if shape.http2 || client.version == Version::HTTP_2 || shape.trust.reads_envoy() {
        head.remove_header(&EXPECT);
    }
    if !shape.http2 && client.version == Version::HTTP_2 {
        headers::join_cookies(head)?;
    }
    Ok(())
}

/// Who calls, and how.
fn forward(
    head: &mut RequestHeader,
    client: &RequestHeader,
    shape: &RequestShape<'_>,
) -> Result<()> {
    let scheme = HeaderValue::from_static(if shape.caller.secure { "https" } else { "http" });
    head.insert_header(REQUEST_ID, shape.request_id.clone())?;
    match shape.trust {
        ClientTrust::Edge | ClientTrust::ConsulEdge => {
            // The strangers' own words are gone: admission stripped them.
            if let Some(address) = shape.caller.forwarded_for {
                head.insert_header(FORWARDED_FOR, address.clone())?;
            }
            head.insert_header(FORWARDED_PROTO, scheme)?;
            if let Some(host) = authority::value(client) {
                head.insert_header(FORWARDED_HOST, host)?;
            }
        }
        ClientTrust::Mesh => {
            if !head.headers.contains_key(FORWARDED_PROTO) {
                head.insert_header(FORWARDED_PROTO, scheme)?;
            }
        }
    }
    match (shape.client_certificate, shape.certificate_element) {
        (ClientCertificateHeader::AppendForward, Some(element)) => append_element(head, element),
        (ClientCertificateHeader::AppendForward, None) => Ok(()),
        (ClientCertificateHeader::Sanitize, _) => {
            head.remove_header(&CLIENT_CERTIFICATE);
            Ok(())
        }
    }
}

/// Adds our element behind those that the request already carries.
pub(crate) fn append_element(head: &mut RequestHeader, element: &HeaderValue) -> Result<()> {
    if !head.headers.contains_key(CLIENT_CERTIFICATE) {
        return head.insert_header(CLIENT_CERTIFICATE, element.clone());
    }
    let mut joined = Vec::new();
    for value in head.headers.get_all(CLIENT_CERTIFICATE) {
        joined.extend_from_slice(value.as_bytes());
        joined.push(b',');
    }
    joined.extend_from_slice(element.as_bytes());
    head.insert_header(CLIENT_CERTIFICATE, joined)
}

/// What a response's head becomes on its way to the client.
#[derive(Clone, Copy)]
pub(crate) struct ResponseShape<'a> {
    /// The connection that the request came by.
    pub(crate) caller: CallerFacts<'a>,
    /// The client's version.
    pub(crate) version: Version,
    /// The request's method: a response to HEAD has no body to frame.
    pub(crate) head_only: bool,
    /// Whether the client asked to switch protocols.
    pub(crate) upgrade_asked: bool,
    /// The request's ID, told to strangers so that they can quote it.
    pub(crate) request_id: Option<&'a HeaderValue>,
    /// Cookies that keep the client at its endpoint.
    pub(crate) cookies: &'a [GeneratedCookie],
    /// Changes that the route wants, in order.
    pub(crate) modifiers: [&'a HeaderModifier; 2],
    /// Changes that external authorizations want.
    pub(crate) changes: &'a [Change],
}

/// Makes the client's head from the upstream's; `client` is the head of its request.
pub(crate) fn response(
    head: &mut ResponseHeader,
    client: &RequestHeader,
    shape: &ResponseShape<'_>,
    end: bool,
) -> Result<()> {
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let length_known = head.headers.contains_key(CONTENT_LENGTH);
    let upgrade = if switching {
        UpgradeHeaders::Keep
    } else {
        UpgradeHeaders::Strip
    };
    headers::strip_hop_by_hop_response(head, upgrade);
    head.remove_header(&TRANSFER_ENCODING);
    let bodiless = switching
        || shape.head_only
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED;
    if !bodiless && !length_known {
        if end && shape.version != Version::HTTP_2 {
            head.insert_header(CONTENT_LENGTH, "0")?;
        } else if shape.version == Version::HTTP_11 {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
    }
    head.set_version(Version::HTTP_11);
    if let Some(id) = shape.request_id {
        head.insert_header(REQUEST_ID, id.clone())?;
    }
    for cookie in shape.cookies.iter().filter_map(GeneratedCookie::header) {
        head.append_header(SET_COOKIE, cookie)?;
    }
    let facts = shape.caller.of(client);
    for modifier in shape.modifiers {
        headers::modify_response(modifier, head, &facts)?;
    }
    external::apply(shape.changes, head)
}

/// Whether a request asks for the only upgrade that is carried: WebSocket, by
/// GET, over HTTP/1.1 (RFC 6455, 4.1).
pub(crate) fn asks_for_websocket(head: &RequestHeader) -> bool {
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && headers::requested_upgrade(&head.headers)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// Whether a client waits for leave to send its body, and gets it from us: where Envoy would give
/// it, since applications behind one need not know how to, and before an HTTP/2 upstream, whose
/// interim responses can't be seen.
pub(crate) fn waits_for_our_leave(head: &RequestHeader, trust: ClientTrust, http2: bool) -> bool {
    (trust.reads_envoy() || http2)
        && head.version == Version::HTTP_11
        && head.headers.contains_key(EXPECT)
}
