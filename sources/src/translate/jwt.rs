//! Providers of tokens, as far as intentions name them.

use crate::jwks::{Authorities, KeyOrigin, Keys, RemoteKeys, parse};
use crate::knowledge::{Knowledge, Known, Topic};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use consul::entry::{JwksCluster, JwtLocation, JwtProviderEntry, LocalJwks, RemoteJwks};
use consul::intention::{Intention, JwtRequirement as Written};
use meridian_model::jwt::{
    ClaimRequirement, JwtProvider, JwtRequirement, KeySet, PayloadHeader, TokenLocation,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Providers by name; the reason where one cannot be honoured.
#[derive(Debug, Default)]
pub(crate) struct Providers(pub(crate) BTreeMap<String, Result<Arc<JwtProvider>, String>>);

impl Providers {
    /// One that can be honoured.
    fn find(&self, name: &str) -> Result<&JwtProvider, String> {
        match self.0.get(name) {
            Some(Ok(provider)) => Ok(provider),
            Some(Err(reason)) => Err(format!("jwt-provider `{name}`: {reason}")),
            None => Err(format!("there is no jwt-provider `{name}`")),
        }
    }

    /// Those that can be honoured.
    pub(crate) fn all(&self) -> Vec<Arc<JwtProvider>> {
        let found = self.0.values().filter_map(|found| found.as_ref().ok());
        found.cloned().collect()
    }
}

/// Everything to be followed for the providers that intentions name.
pub(crate) fn wanted(intentions: &[Intention], knowledge: &Knowledge) -> BTreeSet<Topic> {
    let mut wanted = BTreeSet::new();
    for name in named(intentions) {
        if let Known::Value(Some(entry)) = knowledge.jwt_provider(name)
            && let KeySource::Elsewhere { origin, .. } = key_source(entry)
        {
            wanted.insert(Topic::Keys(origin));
        }
        wanted.insert(Topic::JwtProvider(name.to_owned()));
    }
    wanted
}

/// The providers that intentions name, and whether some of them should be waited for.
pub(crate) fn providers(intentions: &[Intention], knowledge: &Knowledge) -> (Providers, bool) {
    let mut waits = false;
    let mut found = BTreeMap::new();
    for name in named(intentions) {
        let one = match knowledge.jwt_provider(name) {
            Known::Waiting => {
                waits = true;
                Err("it is not known yet".to_owned())
            }
            Known::Failed(reason) => Err(reason.to_owned()),
            Known::Value(None) => Err("it does not exist".to_owned()),
            Known::Value(Some(entry)) => {
                let (keys, unfetched) = keys(entry, knowledge);
                waits |= unfetched;
                provider(entry, keys).map(Arc::new)
            }
        };
        found.insert(name.to_owned(), one);
    }
    (Providers(found), waits)
}

/// What a rule asks for.
pub(crate) fn requirements(
    written: Option<&Written>,
    providers: &Providers,
) -> Result<Vec<JwtRequirement>, String> {
    let Some(written) = written else {
        return Ok(Vec::new());
    };
    if written.providers.is_empty() {
        return Err("it requires a JWT, but of no provider".to_owned());
    }
    let one = |written: &consul::intention::JwtProvider| {
        let provider = providers.find(&written.name)?;
        let claims = written.verify_claims.iter().map(|claim| ClaimRequirement {
            path: claim.path.clone(),
            value: claim.value.clone(),
        });
        Ok(JwtRequirement {
            provider: Arc::clone(&provider.name),
            claims: claims.collect(),
        })
    };
    written.providers.iter().map(one).collect()
}

fn named(intentions: &[Intention]) -> BTreeSet<&str> {
    intentions
        .iter()
        .flat_map(|one| {
            let permissions = one.permissions.iter();
            one.jwt
                .iter()
                .chain(permissions.filter_map(|p| p.jwt.as_ref()))
        })
        .flat_map(|jwt| jwt.providers.iter().map(|provider| provider.name.as_str()))
        .collect()
}

/// Where an entry's keys are.
#[derive(Debug, PartialEq)]
enum KeySource {
    /// In the entry; unavailable where it is wrong.
    Here(KeySet),
    /// Somewhere else.
    Elsewhere {
        origin: KeyOrigin,
        /// Whether a listener opens before they are known.
        asynchronous: bool,
    },
}

fn keys(entry: &JwtProviderEntry, knowledge: &Knowledge) -> (FoundKeys, bool) {
    let (origin, asynchronous) = match key_source(entry) {
        KeySource::Here(set) => return (FoundKeys::Fixed(set), false),
        KeySource::Elsewhere {
            origin,
            asynchronous,
        } => (origin, asynchronous),
    };
    match knowledge.keys(&origin) {
        Some(keys) => (FoundKeys::Followed(keys.clone()), false),
        None => {
            let reason = "its keys have not been fetched yet".to_owned();
            let set = KeySet::Unavailable { reason };
            (FoundKeys::Fixed(set), !asynchronous)
        }
    }
}

enum FoundKeys {
    Fixed(KeySet),
    Followed(Keys),
}

fn provider(entry: &JwtProviderEntry, keys: FoundKeys) -> Result<JwtProvider, String> {
    if !entry.is_understood() {
        return Err("it has fields that are not known here".to_owned());
    }
    if entry.issuer.is_empty() {
        return Err("it has no issuer, to which tokens could be tied".to_owned());
    }
    let locations = locations(&entry.locations)?;
    // The last header decides for the whole provider, as Consul configures Envoy.
    let mut headers = entry
        .locations
        .iter()
        .rev()
        .filter_map(|one| one.header.as_ref());
    let forward_token = headers.next().is_some_and(|header| header.forward);
    let payload = match &entry.forwarding {
        None => None,
        Some(forwarding) => Some(PayloadHeader {
            name: header_name(&forwarding.header_name)?,
            pad: forwarding.pad_forward_payload_header,
        }),
    };
    let (keys, refresh) = match keys {
        FoundKeys::Fixed(set) => (set, None),
        FoundKeys::Followed(keys) => (keys.set, Some(keys.refresh)),
    };
    Ok(JwtProvider {
        name: entry.name.as_str().into(),
        issuer: entry.issuer.clone(),
        audiences: entry.audiences.clone(),
        locations,
        forward_token,
        payload,
        clock_skew: Duration::from_secs(entry.clock_skew_seconds),
        keys,
        refresh,
    })
}

fn locations(written: &[JwtLocation]) -> Result<Vec<TokenLocation>, String> {
    if written.is_empty() {
        return Ok(JwtProvider::default_locations());
    }
    let one = |written: &JwtLocation| match (&written.header, &written.query_param, &written.cookie)
    {
        (Some(header), None, None) => Ok(TokenLocation::Header {
            name: header_name(&header.name)?,
            value_prefix: header.value_prefix.clone(),
        }),
        (None, Some(query), None) => Ok(TokenLocation::Query(query.name.clone())),
        (None, None, Some(cookie)) => Ok(TokenLocation::Cookie(cookie.name.clone())),
        _ => Err("a location is not exactly one of header, query parameter and cookie".to_owned()),
    };
    written.iter().map(one).collect()
}

fn header_name(written: &str) -> Result<String, String> {
    let name: Result<http::HeaderName, _> = written.parse();
    name.map(|name| name.as_str().to_owned())
        .map_err(|_| format!("`{written}` is no header name"))
}

fn key_source(entry: &JwtProviderEntry) -> KeySource {
    let set = entry.json_web_key_set.clone().unwrap_or_default();
    let unavailable = |reason: String| KeySource::Here(KeySet::Unavailable { reason });
    match (&set.local, &set.remote) {
        (Some(local), None) => local_keys(local).unwrap_or_else(unavailable),
        (None, Some(remote)) => match remote_keys(remote) {
            Ok(keys) => KeySource::Elsewhere {
                origin: KeyOrigin::Remote(keys),
                asynchronous: remote.fetch_asynchronously,
            },
            Err(reason) => unavailable(reason),
        },
        _ => unavailable("its keys are not exactly one of local and remote".to_owned()),
    }
}

fn local_keys(local: &LocalJwks) -> Result<KeySource, String> {
    if local.jwks.is_empty() {
        return match local.filename.as_str() {
            "" => Err("its local keys are neither here nor in a file".to_owned()),
            name => Ok(KeySource::Elsewhere {
                origin: KeyOrigin::File(name.into()),
                asynchronous: false,
            }),
        };
    }
    let text = STANDARD
        .decode(&local.jwks)
        .map_err(|_| "its local keys are not base64".to_owned())?;
    let parsed = parse(&text).map_err(|error| format!("its local keys are no key set: {error}"))?;
    Ok(KeySource::Here(KeySet::Known(parsed.keys.into())))
}

/// Nothing waits for a fetch, so a slow issuer may have longer than Envoy's second.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's `cache_duration`.
const CACHE: Duration = Duration::from_secs(600);
/// `JWKSCluster.ConnectTimeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `RetryPolicyBackOff.BaseInterval`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A cache of less would make a fetch a busy loop.
const LEAST_CACHE: Duration = Duration::from_secs(1);

/// `NumRetries` is not asked: tries go on until one succeeds, at the pace of the back-off.
fn remote_keys(remote: &RemoteJwks) -> Result<RemoteKeys, String> {
    if !remote.uri.starts_with("http://") && !remote.uri.starts_with("https://") {
        return Err("its address is neither http nor https".to_owned());
    }
    let timeout = match remote.request_timeout_ms {
        0 => TIMEOUT,
        set => Duration::from_millis(set),
    };
    let policy = remote.retry_policy.clone().unwrap_or_default();
    let back_off = policy.back_off.unwrap_or_default();
    let first_pause = back_off.base_interval.unwrap_or(FIRST_PAUSE);
    let cluster = remote.cluster.clone().unwrap_or_default();
    Ok(RemoteKeys {
        uri: remote.uri.clone(),
        timeout,
        connect_timeout: cluster.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        cache: remote.cache_duration.unwrap_or(CACHE).max(LEAST_CACHE),
        first_pause,
        longest_pause: back_off.max_interval.unwrap_or(first_pause * 10),
        authorities: authorities(&cluster)?,
    })
}

fn authorities(cluster: &JwksCluster) -> Result<Authorities, String> {
    let Some(certificates) = &cluster.tls_certificates else {
        return Ok(Authorities::System);
    };
    let Some(trusted) = &certificates.trusted_ca else {
        return Err(
            "`CaCertificateProviderInstance` means Envoy's own configuration; name a `TrustedCA`"
                .to_owned(),
        );
    };
    let pem = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    if !trusted.filename.is_empty() {
        Ok(Authorities::File(trusted.filename.as_str().into()))
    } else if !trusted.environment_variable.is_empty() {
        Ok(Authorities::Environment(
            trusted.environment_variable.clone(),
        ))
    } else if !trusted.inline_string.is_empty() {
        Ok(Authorities::Pem(trusted.inline_string.clone()))
    } else {
        let text = STANDARD.decode(&trusted.inline_bytes).ok().and_then(pem);
        let text = text.filter(|text| !text.is_empty());
        text.map(Authorities::Pem)
            .ok_or_else(|| "its `TrustedCA` is empty or no PEM".to_owned())
    }
}

#[cfg(test)]
mod tests;
