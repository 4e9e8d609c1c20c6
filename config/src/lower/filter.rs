//! Filters of a rule.

use super::Context;
use super::matches::never_normal;
use crate::file::{
    Filter, FilterType, Header, HeaderModifier as WrittenModifier, PathRewrite as WrittenRewrite,
    PathRewriteType, Redirect as WrittenRedirect, Scheme,
};
use crate::path::Path;
use http::HeaderName;
use meridian_model::route::{HeaderModifier, PathMatch, PathRewrite, Redirect};
use meridian_model::{HeaderText, RouteMatch};
use std::collections::HashSet;

/// What the filters of a rule do.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) request_headers: HeaderModifier,
    pub(super) response_headers: HeaderModifier,
    pub(super) redirect: Option<Redirect>,
    pub(super) rewrite: Option<PathRewrite>,
}

/// The filters of a rule with these conditions.
pub(super) fn lower(
    filters: &[Filter],
    matches: &[RouteMatch],
    cx: &mut Context<'_>,
    list: &Path,
) -> Changes {
    let mut changes = Changes::default();
    let mut kinds = HashSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let path = list.index(index);
        if !kinds.insert(filter.kind) {
            cx.error(
                &path.key("type"),
                "expected each type of filter once in a rule",
            );
        }
        refuse_other_blocks(filter, cx, &path);
        apply(filter, matches, &mut changes, cx, &path);
    }
    if changes.redirect.is_some() && changes.rewrite.is_some() {
        cx.error(list, "expected only one of RequestRedirect and URLRewrite");
    }
    changes
}

fn apply(
    filter: &Filter,
    matches: &[RouteMatch],
    changes: &mut Changes,
    cx: &mut Context<'_>,
    path: &Path,
) {
    let block = path.key(block_of(filter.kind));
    let written = match filter.kind {
        FilterType::RequestHeaderModifier => filter
            .request_header_modifier
            .as_ref()
            .map(|written| changes.request_headers = modifier(written)),
        FilterType::ResponseHeaderModifier => filter
            .response_header_modifier
            .as_ref()
            .map(|written| changes.response_headers = modifier(written)),
        FilterType::RequestRedirect => filter
            .request_redirect
            .as_ref()
            .map(|written| changes.redirect = Some(redirect(written, matches, cx, &block))),
        FilterType::UrlRewrite => filter.url_rewrite.as_ref().map(|written| {
            changes.rewrite = rewrite(&written.path, matches, cx, &block.key("path"))
        }),
    };
    if written.is_none() {
        let message = format!("expected {}, as type says", block_of(filter.kind));
        cx.error(path, message);
    }
}

fn block_of(kind: FilterType) -> &'static str {
    match kind {
        FilterType::RequestHeaderModifier => "requestHeaderModifier",
        FilterType::ResponseHeaderModifier => "responseHeaderModifier",
        FilterType::RequestRedirect => "requestRedirect",
        FilterType::UrlRewrite => "urlRewrite",
    }
}

fn refuse_other_blocks(filter: &Filter, cx: &mut Context<'_>, path: &Path) {
    let kinds = [
        FilterType::RequestHeaderModifier,
        FilterType::ResponseHeaderModifier,
        FilterType::RequestRedirect,
        FilterType::UrlRewrite,
    ];
    for kind in kinds {
        let block = path.key(block_of(kind));
        if kind != filter.kind && cx.written(&block) && cx.sound(&path.key("type")) {
            cx.error(&block, "does not belong to the filter's type");
        }
    }
}

fn modifier(written: &WrittenModifier) -> HeaderModifier {
    let headers = |list: &[Header]| -> Vec<(HeaderName, HeaderText)> {
        list.iter()
            .map(|header| (header.name.0.clone(), header.value.0.clone().into()))
            .collect()
    };
    HeaderModifier {
        remove: written.remove.iter().map(|name| name.0.clone()).collect(),
        set: headers(&written.set),
        add: headers(&written.add),
    }
}

fn redirect(
    written: &WrittenRedirect,
    matches: &[RouteMatch],
    cx: &mut Context<'_>,
    path: &Path,
) -> Redirect {
    if let Some(host) = &written.hostname
        && host.0.starts_with('*')
    {
        cx.error(&path.key("hostname"), "expected one host, without *");
    }
    let nothing = written.scheme.is_none()
        && written.hostname.is_none()
        && written.port.is_none()
        && written.path.is_none();
    if nothing {
        cx.error(
            path,
            "a redirect to the same URL never ends; expected a change of it",
        );
    }
    Redirect {
        status: written.status_code.0,
        scheme: written.scheme.map(|scheme| match scheme {
            Scheme::Http => "http".to_owned(),
            Scheme::Https => "https".to_owned(),
        }),
        host: written.hostname.as_ref().map(|host| host.0.clone()),
        port: written.port,
        path: written
            .path
            .as_ref()
            .and_then(|written| rewrite(written, matches, cx, &path.key("path"))),
    }
}

fn rewrite(
    written: &WrittenRewrite,
    matches: &[RouteMatch],
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<PathRewrite> {
    let (full, prefix) = (&written.replace_full_path, &written.replace_prefix_match);
    let (key, text) = match (written.kind, full, prefix) {
        (PathRewriteType::ReplaceFullPath, Some(text), None) => ("replaceFullPath", text),
        (PathRewriteType::ReplacePrefixMatch, None, Some(text)) => ("replacePrefixMatch", text),
        (PathRewriteType::ReplaceFullPath, ..) => {
            cx.error(path, "expected replaceFullPath alone, as type says");
            return None;
        }
        (PathRewriteType::ReplacePrefixMatch, ..) => {
            cx.error(path, "expected replacePrefixMatch alone, as type says");
            return None;
        }
    };
    // An empty prefix is that of the root, as in the Gateway API.
    let text = if text.is_empty() { "/" } else { text.as_str() };
    if let Some(reason) = never_normal(text) {
        cx.error(&path.key(key), reason);
    }
    if written.kind == PathRewriteType::ReplaceFullPath {
        return Some(PathRewrite::Full(text.to_owned()));
    }
    let prefixed = |m: &RouteMatch| matches!(m.path, PathMatch::Any | PathMatch::ElementPrefix(_));
    if !matches.iter().all(prefixed) {
        let message = "expected all matches of the rule to be of type PathPrefix";
        cx.error(&path.key(key), message);
    }
    Some(PathRewrite::Prefix(text.to_owned()))
}
