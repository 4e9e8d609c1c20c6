//! Routers: conditions, rewrites, timeouts and retries of a service-router.

use super::{Walk, headers};
use crate::translate::matcher;
use consul::chain::{RouteDefinition, RouteDestination, RouterNode};
use meridian_model::policy::{RetryOn, RetryPolicy};
use meridian_model::route::{Destination, PathMatch, PathRewrite};
use meridian_model::{Route, RouteAction, RouteMatch};

impl<'a> Walk<'a> {
    /// Routes in order; the first match wins.
    pub(super) fn router(&mut self, router: &'a RouterNode) -> Vec<Route> {
        let mut routes = Vec::with_capacity(router.routes.len());
        for (index, written) in router.routes.iter().enumerate() {
            let definition = &written.definition;
            let matches = match request_match(definition) {
                Ok(matches) => matches,
                Err(reason) => {
                    // Whatever comes here may have been meant for this route.
                    let action = self.fail(format!("routes[{index}]: {reason}"));
                    routes.push(self.route(Some(index), RouteMatch::default(), action));
                    return routes;
                }
            };
            let mut action = self.leaf_action(&written.next_node);
            if let Some(destination) = &definition.destination {
                let refined = self.refine(action, destination, &matches.path);
                action = refined
                    .unwrap_or_else(|reason| self.fail(format!("routes[{index}]: {reason}")));
            }
            let matches = rewritable(matches, &action);
            routes.push(self.route(Some(index), matches, action));
        }
        if routes.is_empty() {
            let action = self.fail(format!("router `{}` has no routes", router.name));
            routes.push(self.route(None, RouteMatch::default(), action));
        }
        routes
    }

    fn refine(
        &mut self,
        mut action: RouteAction,
        written: &RouteDestination,
        path: &PathMatch,
    ) -> Result<RouteAction, String> {
        if let Some(key) = written.unknown.keys().next() {
            return Err(format!("the destination has the unknown field `{key}`"));
        }
        action.rewrite = rewrite(&written.prefix_rewrite, path);
        let request_headers = headers::modifier(&written.request_headers)?;
        // Consul's Envoy changes a request for the split that it drew, and then for the route.
        match &mut action.destination {
            Destination::Clusters(clusters) => {
                for cluster in clusters {
                    cluster.request_headers =
                        headers::followed_by(&cluster.request_headers, &request_headers);
                }
            }
            _ => action.request_headers = request_headers,
        }
        action.response_headers = headers::modifier(&written.response_headers)?;
        let timeouts = &mut action.timeouts;
        timeouts.request = written.request_timeout.over(timeouts.request);
        timeouts.idle = written.idle_timeout.over(timeouts.idle);
        let (retry, ignored) = retry(written);
        action.retry = retry;
        for word in ignored {
            self.reject(format!(
                "retry condition `{word}` is not known and is left out"
            ));
        }
        Ok(action)
    }
}

/// The conditions of a route.
pub(crate) fn request_match(definition: &RouteDefinition) -> Result<RouteMatch, String> {
    if let Some(key) = definition.unknown.keys().next() {
        return Err(format!("the route has the unknown field `{key}`"));
    }
    let Some(matches) = &definition.matches else {
        return Ok(RouteMatch::default());
    };
    if let Some(key) = matches.unknown.keys().next() {
        return Err(format!("the match has the unknown field `{key}`"));
    }
    let Some(http) = &matches.http else {
        return Ok(RouteMatch::default());
    };
    if let Some(key) = http.unknown.keys().next() {
        return Err(format!("the match has the unknown condition `{key}`"));
    }
    let headers = http.header.iter().map(|header| {
        if let Some(key) = header.unknown.keys().next() {
            return Err(format!(
                "header `{}` has the unknown test `{key}`",
                header.name
            ));
        }
        matcher::header(&matcher::HeaderTest {
            name: &header.name,
            present: header.present,
            exact: &header.exact,
            prefix: &header.prefix,
            suffix: &header.suffix,
            contains: "",
            regex: &header.regex,
            ignore_case: false,
            invert: header.invert,
        })
    });
    Ok(RouteMatch {
        path: matcher::path(http)?,
        methods: matcher::methods(&http.methods)?,
        headers: headers.collect::<Result<_, _>>()?,
        query: http
            .query_param
            .iter()
            .map(matcher::query)
            .collect::<Result<_, _>>()?,
    })
}

/// Envoy's `prefix_rewrite` replaces what matched; an expression matches the whole path.
fn rewrite(text: &str, path: &PathMatch) -> Option<PathRewrite> {
    match path {
        _ if text.is_empty() => None,
        PathMatch::Regex(_) => Some(PathRewrite::Full(text.to_owned())),
        _ => Some(PathRewrite::Prefix(text.to_owned())),
    }
}

/// A route without path condition is one for the prefix `/`, which a rewrite then replaces.
fn rewritable(mut matches: RouteMatch, action: &RouteAction) -> RouteMatch {
    if action.rewrite.is_some() && matches.path == PathMatch::Any {
        matches.path = PathMatch::Prefix("/".to_owned());
    }
    matches
}

/// Consul writes a retry policy when any retry field is set; one retry is then Envoy's default.
/// Also returns the words of `RetryOn` that are not known.
fn retry(written: &RouteDestination) -> (Option<RetryPolicy>, Vec<String>) {
    let asked = written.num_retries > 0
        || written.retry_on_connect_failure
        || !written.retry_on.is_empty()
        || !written.retry_on_status_codes.is_empty();
    if !asked {
        return (None, Vec::new());
    }
    let mut on = RetryOn {
        connect_failure: written.retry_on_connect_failure,
        retriable_status_codes: !written.retry_on_status_codes.is_empty(),
        ..RetryOn::default()
    };
    let unknown = written
        .retry_on
        .iter()
        .filter(|word| !set_condition(&mut on, word))
        .cloned()
        .collect();
    let policy = RetryPolicy {
        statuses: written.retry_on_status_codes.clone(),
        ..RetryPolicy::new(written.num_retries.max(1), on)
    };
    (Some(policy), unknown)
}

/// Names of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`. Whether it is known.
fn set_condition(on: &mut RetryOn, word: &str) -> bool {
    match word {
        "5xx" => on.server_error = true,
        "gateway-error" => on.gateway_error = true,
        "reset" => on.reset = true,
        "reset-before-request" => on.reset_before_request = true,
        "connect-failure" => on.connect_failure = true,
        "retriable-4xx" => on.retriable_4xx = true,
        "refused-stream" => on.refused_stream = true,
        "retriable-status-codes" => on.retriable_status_codes = true,
        "cancelled" => on.grpc_statuses |= 1 << 1,
        "deadline-exceeded" => on.grpc_statuses |= 1 << 4,
        "resource-exhausted" => on.grpc_statuses |= 1 << 8,
        "internal" => on.grpc_statuses |= 1 << 13,
        "unavailable" => on.grpc_statuses |= 1 << 14,
        _ => return false,
    }
    true
}
