//! What a request's head and a response's have in common where their headers are changed.

use crate::headers::{RequestHeader, ResponseHeader};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_error::Result;

/// A head whose headers can be changed. Errors come when it would have more than it can hold.
pub(crate) trait Head {
    fn headers(&self) -> &HeaderMap;
    fn remove(&mut self, name: &HeaderName);
    /// Writes a header in place of whatever was there.
    fn insert(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()>;
    /// Writes a header beside what was there.
    fn append(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()>;
}

impl Head for RequestHeader {
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn insert(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.insert_header(name, value)
    }

    fn append(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.append_header(name, value).map(drop)
    }
}

impl Head for ResponseHeader {
    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn insert(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.insert_header(name, value)
    }

    fn append(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.append_header(name, value).map(drop)
    }
}
