//! Options that several programs have, with the words of the `consul` CLI where it has them.

use crate::settings::consul_variable;
use clap::Args;
use consul::{ClientConfig, ConfigError};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// How a program runs. Each of them wins over the configuration file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Program")]
pub struct ProgramOptions {
    /// Where operators are answered: /live /ready /metrics /snapshot /log-level /drain [default: 127.0.0.1:19000].
    #[arg(long, value_name = "IP:PORT")]
    pub admin_bind: Option<SocketAddr>,
    /// File with the token that operators must present; required when --admin-bind is not loopback.
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// What is logged, as in RUST_LOG: `info`, or `info,meridian_dataplane=debug`.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true)]
    pub log_level: Option<String>,
    /// Threads that move traffic [default: one a processor; a sidecar takes two at most].
    #[arg(long, value_name = "NUMBER", value_parser = from_one)]
    pub threads: Option<NonZeroUsize>,
}

/// Where Consul is. What is left out comes from the configuration file, and
/// what that leaves out from the CONSUL_* variables of the `consul` CLI.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Consul")]
pub struct ConsulOptions {
    /// The agent's HTTP API: `127.0.0.1:8500`, `https://...` or `unix:///path` [env: CONSUL_HTTP_ADDR].
    #[arg(long, value_name = "ADDRESS")]
    pub http_addr: Option<String>,
    /// ACL token; others can read it in the process list, so prefer --token-file [env: CONSUL_HTTP_TOKEN].
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File with the ACL token, read again when it changes [env: CONSUL_HTTP_TOKEN_FILE].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the agent's certificate [env: CONSUL_CACERT].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Directory of such files [env: CONSUL_CAPATH].
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "ca_file")]
    pub ca_path: Option<PathBuf>,
    /// PEM file of the certificate to present to an agent with `verify_incoming` [env: CONSUL_CLIENT_CERT].
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// PEM file of that certificate's key [env: CONSUL_CLIENT_KEY].
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// Name that the agent's certificate must cover, if not the host of its address [env: CONSUL_TLS_SERVER_NAME].
    #[arg(long, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Namespace to ask (Consul Enterprise) [env: CONSUL_NAMESPACE].
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Admin partition to ask (Consul Enterprise) [env: CONSUL_PARTITION].
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
}

