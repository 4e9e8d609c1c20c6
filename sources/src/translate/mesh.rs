//! The `mesh` entry: what holds for every sidecar, for what terminating gateways take in, and for
//! what gateways for strangers say to the mesh.

use super::terms;
use crate::knowledge::{Knowledge, Known};
use crate::publish::Contents;
use consul::entry::{MeshEntry, RequestNormalization};
use meridian_model::listener::{EscapedSlashes, HeaderUnderscores, PathNormalization};
use meridian_model::{Snapshot, TlsTerms};

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
    read(knowledge, previous, contents, mesh_rules)
}

/// TLS that a gateway for strangers offers to the mesh; `None` as with [`known`]. As at Consul's
/// Envoy, what the entry says about what is let in does not hold for strangers.
pub(crate) fn outgoing(
    knowledge: &Knowledge,
    previous: &Snapshot,
    contents: &mut Contents,
) -> Option<TlsTerms> {
    read(knowledge, previous, contents, |entry, refuse| {
        terms::terms("TLS.Outgoing", &entry.tls.outgoing, refuse)
    })
}

/// Names what the entry wants of a mesh gateway and is not served.
pub(crate) fn name_unserved_at_gateway(knowledge: &Knowledge, contents: &mut Contents) {
    if let Known::Value(Some(entry)) = knowledge.mesh()
        && entry.peering.peer_through_mesh_gateways
    {
        contents.reject(
            "mesh",
            "Peering.PeerThroughMeshGateways is not served: servers of cluster peers do not \
             reach each other through this gateway",
        );
    }
}

fn read<T: Default>(
    knowledge: &Knowledge,
    previous: &Snapshot,
    contents: &mut Contents,
    translate: impl FnOnce(&MeshEntry, &mut dyn FnMut(String)) -> T,
) -> Option<T> {
    let mut refuse = |reason: String| contents.reject("mesh", reason);
    Some(match knowledge.mesh() {
        Known::Waiting if previous.generation == 0 => return None,
        Known::Value(Some(entry)) => translate(entry, &mut refuse),
        Known::Failed(reason) => {
            refuse(format!("{reason}; its defaults hold"));
            T::default()
        }
        Known::Waiting | Known::Value(None) => T::default(),
    })
}

/// Translates the entry. What is not understood is treated as strictly as there is a way to.
fn mesh_rules(entry: &MeshEntry, refuse: &mut dyn FnMut(String)) -> MeshRules {
    if entry.transparent_proxy.mesh_destinations_only {
        refuse("TransparentProxy is not served".to_owned());
    }
    MeshRules {
        normalization: normalization(&entry.http.incoming.request_normalization, refuse),
        sanitize_certificate: entry.http.sanitize_x_forwarded_client_cert,
        incoming: terms::terms("TLS.Incoming", &entry.tls.incoming, refuse),
        outgoing: terms::terms("TLS.Outgoing", &entry.tls.outgoing, refuse),
    }
}

fn normalization(
    written: &RequestNormalization,
    refuse: &mut dyn FnMut(String),
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

    /// What the entry means to a sidecar, and what of it was refused.
    fn read(entry: Value) -> (MeshRules, Vec<String>) {
        let mut refused = Vec::new();
        let entry = serde_json::from_value(entry).unwrap();
        let rules = mesh_rules(&entry, &mut |reason| refused.push(reason));
        (rules, refused)
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
    fn what_transparent_mode_lets_through_is_named() {
        let only = |wanted: bool| json!({"TransparentProxy": {"MeshDestinationsOnly": wanted}});
        let (rules, refused) = read(only(true));
        assert_eq!(refused, ["TransparentProxy is not served"]);
        assert_eq!(rules, MeshRules::default(), "and nothing else changes");
        assert_eq!(read(only(false)).1, Vec::<String>::new());
    }

    #[test]
    fn what_concerns_others_changes_nothing_here() {
        let read = read(json!({"AllowEnablingPermissiveMutualTLS": true,
            "ValidateClusters": true, "Peering": {"PeerThroughMeshGateways": true}}));
        assert_eq!(read, (MeshRules::default(), Vec::new()));
    }

    #[test]
    fn each_direction_has_its_own_tls() {
        let (rules, rejected) = read(json!({"TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3"},
            "Outgoing": {"TLSMaxVersion": "TLSv1_2"}}}));
        assert_eq!(rejected, Vec::<String>::new());
        assert!(rules.incoming.tls13 && rules.incoming.tls12.is_empty());
        assert!(!rules.outgoing.tls13 && !rules.outgoing.tls12.is_empty());
    }
}
