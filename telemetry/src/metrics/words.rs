//! The values of labels that are sets fixed by this crate.
//!
//! Each is an enum, so that a label can't take a value that no dashboard knows,
//! and so that a counter for each value is resolved ahead of time.

/// A closed set of label values.
pub trait Word: Copy + 'static {
    /// Every value, in the order of the enum.
    const ALL: &'static [Self];

    /// Where the value stands in [`Word::ALL`].
    fn index(self) -> usize;

    /// The label's value.
    fn as_str(self) -> &'static str;
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Word for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// Which way traffic goes through this process.
    Direction {
        /// From the mesh to the local application.
        Inbound => "inbound",
        /// From the local application into the mesh.
        Outbound => "outbound",
        /// From outside through a gateway.
        Edge => "edge",
    }
}

words! {
    /// How a TLS handshake ended.
    TlsResult {
        /// It was completed and the peer accepted.
        Ok => "ok",
        /// The peer presented no certificate although one is required.
        NoCertificate => "no_certificate",
        /// The peer's certificate is expired or not yet valid.
        Expired => "expired",
        /// The peer's chain leads to no root that is trusted.
        UnknownIssuer => "unknown_issuer",
        /// The peer is of a trust domain that is not believed here.
        UnknownTrustDomain => "unknown_trust_domain",
        /// The peer's certificate does not hold exactly one SPIFFE URI.
        BadSpiffe => "bad_spiffe",
        /// The peer is somebody else than was expected.
        WrongIdentity => "wrong_identity",
        /// The peer went away in the middle, as health checks of the TCP kind do.
        Closed => "closed",
        /// It took longer than the deadline.
        Timeout => "timeout",
        /// Anything else: a broken record, an alert, a reset.
        Other => "other",
    }
}

words! {
    /// Which check decided about access.
    Layer {
        /// A connection's, at accept or when intentions changed.
        L4 => "l4",
        /// A request's.
        L7 => "l7",
        /// A service's that is asked about both.
        External => "external",
    }
}

words! {
    /// A decision about access.
    Verdict {
        /// Let through.
        Allow => "allow",
        /// Refused.
        Deny => "deny",
    }
}

words! {
    /// What was done about a request above a rate limit.
    OverRate {
        /// It was refused.
        Refused => "refused",
        /// It went on, because the limit is not enforced on it.
        Spared => "spared",
    }
}

words! {
    /// Why a request was refused before it was routed.
    RejectReason {
        /// Malformed, ambiguous in its framing, or without a valid host.
        BadRequest => "bad_request",
        /// The head has too many bytes or fields.
        HeaderTooLarge => "header_too_large",
        /// The head did not arrive in time.
        Timeout => "timeout",
        /// The body is larger than allowed.
        BodyTooLarge => "body_too_large",
        /// A limit of concurrency or rate was reached.
        Overload => "overload",
        /// The process is draining.
        Draining => "draining",
        /// Anything else.
        Other => "other",
    }
}

words! {
    /// Why a try was followed by another.
    RetryReason {
        /// No connection came about, so nothing was sent.
        ConnectFailure => "connect_failure",
        /// The connection was lost before a response.
        Reset => "reset",
        /// The endpoint refused the stream unprocessed (HTTP/2 REFUSED_STREAM).
        RefusedStream => "refused_stream",
        /// The try's deadline passed.
        Timeout => "timeout",
        /// The response's status is on the list.
        Status => "status",
        /// Anything else.
        Other => "other",
    }
}

words! {
    /// Why a try got no response. Also the `error.type` of its span.
    TryError {
        /// The endpoint refused, or can't be reached.
        Connect => "connect",
        /// No connection in time.
        ConnectTimeout => "connect_timeout",
        /// The TLS handshake failed.
        Tls => "tls",
        /// No response in time.
        Timeout => "timeout",
        /// The connection or stream was reset.
        Reset => "reset",
        /// The endpoint's bytes are not the protocol.
        Protocol => "protocol",
        /// The client went away first.
        Cancelled => "cancelled",
        /// No endpoint to try.
        NoEndpoint => "no_endpoint",
        /// A connection or request limit of the cluster was reached.
        Overflow => "overflow",
        /// Anything else.
        Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counters of a word are found by its index.
    fn stands_in_order<W: Word>() {
        for (index, word) in W::ALL.iter().enumerate() {
            assert_eq!(word.index(), index);
        }
    }

    #[test]
    fn every_word_stands_at_its_index() {
        stands_in_order::<Direction>();
        stands_in_order::<TlsResult>();
        stands_in_order::<Layer>();
        stands_in_order::<Verdict>();
        stands_in_order::<OverRate>();
        stands_in_order::<RejectReason>();
        stands_in_order::<RetryReason>();
        stands_in_order::<TryError>();
    }
}