impl ConsulOptions {
    /// The client's settings: these options, before `file`, before `environment`.
    ///
    /// # Errors
    /// When a value is malformed.
    pub fn client_config(
        &self,
        file: &meridian_config::Consul,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<ClientConfig, ConfigError> {
        let option = |name: &str| self.option(name);
        let written = |name: &str| consul_variable(file, &environment, name);
        let layers: [Layer<'_>; 3] = [&option, &written, &environment];
        let mut config = ClientConfig::from_env(|name| first(&layers, name))?;
        config.datacenter.clone_from(&file.datacenter);
        Ok(config)
    }

    fn option(&self, name: &str) -> Option<String> {
        let path = |path: &Option<PathBuf>| Some(path.as_ref()?.to_string_lossy().into_owned());
        match name {
            "CONSUL_HTTP_ADDR" => self.http_addr.clone(),
            TOKEN => self.token.clone(),
            TOKEN_FILE => path(&self.token_file),
            CA_FILE => path(&self.ca_file),
            CA_PATH => path(&self.ca_path),
            "CONSUL_CLIENT_CERT" => path(&self.client_cert),
            "CONSUL_CLIENT_KEY" => path(&self.client_key),
            "CONSUL_TLS_SERVER_NAME" => self.tls_server_name.clone(),
            "CONSUL_NAMESPACE" => self.namespace.clone(),
            "CONSUL_PARTITION" => self.partition.clone(),
            _ => None,
        }
    }
}

/// Looks a variable up.
type Layer<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the first layer that speaks about a variable says. A token and a token
/// file shadow each other, as a file and a directory of authorities do: the
/// layer that names either decides about both.
fn from_one(words: &str) -> Result<NonZeroUsize, &'static str> {
    words.parse().map_err(|_| "expected a number, 1 or more")
}

fn first(layers: &[Layer<'_>], name: &str) -> Option<String> {
    let alternatives: &[&str] = match name {
        TOKEN | TOKEN_FILE => &[TOKEN, TOKEN_FILE],
        CA_FILE | CA_PATH => &[CA_FILE, CA_PATH],
        _ => &[],
    };
    layers.iter().find_map(|layer| {
        let ask = |name: &str| layer(name).filter(|value| !value.is_empty());
        let speaks = alternatives.iter().any(|other| ask(other).is_some());
        let value = ask(name);
        (speaks || value.is_some()).then_some(value)
    })?
}

pub(crate) const TOKEN: &str = "CONSUL_HTTP_TOKEN";
pub(crate) const TOKEN_FILE: &str = "CONSUL_HTTP_TOKEN_FILE";
const CA_FILE: &str = "CONSUL_CACERT";
const CA_PATH: &str = "CONSUL_CAPATH";

#[cfg(test)]
mod tests {
    use super::*;
    use consul::{Address, Secret, Token};
    use meridian_config::{Consul, TokenSource};

    fn environment<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn options_win_over_the_file_and_that_over_the_environment() {
        let options = ConsulOptions {
            http_addr: Some("10.0.0.1:8500".into()),
            ..ConsulOptions::default()
        };
        let file = Consul {
            address: Some("10.0.0.2:8500".into()),
            namespace: Some("ours".into()),
            datacenter: Some("dc2".into()),
            ..Consul::default()
        };
        let variables = [
            ("CONSUL_NAMESPACE", "theirs"),
            ("CONSUL_PARTITION", "theirs"),
        ];
        let config = options
            .client_config(&file, environment(&variables))
            .unwrap();
        assert_eq!(
            config.address,
            Address::parse("10.0.0.1:8500", false).unwrap()
        );
        assert_eq!(config.namespace.as_deref(), Some("ours"));
        assert_eq!(config.partition.as_deref(), Some("theirs"));
        assert_eq!(config.datacenter.as_deref(), Some("dc2"));
    }

    #[test]
    fn a_token_shadows_the_token_files_of_lower_layers() {
        let options = ConsulOptions {
            token: Some("mine".into()),
            ..ConsulOptions::default()
        };
        let file = Consul {
            token: Some(TokenSource::File("/theirs".into())),
            ..Consul::default()
        };
        let config = options.client_config(&file, environment(&[])).unwrap();
        assert_eq!(config.token, Token::Fixed(Secret::new("mine")));
    }

    #[test]
    fn tls_is_given_by_options_as_to_the_cli() {
        let options = ConsulOptions {
            http_addr: Some("https://agent:8501".into()),
            ca_path: Some("/cas".into()),
            client_cert: Some("/cert".into()),
            client_key: Some("/key".into()),
            tls_server_name: Some("server.dc1.consul".into()),
            ..ConsulOptions::default()
        };
        let variables = [(CA_FILE, "/shadowed")];
        let config = options
            .client_config(&Consul::default(), environment(&variables))
            .unwrap();
        assert_eq!(
            config.tls.authorities,
            consul::Authorities::Directory("/cas".into())
        );
        let pair = config.tls.client.unwrap();
        assert_eq!(pair.certificate, PathBuf::from("/cert"));
        assert_eq!(pair.key, PathBuf::from("/key"));
        assert_eq!(config.tls.server_name.as_deref(), Some("server.dc1.consul"));
    }

    #[test]
    fn empty_variables_are_unset() {
        let variables = [(TOKEN, ""), (TOKEN_FILE, ""), ("CONSUL_HTTP_ADDR", "")];
        let config = ConsulOptions::default()
            .client_config(&Consul::default(), environment(&variables))
            .unwrap();
        assert_eq!(config.token, Token::Anonymous);
    }
}
