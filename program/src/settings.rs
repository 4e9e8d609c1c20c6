//! How a proxy runs, from its file and its command line: everything that is not traffic.

use crate::ProgramOptions;
use crate::options::{TOKEN, TOKEN_FILE};
use meridian_config as config;
use meridian_dataplane::admin::{AdminConfig, AdminError, AdminToken};
use meridian_telemetry::access_log::{self, AccessLogConfig, AccessLogFormat};
use meridian_telemetry::log::{self, LogConfig, LogError, LogFormat};
use meridian_telemetry::trace::{Sampler, SpanExportConfig};
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// How a proxy runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that move traffic.
    pub workers: NonZeroUsize,
    /// The admin listener.
    pub admin: AdminConfig,
    /// The program's own log.
    pub log: LogConfig,
    /// One line a request; `None` writes none.
    pub access_log: Option<AccessLogConfig>,
    /// Where spans go; `None` records none.
    pub spans: Option<SpanExportConfig>,
    /// How long requests under way may take once the end is asked for.
    pub drain: Duration,
}

/// Why options and file don't make settings. The caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file with the admin listener's token can't be read.
    #[error("read admin token {}", path.display())]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file with the admin listener's token is empty.
    #[error("admin token {} is empty", path.display())]
    EmptyAdminToken {
        /// The file.
        path: PathBuf,
    },
    /// The admin listener would be open to everyone.
    #[error("{0}; --admin-token-file gives it one")]
    Admin(AdminError),
    /// The log's filter can't be used.
    #[error(transparent)]
    Log(LogError),
}

/// Who runs: what a trace view shows.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// `service.name` of spans.
    pub service: &'a str,
    /// Threads, where neither option nor file says how many.
    pub workers: NonZeroUsize,
}

impl Settings {
    /// The file's settings, under those of the command line.
    ///
    /// # Errors
    /// When the admin token can't be read, or is missing where one is needed, or the log's filter
    /// can't be used.
    pub fn new(
        named: Named<'_>,
        file: &config::Startup,
        options: &ProgramOptions,
    ) -> Result<Self, SettingsError> {
        let threads = file.threads.and_then(|n| NonZeroUsize::new(n.into()));
        let filter = options.log_level.as_deref();
        let filter = filter.unwrap_or(file.telemetry.log_level.as_str());
        log::check(filter).map_err(SettingsError::Log)?;
        let admin = AdminConfig {
            bind: options.admin_bind.unwrap_or(file.admin),
            token: admin_token(options)?,
        };
        admin.check().map_err(SettingsError::Admin)?;
        Ok(Self {
            workers: options.threads.or(threads).unwrap_or(named.workers),
            admin,
            log: LogConfig {
                filter: filter.to_owned(),
                format: LogFormat::Auto,
            },
            access_log: access_log(&file.telemetry.access_log),
            spans: file
                .telemetry
                .tracing
                .as_ref()
                .map(|tracing| spans(tracing, named.service)),
            drain: file.drain_deadline,
        })
    }
}

/// All processors: the gateway has a machine, or a share of one, to itself.
pub fn every_processor() -> NonZeroUsize {
    // Unknown on exotic systems, where one is the safe guess.
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What the file says, under the names of the `consul` CLI's variables.
/// A token's own variable is looked up in `environment`.
pub fn consul_variable(
    file: &config::Consul,
    environment: impl Fn(&str) -> Option<String>,
    name: &str,
) -> Option<String> {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let tls = file.tls.as_ref();
    let client = tls.and_then(|tls| tls.client.as_ref());
    match (name, &file.token) {
        ("CONSUL_HTTP_ADDR", _) => file.address.clone(),
        (TOKEN, Some(config::TokenSource::Environment(variable))) => environment(variable),
        (TOKEN_FILE, Some(config::TokenSource::File(path))) => Some(text(path)),
        ("CONSUL_NAMESPACE", _) => file.namespace.clone(),
        ("CONSUL_PARTITION", _) => file.partition.clone(),
        ("CONSUL_CACERT", _) => tls.and_then(|tls| tls.ca_file.as_ref()).map(text),
        ("CONSUL_CLIENT_CERT", _) => client.map(|(certificate, _)| text(certificate)),
        ("CONSUL_CLIENT_KEY", _) => client.map(|(_, key)| text(key)),
        ("CONSUL_TLS_SERVER_NAME", _) => tls.and_then(|tls| tls.server_name.clone()),
        _ => None,
    }
}

fn admin_token(options: &ProgramOptions) -> Result<Option<AdminToken>, SettingsError> {
    let Some(path) = options.admin_token_file.clone() else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => match AdminToken::new(&text) {
            Some(token) => Ok(Some(token)),
            None => Err(SettingsError::EmptyAdminToken { path }),
        },
        Err(source) => Err(SettingsError::AdminToken { path, source }),
    }
}

