//! Names of resources: one type a noun, so that a cluster's name is never
//! passed where a listener's is meant. Cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for labels that outlive the resource.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $type {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Name of a listener, unique in a snapshot.
    ListenerName
}
name! {
    /// Name of a cluster, unique in a snapshot.
    ClusterName
}
name! {
    /// Name of a route, as it appears in metrics and access logs.
    RouteName
}
name! {
    /// Name of an identity: the service whose certificate it is.
    IdentityName
}
