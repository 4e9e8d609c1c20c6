//! Header values as entries write them: `%` begins a word of Envoy's, `%%` is a percent sign.
//!
//! Consul hands values to Envoy as they stand, so its users write Envoy's words. Those that speak
//! of the request and its connection are known here; any other is an error, not a text.

use http::{HeaderName, HeaderValue};
use meridian_model::HeaderText;
use meridian_model::header::{AddressPart, HeaderPart};

/// Reads a value, or says why it can't be written.
pub(super) fn read(written: &str) -> Result<HeaderText, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (word, after) = after
            .split_once('%')
            .ok_or_else(|| format!("`%{after}` has no end"))?;
        if !text.is_empty() {
            parts.push(fixed(std::mem::take(&mut text))?);
        }
        parts.push(part(word)?);
        rest = after;
    }
    text.push_str(rest);
    if parts.is_empty() {
        let value = HeaderValue::from_str(&text).map_err(|_| not_allowed(&text))?;
        return Ok(HeaderText::Fixed(value));
    }
    if !text.is_empty() {
        parts.push(fixed(text)?);
    }
    Ok(HeaderText::Composed(parts))
}

fn fixed(text: String) -> Result<HeaderPart, String> {
    match HeaderValue::from_str(&text) {
        Ok(_) => Ok(HeaderPart::Text(text)),
        Err(_) => Err(not_allowed(&text)),
    }
}

fn not_allowed(text: &str) -> String {
    format!("`{}` is no header value", text.escape_debug())
}

fn part(word: &str) -> Result<HeaderPart, String> {
    use AddressPart::{Ip, Port, Whole};
    if let Some(name) = word
        .strip_prefix("REQ(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        return request(name).ok_or_else(|| format!("`%{word}%` is not known"));
    }
    Ok(match word {
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            HeaderPart::Client(Whole)
        }
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => HeaderPart::Client(Ip),
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => HeaderPart::Client(Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => HeaderPart::Local(Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => HeaderPart::Local(Ip),
        "DOWNSTREAM_LOCAL_PORT" => HeaderPart::Local(Port),
        "DOWNSTREAM_PEER_URI_SAN" => HeaderPart::ClientIdentity,
        "REQUESTED_SERVER_NAME" => HeaderPart::ServerName,
        "PROTOCOL" => HeaderPart::Protocol,
        other => return Err(format!("`%{other}%` is not known")),
    })
}

fn request(name: &str) -> Option<HeaderPart> {
    Some(match name.to_ascii_lowercase().as_str() {
        ":authority" | "host" => HeaderPart::Authority,
        ":method" => HeaderPart::Method,
        ":path" => HeaderPart::Path,
        ":scheme" => HeaderPart::Scheme,
        name => HeaderPart::RequestHeader(HeaderName::from_bytes(name.as_bytes()).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_value_stays_as_it_is() {
        let fixed = |text| HeaderText::Fixed(HeaderValue::from_static(text));
        assert_eq!(read("a b"), Ok(fixed("a b")));
        assert_eq!(read(""), Ok(fixed("")));
        assert_eq!(read("100%% sure"), Ok(fixed("100% sure")));
    }

    #[test]
    fn words_of_envoy_are_read() {
        let text = |text: &str| HeaderPart::Text(text.to_owned());
        let cases = [
            (
                "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                vec![HeaderPart::Client(AddressPart::Ip)],
            ),
            (
                "for=%DOWNSTREAM_REMOTE_ADDRESS%;proto=%PROTOCOL%%%",
                vec![
                    text("for="),
                    HeaderPart::Client(AddressPart::Whole),
                    text(";proto="),
                    HeaderPart::Protocol,
                    text("%"),
                ],
            ),
            (
                "%REQ(:AUTHORITY)%%REQ(X-Id)%",
                vec![
                    HeaderPart::Authority,
                    HeaderPart::RequestHeader(HeaderName::from_static("x-id")),
                ],
            ),
        ];
        for (written, parts) in cases {
            assert_eq!(read(written), Ok(HeaderText::Composed(parts)), "{written}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for written in ["%START_TIME%", "%REQ(a b)%", "50%", "%PROTOCOL", "a\nb"] {
            assert!(read(written).is_err(), "{written}");
        }
        let error = read("x %UPSTREAM_CLUSTER%").unwrap_err();
        assert!(error.contains("%UPSTREAM_CLUSTER%"), "{error}");
    }
}