fn access_log(file: &config::AccessLog) -> Option<AccessLogConfig> {
    let destination = match &file.destination {
        config::AccessLogDestination::None => return None,
        config::AccessLogDestination::Stdout => access_log::Destination::Stdout,
        config::AccessLogDestination::Stderr => access_log::Destination::Stderr,
        config::AccessLogDestination::File(path) => access_log::Destination::File(path.clone()),
    };
    Some(AccessLogConfig {
        format: match file.format {
            config::AccessLogFormat::Json => AccessLogFormat::Json,
            config::AccessLogFormat::Text => AccessLogFormat::Text,
        },
        destination,
        ..AccessLogConfig::default()
    })
}

fn spans(file: &config::Tracing, service: &str) -> SpanExportConfig {
    SpanExportConfig {
        endpoint: file.endpoint.clone(),
        service_name: service.to_owned(),
        resource: Vec::new(),
        sampler: Sampler::new(file.sampling),
        interval: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::MeshFile;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    fn startup(text: &str) -> config::Startup {
        MeshFile::parse(text, "mesh.yaml").unwrap().value.startup
    }

    fn settings(text: &str, options: &ProgramOptions) -> Settings {
        let named = Named {
            service: "web",
            workers: ONE,
        };
        Settings::new(named, &startup(text), options).unwrap()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let settings = settings("version: mesh/v1\n", &ProgramOptions::default());
        assert_eq!(settings.admin.bind, meridian_dataplane::admin::DEFAULT_BIND);
        assert_eq!(settings.workers, ONE);
        assert_eq!(settings.log.filter, "info");
        assert!(settings.spans.is_none());
    }

    #[test]
    fn options_win_over_the_file() {
        let options = ProgramOptions {
            admin_bind: Some("127.0.0.1:1".parse().unwrap()),
            log_level: Some("debug".into()),
            threads: NonZeroUsize::new(3),
            ..ProgramOptions::default()
        };
        let text = "version: mesh/v1\nadmin: {bind: '127.0.0.1:2'}\nthreads: 7\n";
        let given = settings(text, &options);
        assert_eq!(given.admin.bind.port(), 1);
        assert_eq!(given.log.filter, "debug");
        assert_eq!(given.workers.get(), 3);
        let file = settings(text, &ProgramOptions::default());
        assert_eq!(file.admin.bind.port(), 2);
        assert_eq!(file.workers.get(), 7);
    }

    #[test]
    fn an_admin_listener_open_to_everyone_is_refused() {
        let options = ProgramOptions {
            admin_bind: Some("0.0.0.0:19000".parse().unwrap()),
            ..ProgramOptions::default()
        };
        let named = Named {
            service: "web",
            workers: ONE,
        };
        let refused = Settings::new(named, &startup("version: mesh/v1\n"), &options);
        let Err(error @ SettingsError::Admin(_)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(
            error.to_string(),
            "admin listener 0.0.0.0:19000 is not on loopback and has no token; \
             --admin-token-file gives it one"
        );
    }

    #[test]
    fn a_log_filter_that_cannot_be_used_is_refused_once() {
        let options = ProgramOptions {
            log_level: Some("a=b=c".into()),
            ..ProgramOptions::default()
        };
        let named = Named {
            service: "web",
            workers: ONE,
        };
        let refused = Settings::new(named, &startup("version: mesh/v1\n"), &options);
        let error = refused.expect_err("a level is no such word");
        assert!(error.to_string().contains("\"a=b=c\": "), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "said once");
    }

    #[test]
    fn the_admin_token_is_read_from_its_file() {
        let missing = ProgramOptions {
            admin_token_file: Some("/nonexistent/token".into()),
            ..ProgramOptions::default()
        };
        let error = admin_token(&missing).unwrap_err();
        assert_eq!(error.to_string(), "read admin token /nonexistent/token");
        let empty = ProgramOptions {
            admin_token_file: Some("/dev/null".into()),
            ..ProgramOptions::default()
        };
        let error = admin_token(&empty).unwrap_err();
        assert!(matches!(error, SettingsError::EmptyAdminToken { .. }));
    }

    #[test]
    fn the_consul_block_speaks_in_the_clis_variables() {
        let file = config::Consul {
            address: Some("https://consul:8501".into()),
            token: Some(config::TokenSource::Environment("OURS".into())),
            tls: Some(config::ConsulTls {
                client: Some(("/cert".into(), "/key".into())),
                ..config::ConsulTls::default()
            }),
            ..config::Consul::default()
        };
        let environment = |name: &str| (name == "OURS").then(|| "t0ken".to_owned());
        let ask = |name| consul_variable(&file, environment, name);
        assert_eq!(
            ask("CONSUL_HTTP_ADDR").as_deref(),
            Some("https://consul:8501")
        );
        assert_eq!(ask(TOKEN).as_deref(), Some("t0ken"));
        assert_eq!(ask(TOKEN_FILE), None);
        assert_eq!(ask("CONSUL_CLIENT_KEY").as_deref(), Some("/key"));
        assert_eq!(ask("CONSUL_HTTP_SSL"), None);
    }
}
