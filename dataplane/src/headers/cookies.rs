//! Joining the cookie header that HTTP/2 may split.

use crate::headers::RequestHeader;
use http::header::COOKIE;

/// Joins several `cookie` lines by `; ` before the request goes on over
/// HTTP/1.1 (RFC 9113, 8.2.3). Allocates only where there are several.
///
/// # Errors
/// When the joined value is no header value, which its parts exclude.
pub fn join_cookies(request: &mut RequestHeader) -> pingora_error::Result<()> {
    let mut crumbs = request.headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    request.insert_header(COOKIE, joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie() {
        for (crumbs, expected) in [
            (&["a=1"][..], "a=1"),
            (&["a=1", "b=2", "c=3"][..], "a=1; b=2; c=3"),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for crumb in crumbs {
                request.append_header(COOKIE, *crumb).unwrap();
            }
            join_cookies(&mut request).unwrap();
            let values: Vec<_> = request.headers.get_all(COOKIE).iter().collect();
            assert_eq!(values, [expected]);
        }
    }
}
