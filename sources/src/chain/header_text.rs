//! Header values as entries write them: `%` begins a word of Envoy's, `%%` is a percent sign.
//!
//! Consul hands values to Envoy as they stand, so its users write Envoy's words. Those that speak
//! of the request and its connection are known here; any other is an error, not a text.

use http::{HeaderName, HeaderValue};
use meridian_model::HeaderText;
use meridian_model::header::{AddressPart, HeaderPart};
use meridian_model::operator::{self, Operator, Piece};

/// Reads a value, or says why it can't be written.
pub(super) fn read(written: &str) -> Result<HeaderText, String> {
    let parts = operator::pieces(written).into_iter().map(part);
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    match &*parts {
        [] => fixed("").map(HeaderText::Fixed),
        [HeaderPart::Text(text)] => fixed(text).map(HeaderText::Fixed),
        _ => Ok(HeaderText::Composed(parts)),
    }
}

fn part(piece: Piece<'_>) -> Result<HeaderPart, String> {
    match piece {
        Piece::Text(text) => fixed(&text).map(|_| HeaderPart::Text(text)),
        Piece::Operator(operator) => {
            known(&operator).ok_or_else(|| format!("`{operator}` is not known"))
        }
        Piece::Unclosed(rest) => Err(format!("`%{rest}` has no end")),
    }
}

fn fixed(text: &str) -> Result<HeaderValue, String> {
    let not_allowed = |_| format!("`{}` is no header value", text.escape_debug());
    HeaderValue::from_str(text).map_err(not_allowed)
}

fn known(operator: &Operator<'_>) -> Option<HeaderPart> {
    use AddressPart::{Ip, Port, Whole};
    if operator.length.is_some() {
        return None;
    }
    Some(match (operator.name, operator.argument) {
        ("REQ", Some(name)) => return request(name),
        ("DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", None) => {
            HeaderPart::Client(Whole)
        }
        (
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
            None,
        ) => HeaderPart::Client(Ip),
        ("DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT", None) => {
            HeaderPart::Client(Port)
        }
        ("DOWNSTREAM_LOCAL_ADDRESS", None) => HeaderPart::Local(Whole),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", None) => HeaderPart::Local(Ip),
        ("DOWNSTREAM_LOCAL_PORT", None) => HeaderPart::Local(Port),
        ("DOWNSTREAM_PEER_URI_SAN", None) => HeaderPart::ClientIdentity,
        ("REQUESTED_SERVER_NAME", None) => HeaderPart::ServerName,
        ("PROTOCOL", None) => HeaderPart::Protocol,
        _ => return None,
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
        for written in ["%PROTOCOL:3%", "%PROTOCOL(a)%", "%REQ(X-Id):3%", "%REQ%"] {
            assert!(read(written).is_err(), "{written}");
        }
        let error = read("%START_TIME(%Y)%").unwrap_err();
        assert!(error.contains("%START_TIME(%Y)%"), "{error}");
        let error = read("x %UPSTREAM_CLUSTER%").unwrap_err();
        assert!(error.contains("%UPSTREAM_CLUSTER%"), "{error}");
    }
}
