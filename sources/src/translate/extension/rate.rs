//! Rate limits in their three spellings: the extension `builtin/http/localratelimit`,
//! `RateLimits` of service-defaults (Enterprise), and the same in a registration's metadata.

use super::Arguments;
use consul::entry::{InstanceLimits, RouteLimit};
use meridian_model::route::PathMatch;
use meridian_model::{Pattern, RateLimit, RouteRate, TokenBucket};
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// Key of a registration's `Meta` whose value is `RateLimits.InstanceLevel` as JSON.
pub(crate) const META_KEY: &str = "meridian-rate-limit";

/// The extension. Without both shares it limits nothing, as in Envoy; that is named.
pub(super) fn local(
    arguments: &mut Arguments<'_>,
) -> Result<(Option<RateLimit>, Vec<String>), String> {
    match arguments.text("ProxyType")? {
        Some("connect-proxy") => {}
        other => {
            let other = other.unwrap_or_default();
            return Err(format!(
                "`ProxyType` is `{other}`, expected `connect-proxy`"
            ));
        }
    }
    let capacity = positive(arguments, "MaxTokens")?.ok_or("`MaxTokens` is missing")?;
    let interval = positive(arguments, "FillInterval")?.ok_or("`FillInterval` is missing")?;
    let fill = positive(arguments, "TokensPerFill")?;
    let mut limit = RateLimit::of(TokenBucket {
        capacity,
        fill: fill.unwrap_or(NonZeroU32::MIN),
        interval: Duration::from_secs(interval.get().into()),
    });
    limit.enabled = percent(arguments, "FilterEnabled")?;
    limit.enforced = percent(arguments, "FilterEnforced")?;
    let mut complaints = Vec::new();
    for (name, share) in [
        ("FilterEnabled", limit.enabled),
        ("FilterEnforced", limit.enforced),
    ] {
        if share == 0 {
            complaints.push(format!("nothing is limited while `{name}` is 0 or not set"));
        }
    }
    Ok((Some(limit), complaints))
}

