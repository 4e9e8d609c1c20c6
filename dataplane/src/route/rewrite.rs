//! Replacing the path of a request before it is forwarded.

use super::conditions::element_prefix;
use meridian_model::route::{PathMatch, PathRewrite};

/// Which part of a path a route matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchedPath {
    /// All of it: an exact path or a regular expression.
    Whole,
    /// So many bytes from its start (Consul and Envoy).
    Bytes(usize),
    /// Path elements that are so many bytes long, without a trailing slash (Gateway API).
    Elements(usize),
}

impl MatchedPath {
    /// What a condition matches, wherever it does.
    pub(super) fn by(condition: &PathMatch) -> Self {
        match condition {
            PathMatch::Exact(_) | PathMatch::ExactIgnoringCase(_) | PathMatch::Regex(_) => {
                Self::Whole
            }
            PathMatch::Prefix(prefix) | PathMatch::PrefixIgnoringCase(prefix) => {
                Self::Bytes(prefix.len())
            }
            PathMatch::ElementPrefix(prefix) => Self::Elements(element_prefix(prefix).len()),
            PathMatch::Any => Self::Elements(0),
        }
    }
}

/// Why a path was not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// Replacement and rest together form a `.` or `..` that neither holds
    /// alone: `/a` replaced by `/b/` in `/a../x`. Answer 400.
    #[error("rewriting the path would form a dot segment")]
    DotSegment,
}

/// The new path, with the query of the old one.
///
/// After [`MatchedPath::Elements`] slashes are joined as the Gateway API lists
/// under `ReplacePrefixMatch`; after [`MatchedPath::Bytes`] the bytes are just
/// put together, as Envoy's `prefix_rewrite` does.
///
/// # Errors
/// When the result would leave the replacement by a dot segment.
pub fn rewrite_path(
    rewrite: &PathRewrite,
    matched: MatchedPath,
    path: &str,
    query: Option<&str>,
) -> Result<String, RewriteError> {
    let (start, rest) = match (rewrite, matched) {
        (PathRewrite::Full(whole), _) | (PathRewrite::Prefix(whole), MatchedPath::Whole) => {
            (whole.as_str(), "")
        }
        (PathRewrite::Prefix(start), MatchedPath::Bytes(length)) => {
            (start.as_str(), path.get(length..).unwrap_or_default())
        }
        (PathRewrite::Prefix(start), MatchedPath::Elements(length)) => {
            let rest = path.get(length..).unwrap_or_default();
            let start = if rest.is_empty() {
                start.as_str()
            } else {
                start.trim_end_matches('/')
            };
            (start, rest)
        }
    };
    // A prefix that ends with a slash leaves whole elements behind it.
    let whole = matches!(matched, MatchedPath::Bytes(length)
        if path.get(..length).is_some_and(|matched| matched.ends_with('/')));
    if joins_to_dot_segment(start, rest, whole) {
        return Err(RewriteError::DotSegment);
    }
    let query_length = query.map_or(0, |query| query.len() + 1);
    let mut target = String::with_capacity(1 + start.len() + rest.len() + query_length);
    // A request target starts with a slash, whatever was configured.
    let rooted = start.starts_with('/') || (start.is_empty() && rest.starts_with('/'));
    if !rooted {
        target.push('/');
    }
    target.push_str(start);
    target.push_str(rest);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Ok(target)
}

/// Whether the element across the joint is a dot segment. Elements that lie
/// wholly on one side were written by the operator, or by a client whose path is
/// not normalized here; `whole` says that the first one of `rest` is such.
fn joins_to_dot_segment(start: &str, rest: &str, whole: bool) -> bool {
    let left = start.rsplit('/').next().unwrap_or_default();
    let right = rest.split('/').next().unwrap_or_default();
    if right.is_empty() || (left.is_empty() && whole) {
        return false;
    }
    let dots = |text: &str| text.bytes().all(|byte| byte == b'.');
    dots(left) && dots(right) && left.len() + right.len() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(replacement: &str, matched: MatchedPath, path: &str) -> String {
        let rewrite = PathRewrite::Prefix(replacement.into());
        rewrite_path(&rewrite, matched, path, None).unwrap()
    }

    /// The table in the Gateway API's documentation of `ReplacePrefixMatch`.
    #[test]
    fn element_prefixes_are_replaced_with_care_for_slashes() {
        let cases = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/", "/xyz", "/xyz/foo"),
        ];
        for (path, prefix, replacement, expected) in cases {
            let matched = MatchedPath::by(&PathMatch::ElementPrefix(prefix.into()));
            let actual = rewritten(replacement, matched, path);
            assert_eq!(actual, expected, "{prefix} by {replacement} in {path}");
        }
    }

    #[test]
    fn byte_prefixes_are_replaced_as_written() {
        let cases = [
            ("/api/users", "/api/", "/", "/users"),
            ("/api/users", "/api", "/", "//users"),
            ("/apis", "/api", "/v1", "/v1s"),
            ("/api", "/api", "", "/"),
            ("/foo", "/", "/bar", "/barfoo"),
        ];
        for (path, prefix, replacement, expected) in cases {
            let matched = MatchedPath::by(&PathMatch::Prefix(prefix.into()));
            let actual = rewritten(replacement, matched, path);
            assert_eq!(actual, expected, "{prefix} by {replacement} in {path}");
        }
    }

    #[test]
    fn an_exact_match_is_replaced_as_a_whole() {
        assert_eq!(rewritten("/new", MatchedPath::Whole, "/old"), "/new");
    }

    #[test]
    fn the_query_stays() {
        let full = PathRewrite::Full("/n".into());
        let target = rewrite_path(&full, MatchedPath::Elements(2), "/a/b", Some("x=/a"));
        assert_eq!(target.unwrap(), "/n?x=/a");
    }

    #[test]
    fn a_rewrite_cannot_form_a_dot_segment() {
        let rewrite = PathRewrite::Prefix("/b/".into());
        for (path, refused) in [
            ("/a../secret", true),
            ("/a.", true),
            ("/a..", true),
            ("/a...", false),
            ("/a.x", false),
            ("/a/x", false),
        ] {
            let result = rewrite_path(&rewrite, MatchedPath::Bytes(2), path, None);
            assert_eq!(result.is_err(), refused, "{path}");
        }
    }

    #[test]
    fn a_dot_segment_that_was_there_is_none_of_the_rewrites_making() {
        for (replacement, path, expected) in [
            ("/", "/a/.", Ok("/.")),
            ("/b/", "/a/../x", Ok("/b/../x")),
            ("/b/.", "/a/.x", Ok("/b/..x")),
            ("/b/.", "/a/.", Err(RewriteError::DotSegment)),
        ] {
            let rewrite = PathRewrite::Prefix(replacement.into());
            let result = rewrite_path(&rewrite, MatchedPath::Bytes(3), path, None);
            assert_eq!(
                result.as_deref(),
                expected.as_ref().map(|text| *text),
                "{path}"
            );
        }
    }
}
