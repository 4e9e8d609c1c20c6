//! One request as data, and how it is written onto the agent's address.

use std::{io, sync::Arc};

use http::Method;
use serde::Serialize;
use url::Url;

use crate::{config::ClientConfig, error::Endpoint};

/// One request, as data: a watch sends it again and again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    /// Unescaped path segments.
    path: Vec<String>,
    parameters: Vec<(&'static str, String)>,
    /// The body, or why there is none: reported when the call is sent.
    pub(crate) body: Option<Result<Vec<u8>, Arc<serde_json::Error>>>,
    pub(crate) media_type: &'static str,
    /// A 404 is an answer: the object isn't there.
    pub(crate) may_be_absent: bool,
}

impl Call {
    pub(crate) fn new<'a>(
        operation: &'static str,
        method: Method,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            operation,
            method,
            path: path.into_iter().map(ToOwned::to_owned).collect(),
            parameters: Vec::new(),
            body: None,
            media_type: "application/json",
            may_be_absent: false,
        }
    }

    pub(crate) fn get<'a>(
        operation: &'static str,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::new(operation, Method::GET, path)
    }

    pub(crate) fn put<'a>(
        operation: &'static str,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::new(operation, Method::PUT, path)
    }

    pub(crate) fn delete<'a>(
        operation: &'static str,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::new(operation, Method::DELETE, path)
    }

    /// Adds a parameter; a later one of the same name wins.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.retain(|(existing, _)| *existing != name);
        self.also(name, value)
    }

    /// Adds a parameter beside others of its name.
    pub(crate) fn also(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).map_err(Arc::new));
        self
    }

    pub(crate) fn bytes(mut self, body: Vec<u8>) -> Self {
        self.media_type = "application/octet-stream";
        self.body = Some(Ok(body));
        self
    }

    /// The whole request in words: equal ones ask the same.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} /{}", self.method, self.path.join("/"));
        for (name, value) in &self.parameters {
            words.push_str(&format!(" {name}={value}"));
        }
        if let Some(Ok(body)) = &self.body {
            words.push(' ');
            words.push_str(&String::from_utf8_lossy(body));
        }
        words
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            operation: self.operation,
            path: format!("/{}", self.path.join("/")),
        }
    }

    /// Writes path and parameters onto the agent's address.
    pub(crate) fn extend(&self, url: &mut Url, config: &ClientConfig) -> Result<(), io::Error> {
        // The URL syntax drops these segments even when escaped, which would ask for another path.
        if self
            .path
            .iter()
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(io::Error::other("`.` and `..` cannot be path segments"));
        }
        url.path_segments_mut()
            .map_err(|()| io::Error::other("the agent's address has no path"))?
            .pop_if_empty()
            .extend(&self.path);
        let named = |name| {
            self.parameters
                .iter()
                .any(|(existing, _)| *existing == name)
        };
        let defaults = [
            ("dc", &config.datacenter),
            ("ns", &config.namespace),
            ("partition", &config.partition),
        ];
        let defaults = defaults.into_iter().filter(|(name, _)| !named(*name));
        let defaults = defaults.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in self.parameters.iter().map(|(n, v)| (*n, v)).chain(defaults) {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    fn written(call: &Call, base: &str, config: &ClientConfig) -> Result<String, io::Error> {
        let mut url = Url::parse(base).unwrap();
        call.extend(&mut url, config).map(|()| url.to_string())
    }

    fn config() -> ClientConfig {
        ClientConfig::new(Address::parse(Address::DEFAULT, false).unwrap())
    }

    #[test]
    fn names_are_escaped_and_prefix_is_kept() {
        let call = Call::get("read", ["v1", "agent", "service", "a b/c?d"]).with("index", "1");
        let url = written(&call, "http://a/consul", &config()).unwrap();
        assert_eq!(
            url,
            "http://a/consul/v1/agent/service/a%20b%2Fc%3Fd?index=1"
        );
    }

    #[test]
    fn key_with_trailing_slash_keeps_it() {
        let call = Call::get("read", ["v1", "kv", "folder", ""]);
        assert!(
            written(&call, "http://a", &config())
                .unwrap()
                .starts_with("http://a/v1/kv/folder/")
        );
    }

    #[test]
    fn dots_cannot_climb_to_another_path() {
        let call = Call::get("read", ["v1", "agent", "service", ".."]);
        written(&call, "http://a", &config()).unwrap_err();
    }

    #[test]
    fn request_wins_over_the_clients_datacenter() {
        let config = ClientConfig {
            datacenter: Some("dc1".to_owned()),
            ..config()
        };
        let call = Call::get("read", ["v1"]);
        assert!(
            written(&call, "http://a", &config)
                .unwrap()
                .ends_with("?dc=dc1")
        );
        let call = call.with("dc", "dc2");
        assert!(
            written(&call, "http://a", &config)
                .unwrap()
                .ends_with("?dc=dc2")
        );
    }
}