fn positive(arguments: &mut Arguments<'_>, name: &str) -> Result<Option<NonZeroU32>, String> {
    match arguments.number(name)? {
        None => Ok(None),
        Some(number) => match NonZeroU32::new(number) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{name}` is 0, expected more")),
        },
    }
}

fn percent(arguments: &mut Arguments<'_>, name: &str) -> Result<u8, String> {
    let share: u32 = arguments.number(name)?.unwrap_or_default();
    // Envoy takes what is above for all of them.
    Ok(u8::try_from(share.min(100)).unwrap_or(100))
}

/// `RateLimits.InstanceLevel`. No number of requests is no limit; no burst is as many as a second
/// brings.
pub(crate) fn instance_level(written: &InstanceLimits) -> Result<Option<RateLimit>, String> {
    let bucket = bucket(written.requests_per_second, written.requests_max_burst)
        .map_err(|reason| format!("InstanceLevel: {reason}"))?;
    let mut routes = Vec::with_capacity(written.routes.len());
    for (index, route) in written.routes.iter().enumerate() {
        let rate = route_rate(route).map_err(|reason| format!("Routes[{index}]: {reason}"))?;
        routes.push(rate);
    }
    if bucket.is_none() && routes.is_empty() {
        return Ok(None);
    }
    Ok(Some(RateLimit {
        routes,
        bucket,
        enabled: 100,
        enforced: 100,
    }))
}

fn route_rate(written: &RouteLimit) -> Result<RouteRate, String> {
    let (exact, prefix, regex) = (
        written.path_exact.as_str(),
        written.path_prefix.as_str(),
        written.path_regex.as_str(),
    );
    let path = match (exact, prefix, regex) {
        (exact, "", "") if !exact.is_empty() => PathMatch::Exact(exact.to_owned()),
        ("", prefix, "") if !prefix.is_empty() => PathMatch::Prefix(prefix.to_owned()),
        ("", "", regex) if !regex.is_empty() => match Pattern::new(regex) {
            Ok(pattern) => PathMatch::Regex(pattern),
            Err(error) => return Err(format!("PathRegex `{regex}`: {error}")),
        },
        _ => return Err("exactly one of PathExact, PathPrefix and PathRegex must be set".into()),
    };
    let bucket = bucket(written.requests_per_second, written.requests_max_burst)?;
    Ok(RouteRate { path, bucket })
}

fn bucket(per_second: u32, burst: u32) -> Result<Option<TokenBucket>, String> {
    match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("RequestsMaxBurst needs RequestsPerSecond".to_owned()),
        (Some(fill), burst) => Ok(Some(TokenBucket {
            capacity: burst.unwrap_or(fill),
            fill,
            interval: Duration::from_secs(1),
        })),
    }
}

/// The limit that a registration's metadata asks for.
pub(crate) fn from_meta(meta: &BTreeMap<String, String>) -> Result<Option<RateLimit>, String> {
    let Some(text) = meta.get(META_KEY) else {
        return Ok(None);
    };
    let named = |reason: String| format!("Meta `{META_KEY}`: {reason}");
    let value: Value = serde_json::from_str(text).map_err(|error| named(error.to_string()))?;
    let limits = written(&value).map_err(named)?;
    instance_level(&limits).map_err(named)
}

/// Strict, unlike what Consul has checked: an unknown name is an error.
fn written(value: &Value) -> Result<InstanceLimits, String> {
    let mut arguments = Arguments::read(value)?;
    let number = |arguments: &mut Arguments<'_>, name| -> Result<u32, String> {
        Ok(arguments.number(name)?.unwrap_or_default())
    };
    let mut limits = InstanceLimits {
        requests_per_second: number(&mut arguments, "RequestsPerSecond")?,
        requests_max_burst: number(&mut arguments, "RequestsMaxBurst")?,
        routes: Vec::new(),
    };
    for mut route in arguments.list("Routes")? {
        let mut text = |name| -> Result<String, String> {
            Ok(route.text(name)?.unwrap_or_default().to_owned())
        };
        let (path_exact, path_prefix, path_regex) =
            (text("PathExact")?, text("PathPrefix")?, text("PathRegex")?);
        limits.routes.push(RouteLimit {
            path_exact,
            path_prefix,
            path_regex,
            requests_per_second: number(&mut route, "RequestsPerSecond")?,
            requests_max_burst: number(&mut route, "RequestsMaxBurst")?,
        });
        arguments.done(route);
    }
    match arguments.unknown().into_iter().next() {
        Some(unknown) => Err(unknown),
        None => Ok(limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokens(capacity: u32, fill: u32, seconds: u64) -> TokenBucket {
        let number = |n| NonZeroU32::new(n).unwrap();
        TokenBucket {
            capacity: number(capacity),
            fill: number(fill),
            interval: Duration::from_secs(seconds),
        }
    }

    fn read(value: Value) -> Result<(RateLimit, Vec<String>), String> {
        let (limit, complaints) = local(&mut Arguments::read(&value)?)?;
        Ok((limit.unwrap(), complaints))
    }

    #[test]
    fn the_extension_has_envoys_defaults() {
        let (limit, complaints) = read(json!({"ProxyType": "connect-proxy", "MaxTokens": 5,
            "FillInterval": 2, "FilterEnabled": 100, "FilterEnforced": 40}))
        .unwrap();
        assert_eq!(limit.bucket, Some(tokens(5, 1, 2)));
        assert_eq!((limit.enabled, limit.enforced), (100, 40));
        assert_eq!(complaints, Vec::<String>::new());
        let (limit, complaints) = read(json!({"ProxyType": "connect-proxy", "MaxTokens": 5,
            "TokensPerFill": 3, "FillInterval": 2}))
        .unwrap();
        assert_eq!((limit.enabled, limit.enforced), (0, 0));
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }

    #[test]
    fn the_extension_needs_what_envoy_needs() {
        for missing in ["ProxyType", "MaxTokens", "FillInterval"] {
            let mut arguments = json!({"ProxyType": "connect-proxy", "MaxTokens": 5,
                "FillInterval": 2});
            arguments[missing] = Value::Null;
            let refused = read(arguments.clone()).unwrap_err();
            assert!(refused.contains(missing), "{refused}");
            arguments[missing] = json!(0);
            assert!(read(arguments).is_err(), "{missing}");
        }
    }

    #[test]
    fn routes_keep_their_order_and_kind() {
        let limits: InstanceLimits = serde_json::from_value(json!({"RequestsPerSecond": 10,
            "RequestsMaxBurst": 20, "Routes": [
                {"PathExact": "/a", "RequestsPerSecond": 1},
                {"PathPrefix": "/b", "RequestsPerSecond": 2, "RequestsMaxBurst": 3},
                {"PathRegex": "/c[0-9]"}]}))
        .unwrap();
        let limit = instance_level(&limits).unwrap().unwrap();
        assert_eq!(limit.bucket, Some(tokens(20, 10, 1)));
        assert_eq!((limit.enabled, limit.enforced), (100, 100));
        let buckets: Vec<_> = limit.routes.iter().map(|route| route.bucket).collect();
        assert_eq!(
            buckets,
            [Some(tokens(1, 1, 1)), Some(tokens(3, 2, 1)), None]
        );
        assert_eq!(limit.routes[0].path, PathMatch::Exact("/a".into()));
        assert_eq!(limit.routes[1].path, PathMatch::Prefix("/b".into()));
        assert!(matches!(limit.routes[2].path, PathMatch::Regex(_)));
        assert_eq!(instance_level(&InstanceLimits::default()), Ok(None));
    }

    #[test]
    fn metadata_is_read_strictly() {
        let from = |text: &str| from_meta(&BTreeMap::from([(META_KEY.into(), text.into())]));
        let limit = from(r#"{"RequestsPerSecond": 5}"#).unwrap().unwrap();
        assert_eq!(limit.bucket, Some(tokens(5, 5, 1)));
        assert_eq!(from_meta(&BTreeMap::new()), Ok(None));
        for bad in [
            "5",
            "{",
            r#"{"RequestsPerSecond": -1}"#,
            r#"{"RequestsPerMinute": 5}"#,
            r#"{"RequestsMaxBurst": 5}"#,
            r#"{"Routes": [{"RequestsPerSecond": 5}]}"#,
            r#"{"Routes": [{"PathExact": "/", "PathPrefix": "/"}]}"#,
            r#"{"Routes": [{"PathRegex": "("}]}"#,
            r#"{"Routes": [{"PathExact": "/", "Method": "GET"}]}"#,
        ] {
            let refused = from(bad).unwrap_err();
            assert!(refused.contains(META_KEY), "{bad}: {refused}");
        }
    }
}
