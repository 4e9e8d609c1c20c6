//! Services registered with Nomad itself (`provider = "nomad"`).
//!
//! Nomad doesn't leave out unhealthy instances here.

use crate::{Client, Error};
use serde::Deserialize;

/// A service's name in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Tags of all its instances.
    pub tags: Vec<String>,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// ID, unique in the cluster.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    #[serde(rename = "ServiceName")]
    pub name: String,
    /// Host name or IP address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Tags; null where there are none.
    #[serde(default, deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Datacenter of its node.
    pub datacenter: String,
    /// The allocation that it is part of.
    #[serde(rename = "AllocID")]
    pub allocation: String,
}

impl Client {
    /// All services of the token's namespace (`GET /v1/services`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        let namespaces: Vec<Namespace> = self.get("list services", &["services"]).await?;
        let names = namespaces.into_iter().flat_map(|group| {
            let namespace = group.namespace;
            group.services.into_iter().map(move |entry| ServiceName {
                namespace: namespace.clone(),
                name: entry.service_name,
                tags: entry.tags,
            })
        });
        Ok(names.collect())
    }

    /// The instances of a service, healthy or not; empty for an unknown name
    /// (`GET /v1/service/:name`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn service(&self, name: &str) -> Result<Vec<Service>, Error> {
        self.get("read service", &["service", name]).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Namespace {
    namespace: String,
    #[serde(default, deserialize_with = "nullable")]
    services: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    service_name: String,
    #[serde(default, deserialize_with = "nullable")]
    tags: Vec<String>,
}

/// Go writes an empty list as `null`.
fn nullable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::client::scripted::Scripted;

    #[tokio::test]
    async fn lists_names_by_namespace() {
        let reply = r#"[{"Namespace":"default","Services":[
            {"ServiceName":"web","Tags":["v1"]},{"ServiceName":"api","Tags":null}]},
            {"Namespace":"empty","Services":null}]"#;
        let server = Scripted::answering("200 OK", reply).await;
        let services = server.client().services().await.unwrap();
        let names: Vec<_> = services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        assert_eq!(names, ["web", "api"]);
        assert_eq!(services[0].namespace, "default");
        assert_eq!(services[0].tags, ["v1"]);
        assert!(services[1].tags.is_empty());
    }

    #[tokio::test]
    async fn reads_instances_and_escapes_the_name() {
        let reply = r#"[{"ID":"_nomad-task-a","ServiceName":"a/b","Address":"10.0.0.1",
            "Port":8080,"Tags":null,"Datacenter":"dc1","AllocID":"a","NodeID":"n"}]"#;
        let server = Scripted::answering("200 OK", reply).await;
        let services = server.client().service("a/b").await.unwrap();
        assert_eq!(services[0].port, 8080);
        assert_eq!(services[0].allocation, "a");
        let asked = server.asked().await;
        assert!(asked.starts_with("GET /v1/service/a%2Fb "), "{asked}");
    }
}
