//! Which hosts a route serves on a listener.

/// All hosts.
pub(super) const ANY: &str = "*";

/// The hosts of a route (none for all) within that of a listener (`None` for
/// all), as the Gateway API says under `HTTPRouteSpec.hostnames`. Empty where
/// they have none in common.
pub(super) fn within(listener: Option<&str>, route: &[&str]) -> Vec<String> {
    match (listener, route) {
        (listener, []) => vec![listener.unwrap_or(ANY).to_owned()],
        (None, route) => route.iter().map(|&host| host.to_owned()).collect(),
        (Some(listener), route) => route
            .iter()
            .filter_map(|host| common(listener, host))
            .map(str::to_owned)
            .collect(),
    }
}

/// The narrower of two patterns, if it lies within the other.
fn common<'h>(one: &'h str, other: &'h str) -> Option<&'h str> {
    if covers(one, other) {
        Some(other)
    } else if covers(other, one) {
        Some(one)
    } else {
        None
    }
}

fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => pattern == host || host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn the_narrower_host_counts() {
        assert_eq!(within(None, &[]), ["*"]);
        assert_eq!(within(Some("a.com"), &[]), ["a.com"]);
        assert_eq!(within(Some("*.a.com"), &["x.a.com", "b.com"]), ["x.a.com"]);
        assert_eq!(within(Some("x.a.com"), &["*.a.com"]), ["x.a.com"]);
        assert_eq!(within(Some("*.a.com"), &["*.b.a.com"]), ["*.b.a.com"]);
        assert_eq!(within(Some("*.a.com"), &["a.com"]), Vec::<String>::new());
        assert_eq!(within(Some("*.a.com"), &["*.a.com"]), ["*.a.com"]);
    }
}
