//! Conditions on requests.

use super::Context;
use crate::file::{
    HeaderMatch as WrittenHeader, Method, PathMatch as WrittenPath, PathMatchType, QueryParamMatch,
    RouteMatch as Written, ValueMatchType,
};
use crate::path::Path;
use meridian_model::route::{HeaderMatch, PathMatch, QueryMatch, ValueMatch};
use meridian_model::{Pattern, RouteMatch};

/// The conditions of a rule, of which one must hold; all requests for none.
pub(super) fn lower(written: &[Written], cx: &mut Context<'_>, list: &Path) -> Vec<RouteMatch> {
    if written.is_empty() {
        return vec![RouteMatch::default()];
    }
    written
        .iter()
        .enumerate()
        .map(|(index, written)| one(written, cx, &list.index(index)))
        .collect()
}

fn one(written: &Written, cx: &mut Context<'_>, path: &Path) -> RouteMatch {
    let headers = path.key("headers");
    let query = path.key("queryParams");
    RouteMatch {
        path: match &written.path {
            Some(written) => path_match(written, cx, &path.key("path")),
            None => PathMatch::Any,
        },
        methods: written.method.map(method).into_iter().collect(),
        headers: written
            .headers
            .iter()
            .enumerate()
            .map(|(index, written)| header(written, cx, &headers.index(index)))
            .collect(),
        query: written
            .query_params
            .iter()
            .enumerate()
            .map(|(index, written)| parameter(written, cx, &query.index(index)))
            .collect(),
    }
}

fn path_match(written: &WrittenPath, cx: &mut Context<'_>, path: &Path) -> PathMatch {
    if !cx.sound(&path.key("type")) {
        return PathMatch::Any;
    }
    let path = &path.key("value");
    if written.kind == PathMatchType::RegularExpression {
        return pattern(&written.value, cx, path).map_or(PathMatch::Any, PathMatch::Regex);
    }
    if let Some(reason) = never_normal(&written.value) {
        cx.error(path, reason);
    }
    match (written.kind, written.value.trim_end_matches('/')) {
        (PathMatchType::Exact, _) => PathMatch::Exact(written.value.clone()),
        (_, "") => PathMatch::Any,
        (_, elements) => PathMatch::ElementPrefix(elements.to_owned()),
    }
}

/// Why no normalized path equals `path` or begins with it.
pub(super) fn never_normal(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("expected a path that begins with /");
    }
    if path.contains(['?', '#']) {
        return Some("expected a path without query and fragment");
    }
    if path.contains('\\') || path.contains("//") {
        return Some("paths are normalized before matching: expected single forward slashes");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some("paths are normalized before matching: expected no . and .. segments");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("expected spaces and characters beyond ASCII percent-encoded");
    }
    let needless = path.split('%').skip(1).any(|escape| {
        let byte = escape
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_none_or(|b| b.is_ascii_alphanumeric() || b"-._~/\\".contains(&b))
    });
    needless.then_some(
        "paths are normalized before matching: expected % only before the two digits of a \
         character that needs it, and never for a slash",
    )
}

fn header(written: &WrittenHeader, cx: &mut Context<'_>, path: &Path) -> HeaderMatch {
    HeaderMatch {
        name: written.name.0.clone(),
        value: value(written.kind, &written.value, cx, &path.key("value")),
        invert: false,
    }
}

fn parameter(written: &QueryParamMatch, cx: &mut Context<'_>, path: &Path) -> QueryMatch {
    QueryMatch {
        name: written.name.clone(),
        value: value(written.kind, &written.value, cx, &path.key("value")),
    }
}

fn value(kind: ValueMatchType, text: &str, cx: &mut Context<'_>, path: &Path) -> ValueMatch {
    match kind {
        ValueMatchType::Exact => ValueMatch::Exact(text.to_owned()),
        ValueMatchType::RegularExpression => {
            pattern(text, cx, path).map_or(ValueMatch::Present, ValueMatch::Regex)
        }
    }
}

fn pattern(text: &str, cx: &mut Context<'_>, path: &Path) -> Option<Pattern> {
    Pattern::new(text)
        .inspect_err(|error| {
            // The first lines draw the expression with its anchors; the last says why.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            cx.error(path, format!("expected a regular expression: {reason}"));
        })
        .ok()
}

fn method(written: Method) -> http::Method {
    match written {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
        Method::Connect => http::Method::CONNECT,
        Method::Options => http::Method::OPTIONS,
        Method::Trace => http::Method::TRACE,
        Method::Patch => http::Method::PATCH,
    }
}

#[cfg(test)]
mod tests {
    use super::never_normal;

    #[test]
    fn paths_that_normalization_would_change_are_refused() {
        for bad in [
            "a", "/a?b", "/a//b", "/a/../b", "/a\\b", "/a b", "/%41", "/a%2Fb", "/%",
        ] {
            assert!(never_normal(bad).is_some(), "{bad}");
        }
        for good in ["/", "/a/", "/a%20b", "/a.b/..c", "/%C3%A4"] {
            assert_eq!(never_normal(good), None, "{good}");
        }
    }
}
