//! The agent itself, and the regions it knows.

use crate::{Client, Error};
use serde::Deserialize;

/// What an agent says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Reply")]
pub struct Agent {
    /// Name of its node.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Nomad's version.
    pub version: String,
}

impl Client {
    /// The agent that is asked (`GET /v1/agent/self`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent_self(&self) -> Result<Agent, Error> {
        self.get("read agent", &["agent", "self"]).await
    }

    /// All regions that can be asked through this agent (`GET /v1/regions`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn regions(&self) -> Result<Vec<String>, Error> {
        self.get("list regions", &["regions"]).await
    }
}

/// The part of the reply that is read.
#[derive(Deserialize)]
struct Reply {
    config: Config,
    member: Member,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    region: String,
    datacenter: String,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
}

impl From<Reply> for Agent {
    fn from(reply: Reply) -> Self {
        Self {
            name: reply.member.name,
            region: reply.config.region,
            datacenter: reply.config.datacenter,
            version: reply.config.version.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Agent;
    use crate::client::scripted::Scripted;

    #[tokio::test]
    async fn reads_what_a_dev_agent_says() {
        let reply = r#"{"config":{"Region":"global","Datacenter":"dc1","BindAddr":"127.0.0.1",
            "Version":{"Version":"1.10.1","Revision":"x"}},"member":{"Name":"node.global",
            "Tags":{}},"stats":{}}"#;
        let server = Scripted::answering("200 OK", reply).await;
        let agent = server.client().agent_self().await.unwrap();
        let expected = Agent {
            name: "node.global".into(),
            region: "global".into(),
            datacenter: "dc1".into(),
            version: "1.10.1".into(),
        };
        assert_eq!(agent, expected);
    }
}
