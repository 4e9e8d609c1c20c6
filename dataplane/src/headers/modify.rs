//! Applying what a route orders about headers.

use super::head::Head;
use super::text::{self, MessageFacts};
use crate::headers::{RequestHeader, ResponseHeader};
use meridian_model::route::HeaderModifier;

/// Changes a request: removes, then sets, then adds. `facts` are of the client's request.
///
/// # Errors
/// When the header map would grow past the limit of the `http` crate.
pub fn modify_request(
    changes: &HeaderModifier,
    request: &mut RequestHeader,
    facts: &MessageFacts<'_>,
) -> pingora_error::Result<()> {
    modify(changes, request, facts)
}

/// As [`modify_request`], for a response.
///
/// # Errors
/// See [`modify_request`].
pub fn modify_response(
    changes: &HeaderModifier,
    response: &mut ResponseHeader,
    facts: &MessageFacts<'_>,
) -> pingora_error::Result<()> {
    modify(changes, response, facts)
}

fn modify(
    changes: &HeaderModifier,
    head: &mut impl Head,
    facts: &MessageFacts<'_>,
) -> pingora_error::Result<()> {
    for name in &changes.remove {
        head.remove(name);
    }
    for (name, text) in &changes.set {
        if let Some(value) = text::value(text, facts) {
            head.insert(name, &value)?;
        }
    }
    for (name, text) in &changes.add {
        if let Some(value) = text::value(text, facts) {
            head.append(name, &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue, Version};

    fn changes() -> HeaderModifier {
        let pair = |name: &'static str, value: &'static str| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value).into(),
            )
        };
        HeaderModifier {
            remove: vec![
                HeaderName::from_static("x-a"),
                HeaderName::from_static("x-b"),
            ],
            set: vec![pair("x-b", "new"), pair("x-c", "new")],
            add: vec![pair("x-c", "more")],
        }
    }

    fn facts(headers: &HeaderMap) -> MessageFacts<'_> {
        MessageFacts {
            client: None,
            local: None,
            identity: None,
            server_name: None,
            secure: false,
            authority: None,
            method: "GET",
            path: "/",
            version: Version::HTTP_11,
            headers,
        }
    }

    const EXPECTED: [(&str, &str); 3] = [("x-b", "new"), ("x-c", "new"), ("x-c", "more")];

    #[test]
    fn requests_lose_then_are_set_then_gain() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("X-A", "1"),
            ("X-A", "2"),
            ("X-B", "1"),
            ("X-C", "1"),
            ("X-C", "2"),
        ] {
            request.append_header(name, value).unwrap();
        }
        let headers = HeaderMap::new();
        modify_request(&changes(), &mut request, &facts(&headers)).unwrap();
        let mut left: Vec<_> = request.headers.iter().collect();
        left.sort_by_key(|(name, _)| name.as_str());
        let left: Vec<_> = left
            .into_iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(left, EXPECTED);
        let mut wire = Vec::new();
        crate::http1::put_headers(&request.headers, &mut wire);
        assert_eq!(wire.iter().filter(|byte| **byte == b'\n').count(), 3);
    }

    #[test]
    fn responses_are_changed_alike() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("x-a", "1"), ("x-c", "1")] {
            response.append_header(name, value).unwrap();
        }
        let headers = HeaderMap::new();
        modify_response(&changes(), &mut response, &facts(&headers)).unwrap();
        assert!(!response.headers.contains_key("x-a"));
        let values: Vec<_> = response.headers.get_all("x-c").iter().collect();
        assert_eq!(values, ["new", "more"]);
    }
}
