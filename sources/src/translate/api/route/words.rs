//! What an `http-route` writes, in the words of a service-router.

use consul::chain::{
    HeaderMatch, HeaderModifiers, HttpMatch, QueryMatch, RouteDestination, TimeLimit,
};
use consul::entry::{HttpRouteFilters, HttpRouteMatch, HttpRouteRule, HttpRouteService};
use std::time::Duration;

/// Conditions, as a service-router writes them.
pub(super) fn conditions(written: &HttpRouteMatch) -> Result<HttpMatch, String> {
    if let Some(key) = written.unknown.keys().next() {
        return Err(format!("the match has the unknown condition `{key}`"));
    }
    let mut http = HttpMatch::default();
    let value = written.path.value.clone();
    match written.path.kind.as_str() {
        "exact" => http.path_exact = value,
        "prefix" => http.path_prefix = value,
        "regex" => http.path_regex = value,
        other => return Err(format!("paths are not matched by `{other}`")),
    }
    if !written.method.is_empty() {
        http.methods.push(written.method.clone());
    }
    for test in &written.headers {
        let mut header = HeaderMatch {
            name: test.name.clone(),
            ..HeaderMatch::default()
        };
        let value = test.value.clone();
        match test.kind.as_str() {
            "exact" => header.exact = value,
            "prefix" => header.prefix = value,
            "suffix" => header.suffix = value,
            "regex" => header.regex = value,
            "present" => header.present = true,
            other => return Err(format!("headers are not matched by `{other}`")),
        }
        http.header.push(header);
    }
    for test in &written.query {
        let mut query = QueryMatch {
            name: test.name.clone(),
            ..QueryMatch::default()
        };
        match test.kind.as_str() {
            "exact" => query.exact = test.value.clone(),
            "regex" => query.regex = test.value.clone(),
            "present" => query.present = true,
            other => return Err(format!("query parameters are not matched by `{other}`")),
        }
        http.query_param.push(query);
    }
    Ok(http)
}

/// What a rule does to its requests, as a service-router writes it.
pub(super) fn destination(rule: &HttpRouteRule) -> Result<RouteDestination, String> {
    check(&rule.filters)?;
    check(&rule.response_filters)?;
    let mut destination = RouteDestination {
        request_headers: merged(&rule.filters.headers),
        response_headers: merged(&rule.response_filters.headers),
        ..RouteDestination::default()
    };
    if let Some(rewrite) = &rule.filters.url_rewrite {
        destination.prefix_rewrite.clone_from(&rewrite.path);
    }
    if let Some(retry) = &rule.filters.retry_filter {
        destination.num_retries = retry.num_retries;
        destination.retry_on.clone_from(&retry.retry_on);
        destination.retry_on_connect_failure = retry.retry_on_connect_failure;
        let statuses = &retry.retry_on_status_codes;
        destination.retry_on_status_codes.clone_from(statuses);
    }
    if let Some(timeouts) = &rule.filters.timeout_filter {
        destination.request_timeout = limit(timeouts.request_timeout);
        destination.idle_timeout = limit(timeouts.idle_timeout);
    }
    for service in &rule.services {
        check(&service.filters)?;
        check(&service.response_filters)?;
    }
    Ok(destination)
}

fn limit(written: Option<Duration>) -> TimeLimit {
    written.map_or(TimeLimit::Unset, TimeLimit::After)
}

/// A rule's only service refines what the rule says.
pub(super) fn refine(destination: &mut RouteDestination, service: &HttpRouteService) {
    let own = merged(&service.filters.headers);
    destination.request_headers = merged([&destination.request_headers, &own]);
    let own = merged(&service.response_filters.headers);
    destination.response_headers = merged([&destination.response_headers, &own]);
    if let Some(rewrite) = &service.filters.url_rewrite {
        destination.prefix_rewrite.clone_from(&rewrite.path);
    }
}

/// A rule that asks for tokens must not be served without asking.
fn check(filters: &HttpRouteFilters) -> Result<(), String> {
    if !filters.jwt.is_null() {
        return Err("JWT filters of routes are not served".to_owned());
    }
    match filters.unknown.keys().next() {
        Some(key) => Err(format!("the filter `{key}` is not known")),
        None => Ok(()),
    }
}

/// Of two values for one name the later one counts, as in Consul.
pub(super) fn merged<'a>(
    changes: impl IntoIterator<Item = &'a HeaderModifiers>,
) -> HeaderModifiers {
    let mut all = HeaderModifiers::default();
    for one in changes {
        let HeaderModifiers { add, set, remove } = one.clone();
        all.add.extend(add);
        all.set.extend(set);
        all.remove.extend(remove);
    }
    all
}
