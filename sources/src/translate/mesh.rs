//! The `mesh` entry: what holds for every sidecar, and for what terminating gateways take in.

use super::terms;
use crate::knowledge::{Knowledge, Known};
use crate::publish::Contents;
use consul::entry::{MeshEntry, RequestNormalization};
use meridian_model::listener::{EscapedSlashes, HeaderUnderscores, PathNormalization};
use meridian_model::{Rejection, Snapshot, TlsTerms};

/// What a sidecar takes from the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshRules {
    /// How requests are brought into one form.
    pub(crate) normalization: PathNormalization,
    /// Whether the application must not learn the caller's certificate.
    pub(crate) sanitize_certificate: bool,
    /// TLS that is spoken with callers.
    pub(crate) incoming: TlsTerms,
    /// TLS that is offered to upstreams.
    pub(crate) outgoing: TlsTerms,
}

impl Default for MeshRules {
    /// What Consul configures without an entry.
    fn default() -> Self {
        Self {
            normalization: PathNormalization::MESH_INBOUND,
            sanitize_certificate: false,
            incoming: TlsTerms::default(),
            outgoing: TlsTerms::default(),
        }
    }
}

/// What is known of the entry; `None` while a first generation must wait for it.
pub(crate) fn known(
    knowledge: &Knowledge,
    previous: &Snapshot,
    contents: &mut Contents,
) -> Option<MeshRules> {
    Some(match knowledge.mesh() {
        Known::Waiting if previous.generation == 0 => return None,
        Known::Value(Some(entry)) => {
            let (mesh, rejected) = mesh_rules(entry);
            contents.rejected.extend(rejected);
            mesh
        }
        Known::Failed(reason) => {
            contents.reject("mesh", format!("{reason}; its defaults hold"));
            MeshRules::default()
        }
        Known::Waiting | Known::Value(None) => MeshRules::default(),
    })
}

/// Translates the entry. What is not understood is treated as strictly as there is a way to.
fn mesh_rules(entry: &MeshEntry) -> (MeshRules, Vec<Rejection>) {
    let mut rejected = Vec::new();
    let mut refuse = |reason: String| {
        rejected.push(Rejection {
            resource: "mesh".to_owned(),
            reason,
        });
    };
    let rules = MeshRules {
        normalization: normalization(&entry.http.incoming.request_normalization, &mut refuse),
        sanitize_certificate: entry.http.sanitize_x_forwarded_client_cert,
        incoming: terms::terms("TLS.Incoming", &entry.tls.incoming, &mut refuse),
        outgoing: terms::terms("TLS.Outgoing", &entry.tls.outgoing, &mut refuse),
    };
    if entry.transparent_proxy.mesh_destinations_only {
        refuse("TransparentProxy is not served".to_owned());
    }
    (rules, rejected)
}

fn normalization(
    written: &RequestNormalization,
    refuse: &mut impl FnMut(String),
) -> PathNormalization {
    let escaped_slashes = match written.path_with_escaped_slashes_action.as_str() {
        "" | "IMPLEMENTATION_SPECIFIC_DEFAULT" | "KEEP_UNCHANGED" => EscapedSlashes::Keep,
        "REJECT_REQUEST" => EscapedSlashes::Reject,
        "UNESCAPE_AND_REDIRECT" => EscapedSlashes::UnescapeAndRedirect,
        "UNESCAPE_AND_FORWARD" => EscapedSlashes::UnescapeAndForward,
        other => {
            refuse(format!(
                "PathWithEscapedSlashesAction `{other}` is not known; such requests are refused"
            ));
            EscapedSlashes::Reject
        }
    };
    let underscores = match written.headers_with_underscores_action.as_str() {
        "" | "ALLOW" => HeaderUnderscores::Allow,
        "REJECT_REQUEST" => HeaderUnderscores::Reject,
        "DROP_HEADER" => HeaderUnderscores::Drop,
        other => {
            refuse(format!(
                "HeadersWithUnderscoresAction `{other}` is not known; such requests are refused"
            ));
            HeaderUnderscores::Reject
        }
    };
    PathNormalization {
        enabled: !written.insecure_disable_path_normalization,
        merge_slashes: written.merge_slashes,
        escaped_slashes,
        underscores,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(entry: Value) -> (MeshRules, Vec<Rejection>) {
        mesh_rules(&serde_json::from_value(entry).unwrap())
    }

    fn normalized(written: Value) -> (PathNormalization, usize) {
        let entry = json!({"HTTP": {"Incoming": {"RequestNormalization": written}}});
        let (rules, rejected) = read(entry);
        (rules.normalization, rejected.len())
    }

    #[test]
    fn an_empty_entry_is_as_good_as_none() {
        assert_eq!(read(json!({})), (MeshRules::default(), Vec::new()));
    }

    #[test]
    fn every_action_has_its_meaning() {
        let slashes = [
            ("IMPLEMENTATION_SPECIFIC_DEFAULT", EscapedSlashes::Keep),
            ("KEEP_UNCHANGED", EscapedSlashes::Keep),
            ("REJECT_REQUEST", EscapedSlashes::Reject),
            ("UNESCAPE_AND_REDIRECT", EscapedSlashes::UnescapeAndRedirect),
            ("UNESCAPE_AND_FORWARD", EscapedSlashes::UnescapeAndForward),
        ];
        for (name, expected) in slashes {
            let (rules, refused) = normalized(json!({"PathWithEscapedSlashesAction": name}));
            assert_eq!((rules.escaped_slashes, refused), (expected, 0), "{name}");
        }
        let underscores = [
            ("ALLOW", HeaderUnderscores::Allow),
            ("REJECT_REQUEST", HeaderUnderscores::Reject),
            ("DROP_HEADER", HeaderUnderscores::Drop),
        ];
        for (name, expected) in underscores {
            let (rules, refused) = normalized(json!({"HeadersWithUnderscoresAction": name}));
            assert_eq!((rules.underscores, refused), (expected, 0), "{name}");
        }
        let (rules, _) =
            normalized(json!({"InsecureDisablePathNormalization": true, "MergeSlashes": true}));
        assert_eq!((rules.enabled, rules.merge_slashes), (false, true));
    }

    #[test]
    fn unknown_actions_refuse_requests() {
        let (rules, refused) = normalized(json!({"PathWithEscapedSlashesAction": "GUESS",
            "HeadersWithUnderscoresAction": "GUESS"}));
        assert_eq!(rules.escaped_slashes, EscapedSlashes::Reject);
        assert_eq!(rules.underscores, HeaderUnderscores::Reject);
        assert_eq!(refused, 2);
    }

    #[test]
    fn the_callers_certificate_can_be_withheld() {
        let (rules, _) = read(json!({"HTTP": {"SanitizeXForwardedClientCert": true}}));
        assert!(rules.sanitize_certificate);
    }

    #[test]
    fn each_direction_has_its_own_tls() {
        let (rules, rejected) = read(json!({"TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3"},
            "Outgoing": {"TLSMaxVersion": "TLSv1_2"}}}));
        assert_eq!(rejected, []);
        assert!(rules.incoming.tls13 && rules.incoming.tls12.is_empty());
        assert!(!rules.outgoing.tls13 && !rules.outgoing.tls12.is_empty());
    }
}
