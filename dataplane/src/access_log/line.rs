//! How a line of the access log looks: from Envoy's operators to what a record here can tell.

use meridian_model::access_log::LinePlan;
use meridian_model::operator::{self, Operator};
use meridian_telemetry::access_log::{Field, LinePattern, Piece};

/// Reads a plan. Beside it, the operators that hold nothing here.
pub(super) fn pattern(plan: &LinePlan) -> (LinePattern, Vec<String>) {
    let mut unknown = Vec::new();
    let pattern = match plan {
        LinePlan::Text(text) => LinePattern::Text(pieces(text, &mut unknown)),
        LinePlan::Json(fields) => {
            let read = |(name, text): &(String, String)| (name.clone(), pieces(text, &mut unknown));
            LinePattern::Json(fields.iter().map(read).collect())
        }
    };
    (pattern, unknown)
}

fn pieces(text: &str, unknown: &mut Vec<String>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for piece in operator::pieces(text) {
        match piece {
            operator::Piece::Text(text) => pieces.push(Piece::Words(text)),
            operator::Piece::Operator(operator) => {
                let field = field(&operator);
                if field == Field::Nothing {
                    unknown.push(operator.to_string());
                }
                pieces.push(Piece::Field(field, operator.length));
            }
            operator::Piece::Unclosed(rest) => unknown.push(format!("%{rest}")),
        }
    }
    pieces
}

fn field(operator: &Operator<'_>) -> Field {
    if let Some(header) = operator.request_header() {
        return request_header(header);
    }
    match (operator.name, operator.argument) {
        ("RESP", Some(header)) if is(header, "x-envoy-upstream-service-time") => {
            Field::UpstreamDuration
        }
        ("START_TIME", None) => Field::StartTime,
        ("DURATION", None) => Field::Duration,
        ("PROTOCOL", None) => Field::Protocol,
        ("RESPONSE_CODE", None) => Field::Status,
        ("RESPONSE_FLAGS", None) => Field::Flags,
        ("RESPONSE_CODE_DETAILS", None) => Field::Details,
        ("BYTES_RECEIVED", None) => Field::Received,
        ("BYTES_SENT", None) => Field::Sent,
        ("UPSTREAM_HOST", None) => Field::Endpoint,
        ("UPSTREAM_CLUSTER", None) => Field::Cluster,
        ("ROUTE_NAME", None) => Field::Route,
        ("DOWNSTREAM_REMOTE_ADDRESS", None) => Field::Client,
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None) => Field::ClientAddress,
        ("DOWNSTREAM_PEER_URI_SAN", None) => Field::PeerIdentity,
        _ => Field::Nothing,
    }
}

/// The path of a record is the one before any rewrite.
fn request_header(header: &str) -> Field {
    for (name, field) in [
        (":method", Field::Method),
        (":path", Field::Path),
        ("x-envoy-original-path", Field::Path),
        (":authority", Field::Authority),
        ("host", Field::Authority),
        ("user-agent", Field::UserAgent),
        ("x-request-id", Field::RequestId),
    ] {
        if is(header, name) {
            return field;
        }
    }
    Field::Nothing
}

fn is(header: &str, name: &str) -> bool {
    header.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str) -> (Vec<Piece>, Vec<String>) {
        match super::pattern(&LinePlan::Text(pattern.to_owned())) {
            (LinePattern::Text(pieces), unknown) => (pieces, unknown),
            (LinePattern::Json(_), _) => panic!("a text was asked for"),
        }
    }

    fn words(words: &str) -> Piece {
        Piece::Words(words.to_owned())
    }

    fn whole(field: Field) -> Piece {
        Piece::Field(field, None)
    }

    #[test]
    fn operators_become_fields_of_a_record() {
        let (pieces, unknown) = text(
            "[%START_TIME%] %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\
             %RESPONSE_CODE%%RESPONSE_FLAGS%%RESPONSE_CODE_DETAILS% %DURATION%ms 100%% \
             %REQ(USER-AGENT):3%%UPSTREAM_HOST%%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n",
        );
        assert_eq!(unknown, Vec::<String>::new());
        let expected = [
            words("["),
            whole(Field::StartTime),
            words("] "),
            whole(Field::Method),
            words(" "),
            whole(Field::Path),
            words(" "),
            whole(Field::Protocol),
            whole(Field::Status),
            whole(Field::Flags),
            whole(Field::Details),
            words(" "),
            whole(Field::Duration),
            words("ms 100% "),
            Piece::Field(Field::UserAgent, Some(3)),
            whole(Field::Endpoint),
            whole(Field::ClientAddress),
            words("\n"),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn an_object_has_a_pattern_for_each_field() {
        let field = |name: &str, pattern: &str| (name.to_owned(), pattern.to_owned());
        let (pattern, unknown) = pattern(&LinePlan::Json(vec![
            field("code", "%RESPONSE_CODE%"),
            field("both", "%BYTES_SENT% bytes"),
            field("odd", "%DYNAMIC_METADATA(a)%"),
        ]));
        let expected = LinePattern::Json(vec![
            ("code".to_owned(), vec![whole(Field::Status)]),
            ("both".to_owned(), vec![whole(Field::Sent), words(" bytes")]),
            ("odd".to_owned(), vec![whole(Field::Nothing)]),
        ]);
        assert_eq!(pattern, expected);
        assert_eq!(unknown, ["%DYNAMIC_METADATA(a)%"]);
    }

    #[test]
    fn operators_that_hold_nothing_are_told() {
        let (pieces, unknown) =
            text("%REQ(X-FOO)% %START_TIME(%Y/%m)% %DYNAMIC_METADATA(a:b)% %RESP(A):5% %DURATION");
        let told = [
            "%REQ(X-FOO)%",
            "%START_TIME(%Y/%m)%",
            "%DYNAMIC_METADATA(a:b)%",
            "%RESP(A):5%",
            "%DURATION",
        ];
        assert_eq!(unknown, told);
        let nothing = || whole(Field::Nothing);
        let expected = [
            nothing(),
            words(" "),
            nothing(),
            words(" "),
            nothing(),
            words(" "),
            Piece::Field(Field::Nothing, Some(5)),
            words(" "),
        ];
        assert_eq!(pieces, expected);
    }
}
