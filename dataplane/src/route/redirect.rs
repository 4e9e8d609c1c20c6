//! The `Location` of a redirect that a route orders.

use super::rewrite::{MatchedPath, RewriteError, rewrite_path};
use meridian_model::route::Redirect;
use std::fmt::Write;

/// Where the client's request went, as far as a redirect keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// Port of the listener.
    pub port: u16,
}

/// Builds the absolute `Location`. As the Gateway API asks: without a port of
/// its own a redirect takes the well-known port of a scheme that it changes,
/// else the listener's, and well-known ports are not written.
///
/// # Errors
/// When the path cannot be rewritten; answer 400.
pub fn redirect_location(
    redirect: &Redirect,
    origin: Origin<'_>,
    matched: MatchedPath,
    path: &str,
    query: Option<&str>,
) -> Result<String, RewriteError> {
    let scheme = redirect.scheme.as_deref().unwrap_or(origin.scheme);
    let host = redirect.host.as_deref().unwrap_or(origin.host);
    let inherited = redirect.scheme.is_none().then_some(origin.port);
    let port = redirect.port.or(inherited);
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| well_known_port(scheme) != Some(*port)) {
        // Writing to a string cannot fail.
        let _ = write!(location, ":{port}");
    }
    match &redirect.path {
        Some(rewrite) => location.push_str(&rewrite_path(rewrite, matched, path, query)?),
        None => {
            location.push_str(path);
            if let Some(query) = query {
                location.push('?');
                location.push_str(query);
            }
        }
    }
    Ok(location)
}

fn well_known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::route::PathRewrite;

    #[test]
    fn locations_follow_the_gateway_api() {
        let keep = Redirect {
            status: 302,
            scheme: None,
            host: None,
            port: None,
            path: None,
        };
        let https = Redirect {
            scheme: Some("https".into()),
            ..keep.clone()
        };
        let cases = [
            (keep.clone(), 80, "http://h/a/b?q=1"),
            (keep.clone(), 8080, "http://h:8080/a/b?q=1"),
            (https.clone(), 8080, "https://h/a/b?q=1"),
            (
                Redirect {
                    port: Some(8443),
                    ..https
                },
                80,
                "https://h:8443/a/b?q=1",
            ),
            (
                Redirect {
                    host: Some("other".into()),
                    path: Some(PathRewrite::Prefix("/z".into())),
                    ..keep.clone()
                },
                80,
                "http://other/z/b?q=1",
            ),
            (
                Redirect {
                    port: Some(80),
                    ..keep
                },
                8080,
                "http://h/a/b?q=1",
            ),
        ];
        for (redirect, port, expected) in cases {
            let origin = Origin {
                scheme: "http",
                host: "h",
                port,
            };
            let matched = MatchedPath::Elements(2);
            let location = redirect_location(&redirect, origin, matched, "/a/b", Some("q=1"));
            assert_eq!(location.unwrap(), expected);
        }
    }
}
