//! Tokens of requests: found, verified, and told to the application.
//!
//! As in Consul's Envoy, all providers that a listener's rules name are looked
//! for in each request, before anything is decided: a token that is verified is
//! told to the application even where no rule asked for it, and one that is not
//! is no error by itself. What follows from it, the rules say ([`crate::authorize`]).
//!
//! Signatures are verified with ring, which is linked for TLS already; why not with a JWT
//! crate: `docs/decisions/0008-jwt-by-ring.md`.
//!
//! | module | what |
//! |---|---|
//! | [`place`] | where tokens stand in a request |
//! | [`token`] | a token taken apart, and its signature |
//! | [`key`] | keys, prepared |
//! | [`claims`] | what stands in a token |

mod claims;
mod key;
mod place;
mod token;

use self::key::Key;
use self::place::Place;
use self::token::Token;
use crate::headers::RequestHeader;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::{HeaderName, HeaderValue};
use meridian_model::jwt::{JwtProvider, JwtRequirement, KeySet};
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;

/// What is wrong with a token. Says nothing of what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token asks for what is not supported")]
    Unsupported,
    #[error("the algorithm is not accepted")]
    Algorithm,
    #[error("no key has the token's id")]
    UnknownKey,
    #[error("the signature does not fit")]
    Signature,
    #[error("the issuer is another")]
    Issuer,
    #[error("the audience is another")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// A listener's providers, prepared.
pub(crate) struct Providers(Vec<Provider>);

struct Provider {
    model: Arc<JwtProvider>,
    places: Vec<Place>,
    payload: Option<HeaderName>,
    /// `None` while none are known.
    keys: Option<Vec<Key>>,
}

/// What a request's tokens came to, provider by provider.
#[derive(Default)]
pub(crate) struct Tokens<'a> {
    found: Vec<(&'a str, Evidence)>,
    /// Path and query without the tokens that were taken out of them, if there were any.
    pub(crate) target: Option<String>,
}

/// What is known of one provider's token.
enum Evidence {
    /// It is valid, and says this.
    Verified(Value),
    /// There is none that is valid.
    Absent,
    /// There is one, and no key to verify it with.
    Unverifiable,
}

/// Whether a request meets what a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It does.
    Met,
    /// It does not.
    Unmet,
    /// Nobody can say.
    Unknown,
}

impl Providers {
    /// Prepares them; `None` where there are none, so that requests pay nothing for it.
    pub(crate) fn prepare(providers: &[Arc<JwtProvider>]) -> Option<Self> {
        if providers.is_empty() {
            return None;
        }
        Some(Self(providers.iter().map(Provider::prepare).collect()))
    }

    /// Verifies the tokens of a request, and changes its head as the providers want:
    /// payload headers are ours alone, and verified tokens may have to go.
    ///
    /// Everything is read before anything is changed, so that two providers may share a place.
    pub(crate) fn take_in(&self, head: &mut RequestHeader, now: SystemTime) -> Tokens<'_> {
        let findings: Vec<Finding<'_>> = self.0.iter().map(|one| one.find(head, now)).collect();
        for name in self.0.iter().filter_map(|one| one.payload.as_ref()) {
            head.remove_header(name);
        }
        let mut tokens = Tokens::default();
        for (provider, finding) in self.0.iter().zip(findings) {
            if let Some((place, payload)) = finding.verified {
                provider.tell(head, payload);
                if !provider.model.forward_token {
                    tokens.target = place.remove(head, tokens.target.take());
                }
            }
            tokens.found.push((&provider.model.name, finding.evidence));
        }
        tokens
    }
}

impl Tokens<'_> {
    /// Whether one of `requirements` is met; none is met by everyone.
    pub(crate) fn judge(&self, requirements: &[JwtRequirement]) -> Judgement {
        if requirements.is_empty() {
            return Judgement::Met;
        }
        let mut judgement = Judgement::Unmet;
        for requirement in requirements {
            match self.judge_one(requirement) {
                Judgement::Met => return Judgement::Met,
                Judgement::Unknown => judgement = Judgement::Unknown,
                Judgement::Unmet => {}
            }
        }
        judgement
    }

    fn judge_one(&self, requirement: &JwtRequirement) -> Judgement {
        let evidence = self
            .found
            .iter()
            .find(|(name, _)| *name == &*requirement.provider);
        match evidence {
            Some((_, Evidence::Verified(claims))) if claims::hold(claims, &requirement.claims) => {
                Judgement::Met
            }
            Some((_, Evidence::Verified(_) | Evidence::Absent)) => Judgement::Unmet,
            Some((_, Evidence::Unverifiable)) | None => Judgement::Unknown,
        }
    }
}

/// What a provider found.
struct Finding<'p> {
    evidence: Evidence,
    /// Where the token stood, and the header that tells its payload.
    verified: Option<(&'p Place, Option<HeaderValue>)>,
}

impl Provider {
    fn prepare(model: &Arc<JwtProvider>) -> Self {
        let keys = match &model.keys {
            KeySet::Known(keys) => Some(keys.iter().map(Key::prepare).collect()),
            KeySet::Unavailable { .. } => None,
        };
        // A header that has no valid name carries nothing: no token is found in it.
        let places = model.locations.iter().filter_map(Place::prepare).collect();
        let payload = model.payload.as_ref();
        Self {
            payload: payload.and_then(|payload| payload.name.parse().ok()),
            model: Arc::clone(model),
            places,
            keys,
        }
    }

    /// Looks through the places for a token that is valid.
    fn find(&self, head: &RequestHeader, now: SystemTime) -> Finding<'_> {
        let mut evidence = Evidence::Absent;
        for place in &self.places {
            let Some(text) = place.find(head) else {
                continue;
            };
            let Some(keys) = &self.keys else {
                evidence = Evidence::Unverifiable;
                continue;
            };
            match self.verify(text, keys, now) {
                Ok((claims, payload)) => {
                    return Finding {
                        evidence: Evidence::Verified(claims),
                        verified: Some((place, payload)),
                    };
                }
                Err(flaw) => {
                    tracing::debug!(provider = %self.model.name, %flaw, "token refused");
                }
            }
        }
        Finding {
            evidence,
            verified: None,
        }
    }

    fn verify(
        &self,
        text: &str,
        keys: &[Key],
        now: SystemTime,
    ) -> Result<(Value, Option<HeaderValue>), Flaw> {
        let token = Token::parse(text)?;
        let verified = token.verify(keys);
        if verified == Err(Flaw::UnknownKey)
            && let Some(refresh) = &self.model.refresh
        {
            refresh.ask();
        }
        verified?;
        let claims = claims::check(&token.payload()?, &self.model, now)?;
        let payload = self.model.payload.as_ref();
        Ok((claims, payload.and_then(|want| header(&token, want.pad))))
    }

    fn tell(&self, head: &mut RequestHeader, payload: Option<HeaderValue>) {
        if let (Some(name), Some(value)) = (&self.payload, payload) {
            // It fails at 32,768 names, long past what a request may have; then the
            // application is told nothing.
            let _ = head.insert_header(name.clone(), value);
        }
    }
}

/// The payload as it stands in the token, which is base64url without padding.
fn header(token: &Token<'_>, pad: bool) -> Option<HeaderValue> {
    if pad {
        let padded = URL_SAFE.encode(token.payload().ok()?);
        return HeaderValue::from_str(&padded).ok();
    }
    HeaderValue::from_str(token.encoded_payload()).ok()
}

#[cfg(test)]
mod tests;
