//! Prepared queries: instances of a service, chosen by rules that an operator stored in Consul.

use serde::Deserialize;

use crate::{call::Call, client::Client, health::ServiceEntry, query::Query, wire::nullable};

impl Client {
    /// What a prepared query, by name or ID, finds among instances that speak Connect
    /// (`GET /v1/query/:query/execute`). Doesn't block: a watch polls. The order of the instances
    /// is drawn anew each time. An unknown query is a 404 error.
    #[must_use]
    pub fn prepared_query(&self, query: &str) -> Query<QueryResult> {
        let call = Call::get("execute prepared query", ["v1", "query", query, "execute"]);
        Query::new(self, call.with("connect", "true"))
    }
}

/// What a prepared query found.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryResult {
    /// The service.
    pub service: String,
    /// The datacenter that the instances are in: another one after a failover.
    pub datacenter: String,
    /// The instances; critical ones are left out.
    #[serde(deserialize_with = "nullable")]
    pub nodes: Vec<ServiceEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_found_is_an_empty_list() {
        let read = |json| serde_json::from_str::<QueryResult>(json).unwrap();
        assert_eq!(read(r#"{"Service": "db", "Nodes": null}"#).nodes, []);
        let found = read(r#"{"Nodes": [{"Service": {"ID": "db-1", "Port": 21000}}]}"#);
        assert_eq!(found.nodes[0].service.port, 21000);
    }
}
