//! Places of a service: all its instances, or a subset of them, each under a name of its own.

use crate::knowledge::InstancesQuery;
use consul::entry::ServiceResolver;
use meridian_model::sni::SniName;

/// A service, or a subset of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) service: String,
    /// `None` for the service's own name.
    subset: Option<String>,
    /// Which instances, as Consul evaluates it.
    filter: Option<String>,
    /// Whether an instance with a warning is out.
    pub(crate) only_passing: bool,
}

/// The service itself, and each of its subsets. The service's own name means the default subset,
/// where there is one.
pub(crate) fn of_service(service: &str, resolver: Option<&ServiceResolver>) -> Vec<Place> {
    let place = |name: Option<&String>, subset: Option<&consul::chain::Subset>| Place {
        service: service.to_owned(),
        subset: name.cloned(),
        filter: subset
            .map(|subset| subset.filter.clone())
            .filter(|filter| !filter.is_empty()),
        only_passing: subset.is_some_and(|subset| subset.only_passing),
    };
    let Some(resolver) = resolver else {
        return vec![place(None, None)];
    };
    let default = resolver.subsets.get(&resolver.default_subset);
    let subsets = resolver.subsets.iter();
    std::iter::once(place(None, default))
        .chain(subsets.map(|(name, subset)| place(Some(name), Some(subset))))
        .collect()
}

/// The name in handshakes of one address of a service that only its defaults know. Sidecars of
/// transparent mode ask for it.
pub(crate) fn of_address(
    service: &str,
    address: &str,
    datacenter: &str,
    trust_domain: &str,
) -> SniName {
    let address = address.replace([':', '.'], "-");
    let name =
        format!("destination.{address}.{service}.default.{datacenter}.internal.{trust_domain}");
    SniName::Exact(name.to_ascii_lowercase())
}

impl Place {
    /// Its instances: sidecars and native ones, or the service's own.
    pub(crate) fn query(&self, mesh: bool) -> InstancesQuery {
        InstancesQuery {
            service: self.service.clone(),
            mesh,
            datacenter: None,
            namespace: None,
            partition: None,
            filter: self.filter.clone(),
        }
    }

    /// The name in handshakes (Consul's `ServiceSNI`), in lower case.
    pub(crate) fn names(&self, datacenter: &str, trust_domain: &str) -> Vec<SniName> {
        let service = &self.service;
        let name = format!("{service}.default.{datacenter}.internal.{trust_domain}");
        let name = match &self.subset {
            Some(subset) => format!("{subset}.{name}"),
            None => name,
        };
        vec![SniName::Exact(name.to_ascii_lowercase())]
    }

    /// Names its cluster.
    pub(crate) fn label(&self) -> String {
        match &self.subset {
            Some(subset) => format!("{}/{subset}", self.service),
            None => self.service.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(resolver: Option<serde_json::Value>) -> Vec<(String, Option<String>, bool)> {
        let resolver = resolver.map(|json| serde_json::from_value(json).unwrap());
        let names = |place: &Place| match place.names("DC1", "td").as_slice() {
            [SniName::Exact(name)] => name.clone(),
            other => panic!("{other:?}"),
        };
        of_service("web", resolver.as_ref())
            .iter()
            .map(|place| (names(place), place.query(true).filter, place.only_passing))
            .collect()
    }

    #[test]
    fn a_service_is_one_place() {
        let expected = ("web.default.dc1.internal.td".to_owned(), None, false);
        assert_eq!(described(None), std::slice::from_ref(&expected));
        assert_eq!(described(Some(json!({"Name": "web"}))), [expected]);
    }

    #[test]
    fn subsets_are_places_and_the_default_one_takes_the_services_name() {
        let resolver = json!({"Name": "web", "DefaultSubset": "v1", "Subsets": {
            "v1": {"Filter": "a == b", "OnlyPassing": true}, "v2": {}}});
        let filter = Some("a == b".to_owned());
        let expected = [
            (
                "web.default.dc1.internal.td".to_owned(),
                filter.clone(),
                true,
            ),
            ("v1.web.default.dc1.internal.td".to_owned(), filter, true),
            ("v2.web.default.dc1.internal.td".to_owned(), None, false),
        ];
        assert_eq!(described(Some(resolver)), expected);
    }
}
