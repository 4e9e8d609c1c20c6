//! The heads of requests and responses: the parts of the `http` crate, with changes that fail
//! instead of panicking where a map is full.
//!
//! Not Pingora's: those keep the case of each name in a second map, and write and parse a name
//! again for each insertion, which was a tenth of what a request costs.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use http::{request, response};
use pingora_error::ErrorType::InvalidHTTPHeader;
use pingora_error::{Error, OrErr, Result};
use std::ops::Deref;

/// A request's head.
#[derive(Debug, Clone)]
pub struct RequestHeader(request::Parts);

/// A response's head.
#[derive(Debug, Clone)]
pub struct ResponseHeader(response::Parts);

impl RequestHeader {
    /// A head without headers, with room for `room` of them.
    ///
    /// # Errors
    /// When the method is no token, or `target` no path with a query.
    pub fn build(method: impl TryInto<Method>, target: &[u8], room: Option<usize>) -> Result<Self> {
        let mut request = http::Request::new(());
        let method = method.try_into().ok();
        *request.method_mut() = method.ok_or_else(|| malformed("method"))?;
        request.headers_mut().reserve(room.unwrap_or_default());
        let mut head = Self(request.into_parts().0);
        head.set_raw_path(target)?;
        Ok(head)
    }

    /// The target as it goes out: path and query.
    pub fn raw_path(&self) -> &[u8] {
        let target = self.0.uri.path_and_query();
        target.map_or(b"/", |target| target.as_str().as_bytes())
    }

    /// Another path and query, under no authority.
    ///
    /// # Errors
    /// When they are none.
    pub fn set_raw_path(&mut self, target: &[u8]) -> Result<()> {
        let target = http::uri::PathAndQuery::try_from(target);
        let target = target.or_err(InvalidHTTPHeader, "no path and query")?;
        self.0.uri = target.into();
        Ok(())
    }

    /// Another URI.
    pub fn set_uri(&mut self, uri: Uri) {
        self.0.uri = uri;
    }

    /// Another version.
    pub fn set_version(&mut self, version: Version) {
        self.0.version = version;
    }
}

impl ResponseHeader {
    /// A head without headers, with room for `room` of them.
    ///
    /// # Errors
    /// When the status is none.
    pub fn build(status: impl TryInto<StatusCode>, room: Option<usize>) -> Result<Self> {
        let mut response = http::Response::new(());
        let status = status.try_into().ok();
        *response.status_mut() = status.ok_or_else(|| malformed("status"))?;
        response.headers_mut().reserve(room.unwrap_or_default());
        Ok(Self(response.into_parts().0))
    }

    /// Another version.
    pub fn set_version(&mut self, version: Version) {
        self.0.version = version;
    }
}

macro_rules! headers {
    ($head:ty, $parts:ty) => {
        impl $head {
            /// Writes a header in place of whatever was there.
            ///
            /// # Errors
            /// When name or value is none, or the map is full.
            pub fn insert_header(
                &mut self,
                name: impl TryInto<HeaderName>,
                value: impl TryInto<HeaderValue>,
            ) -> Result<()> {
                let (name, value) = header(name, value)?;
                let inserted = self.0.headers.try_insert(name, value);
                inserted.or_err(InvalidHTTPHeader, "too many headers")?;
                Ok(())
            }

            /// Writes a header beside what was there.
            ///
            /// # Errors
            /// When name or value is none, or the map is full.
            pub fn append_header(
                &mut self,
                name: impl TryInto<HeaderName>,
                value: impl TryInto<HeaderValue>,
            ) -> Result<bool> {
                let (name, value) = header(name, value)?;
                let appended = self.0.headers.try_append(name, value);
                appended.or_err(InvalidHTTPHeader, "too many headers")
            }

            /// Removes all headers of a name.
            pub fn remove_header(&mut self, name: impl AsHeaderName) -> Option<HeaderValue> {
                self.0.headers.remove(name)
            }

            /// The headers, to be changed.
            pub fn headers_mut(&mut self) -> &mut HeaderMap {
                &mut self.0.headers
            }
        }

        impl Deref for $head {
            type Target = $parts;

            fn deref(&self) -> &$parts {
                &self.0
            }
        }

        impl From<$parts> for $head {
            fn from(parts: $parts) -> Self {
                Self(parts)
            }
        }

        impl From<$head> for $parts {
            fn from(head: $head) -> Self {
                head.0
            }
        }
    };
}

headers!(RequestHeader, request::Parts);
headers!(ResponseHeader, response::Parts);

fn header(
    name: impl TryInto<HeaderName>,
    value: impl TryInto<HeaderValue>,
) -> Result<(HeaderName, HeaderValue)> {
    let name = name.try_into().ok();
    let value = value.try_into().ok();
    name.zip(value).ok_or_else(|| malformed("header"))
}

fn malformed(what: &'static str) -> Box<Error> {
    Error::explain(InvalidHTTPHeader, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_with_a_query() {
        let mut head = RequestHeader::build("GET", b"/a?b=c", None).unwrap();
        assert_eq!(head.raw_path(), b"/a?b=c");
        head.set_uri(Uri::from_static("http://host/x?y"));
        assert_eq!(head.raw_path(), b"/x?y");
        for target in [&b"*"[..], b"/"] {
            head.set_raw_path(target).unwrap();
            assert_eq!(head.raw_path(), target);
        }
        assert!(head.set_raw_path(b"/a b").is_err());
        assert!(head.set_raw_path(b"/a\r\n").is_err());
        assert!(RequestHeader::build("no token", b"/", None).is_err());
    }

    #[test]
    fn headers_are_replaced_added_and_removed() {
        let mut head = ResponseHeader::build(200, Some(4)).unwrap();
        head.insert_header("X-A", "1").unwrap();
        head.append_header("x-a", "2").unwrap();
        assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
        head.insert_header("x-a", 3).unwrap();
        assert_eq!(head.headers["x-a"], "3");
        assert!(head.insert_header("x a", "1").is_err());
        assert!(head.insert_header("x-a", "1\n").is_err());
        head.remove_header("x-a");
        assert!(head.headers.is_empty());
    }
}
