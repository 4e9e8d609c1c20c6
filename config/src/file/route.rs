//! Routes: which requests go where. Names are those of the Gateway API.

use super::{Duration, HeaderName, HeaderValue, HostPattern, Name};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Rules for some hosts of some listeners.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Unique name; metrics and access logs carry it, with the rule's.
    pub name: Name,
    /// Listeners that the route belongs to: all HTTP(S), or one `TCP`.
    #[schemars(length(min = 1))]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts. The listener's, if absent. Refused for `TCP`.
    #[serde(default)]
    pub hostnames: Vec<HostPattern>,
    /// What is done with which requests. The most specific match of all rules
    /// wins: exact path, longest prefix, regular expression; then a method;
    /// then most headers; then most query parameters; then the first. A route
    /// of a `TCP` listener has one rule, with `backendRefs` only.
    #[schemars(length(min = 1))]
    pub rules: Vec<Rule>,
}

/// A listener.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// Name of the listener.
    pub name: String,
}

/// What is done with which requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Name, unique in the route. Its position, if absent.
    pub name: Option<Name>,
    /// Which requests: those that any of these holds for. All, if absent.
    #[serde(default)]
    pub matches: Vec<RouteMatch>,
    /// What is changed on the way.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where requests go, each to one of these, drawn by weight. Required
    /// unless a filter redirects.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    /// How long a request may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// When a request is tried again. Never, if absent.
    pub retry: Option<Retry>,
}

/// Conditions on a request; all must hold.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// Condition on the path, after normalization and without the query.
    pub path: Option<PathMatch>,
    /// The method. All, if absent.
    pub method: Option<Method>,
    /// Conditions on headers.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters.
    #[serde(default)]
    pub query_params: Vec<QueryParamMatch>,
}

/// Condition on a path.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub kind: PathMatchType,
    /// What the path is compared with. Begins with `/`, save for expressions.
    pub value: String,
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Elements from the start: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`.
    #[default]
    PathPrefix,
    /// The whole path matches a regular expression (syntax of Rust's `regex`).
    RegularExpression,
}

/// Method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 and RFC 5789 say what they are")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// Condition on a header.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// Name of the header, in any case.
    pub name: HeaderName,
    /// What the header is compared with.
    pub value: String,
}

/// Condition on a query parameter.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryParamMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// Name of the parameter; the first of that name counts.
    pub name: String,
    /// What the parameter is compared with.
    pub value: String,
}

/// How a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum ValueMatchType {
    /// Equal.
    #[default]
    Exact,
    /// The whole text matches a regular expression (syntax of Rust's `regex`).
    RegularExpression,
}

/// A change on the way: `type`, and the block of that name.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// Which change. Each stands once in a rule.
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// Changes to the request's headers.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes to the response's headers.
    pub response_header_modifier: Option<HeaderModifier>,
    /// Answers with a redirect.
    pub request_redirect: Option<Redirect>,
    /// Replaces parts of the URL before it is forwarded.
    pub url_rewrite: Option<UrlRewrite>,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum FilterType {
    /// See `requestHeaderModifier`.
    RequestHeaderModifier,
    /// See `responseHeaderModifier`.
    ResponseHeaderModifier,
    /// See `requestRedirect`.
    RequestRedirect,
    /// See `urlRewrite`.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
}

/// Changes to headers, in this order: remove, set, add.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderModifier {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Written in place of whatever was there.
    pub set: Vec<Header>,
    /// Written beside what was there.
    pub add: Vec<Header>,
}

/// A header.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
}

/// Answers with a redirect. What is absent stays as in the request.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// Other scheme.
    pub scheme: Option<Scheme>,
    /// Other host.
    pub hostname: Option<HostPattern>,
    /// Other port. That of the scheme, if absent and the scheme changes.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Other path.
    pub path: Option<PathRewrite>,
    /// Status code.
    #[serde(default)]
    pub status_code: RedirectStatus,
}

/// Status code of a redirect: 301, 302, 303, 307 or 308.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct RedirectStatus(pub u16);

impl Default for RedirectStatus {
    /// 302, as in the Gateway API: a mistake is not remembered by browsers.
    fn default() -> Self {
        Self(302)
    }
}

impl JsonSchema for RedirectStatus {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RedirectStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "enum": [301, 302, 303, 307, 308] })
    }
}

/// Scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Scheme {
    Http,
    Https,
}

/// Replaces parts of the URL before it is forwarded.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlRewrite {
    /// Other path; the query stays.
    pub path: PathRewrite,
}

/// Other path: `type`, and the text of that name.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathRewrite {
    /// What is replaced.
    #[serde(rename = "type")]
    pub kind: PathRewriteType,
    /// In place of the whole path.
    pub replace_full_path: Option<String>,
    /// In place of what `PathPrefix` matched. All matches of the rule must be such.
    pub replace_prefix_match: Option<String>,
}

/// Which part of the path is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PathRewriteType {
    /// See `replaceFullPath`.
    ReplaceFullPath,
    /// See `replacePrefixMatch`.
    ReplacePrefixMatch,
}

/// A backend and its share.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// Name of the backend.
    pub name: String,
    /// Share relative to the sum of the shares. 0 gets nothing.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
}

/// Equal shares, unless said otherwise.
fn one() -> u32 {
    1
}

/// How long a request may take. `0s` is no limit.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// From the end of the request's head to the end of the response. 15s, if absent.
    pub request: Option<Duration>,
    /// One try, from choosing an endpoint to the response's head. No limit of
    /// its own, if absent.
    pub backend_request: Option<Duration>,
}

/// When a request is tried again. A request that may have reached a backend is
/// tried again only for the `codes` given.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Tries after the first.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// Status codes that are tried again. Connections that fail always are.
    #[serde(default)]
    #[schemars(inner(range(min = 400, max = 599)))]
    pub codes: Vec<u16>,
    /// Wait before the second try; doubles for each further one, up to tenfold,
    /// with jitter. 25ms, if absent.
    pub backoff: Option<Duration>,
}
