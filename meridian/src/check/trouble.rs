//! What an error of Consul's means to an operator, and what helps.

use consul::Error;
use meridian_telemetry::Chain;

/// The finding and its remedy. `right` is what the question needs of a token, such as
/// `service:write on "web"`; empty where every token will do.
pub(super) fn explain(error: &Error, right: &str) -> (String, String) {
    (Chain(error).to_string(), remedy(error, right))
}

fn remedy(error: &Error, right: &str) -> String {
    if error.is_token_refused() {
        return "the token is unknown, revoked or expired: give a valid one with --token-file, \
                whose file is read again for each question"
            .to_owned();
    }
    if error.is_forbidden() {
        let right = if right.is_empty() { "a right" } else { right };
        return format!(
            "the token lacks {right}; a service identity has all that a sidecar needs: \
             consul acl token create -service-identity NAME; docs/operations.md has the policies \
             of gateways"
        );
    }
    match error {
        Error::Config(_) => "mend the option, the file or the CONSUL_* variable it names",
        Error::Unreachable { .. } => "start the agent, or name another one with --http-addr",
        Error::Tls { .. } => {
            "name the agent's authority with --ca-file, and its certificate's name with \
             --tls-server-name"
        }
        Error::Timeout { .. } => "look whether the agent hangs or has no leader",
        Error::Interrupted { .. } => {
            "an agent with verify_incoming wants --client-cert and --client-key"
        }
        Error::Status { status, .. } if status.is_server_error() => {
            "look into the agent's log: its servers may have no leader"
        }
        Error::Status { .. } => "see whether it exists, and is spelt so",
        _ => "see whether something else answers at that address",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_with_their_remedy() {
        let missing = consul::ConfigError::HalfPair;
        let (finding, remedy) = explain(&missing.into(), "");
        assert!(finding.contains("certificate needs its key"), "{finding}");
        assert!(remedy.contains("CONSUL_"), "{remedy}");
    }
}
