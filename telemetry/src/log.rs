//! The program's own log: `tracing` events as text or JSON lines on stderr.
//!
//! Records of the `log` crate, which Pingora and rustls write, are captured too.
//! The filter has the syntax of `RUST_LOG` and can be replaced at run time.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The filter of a program that was given none.
pub const DEFAULT_FILTER: &str = "info";

/// Targets that tell at `info` and below what only their authors need to know,
/// some of it once a connection. A filter that names one of them wins.
const QUIET: &[&str] = &[
    "pingora_core=warn",
    "pingora_http=warn",
    "h2=warn",
    "hyper=warn",
    "hyper_util=warn",
    "reqwest=warn",
    "rustls=warn",
    "hickory_resolver=warn",
    "hickory_proto=warn",
];

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text when stderr is a terminal, JSON otherwise: people read terminals,
    /// collectors read the rest.
    #[default]
    Auto,
    /// One line of text an event, coloured on a terminal.
    Text,
    /// One JSON object an event, its fields at the top level.
    Json,
}

/// What the log shows, and how.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Filter in the syntax of `RUST_LOG`, such as `info,meridian_dataplane=debug`.
    pub filter: String,
    /// Form of a line.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: DEFAULT_FILTER.to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// Why the log could not be set up or its filter not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not in the syntax of `RUST_LOG`. The caller's fault.
    #[error("log filter {filter:?}: {reason}")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it. Its own causes would say the same again.
        reason: ParseError,
    },
    /// Something else has installed a global subscriber or logger before.
    #[error("install the log")]
    Install(#[source] TryInitError),
    /// The subscriber that this control belongs to is gone.
    #[error("replace the log filter")]
    Reload(#[source] reload::Error),
}

/// Changes the filter of the running log. Clones control the same log.
#[derive(Debug, Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    current: Arc<Mutex<String>>,
}

impl LogControl {
    /// Replaces the filter at once. On an error the old one stays.
    ///
    /// # Errors
    /// [`LogError::Filter`] when it does not parse.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(LogError::Reload)?;
        follow_level();
        filter.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The filter as it was last set, without what this module adds to it.
    pub fn current(&self) -> String {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Whether a filter can be used.
///
/// # Errors
/// [`LogError::Filter`] when it does not parse.
pub fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// Installs the log of this process. Called once, early in `main`.
///
/// # Errors
/// [`LogError::Filter`] for a bad filter, [`LogError::Install`] on a second call.
pub fn init(config: &LogConfig) -> Result<LogControl, LogError> {
    let terminal = io::stderr().is_terminal();
    let (subscriber, control) = build(config, terminal, io::stderr)?;
    subscriber.try_init().map_err(LogError::Install)?;
    follow_level();
    Ok(control)
}

/// The subscriber and its control, not yet installed.
fn build<W>(
    config: &LogConfig,
    terminal: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogControl), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(&config.filter)?);
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = if json {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed()
    } else {
        fmt::layer().with_ansi(terminal).with_writer(writer).boxed()
    };
    let control = LogControl {
        handle,
        current: Arc::new(Mutex::new(config.filter.clone())),
    };
    Ok((
        tracing_subscriber::registry().with(filter).with(lines),
        control,
    ))
}

/// Parses strictly, with [`QUIET`] in front so that later words override it.
fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let mut directives = String::new();
    for quiet in QUIET {
        let target = quiet.split('=').next().unwrap_or(quiet);
        // `pingora=debug` means all of Pingora's crates: a prefix speaks for the rest.
        let spoken_for = filter.split(',').any(|directive| {
            let name = directive.trim().split(['=', '[']).next().unwrap_or("");
            !name.is_empty() && target.starts_with(name)
        });
        if !spoken_for {
            directives.push_str(quiet);
            directives.push(',');
        }
    }
    directives.push_str(if filter.trim().is_empty() {
        DEFAULT_FILTER
    } else {
        filter
    });
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|reason| LogError::Filter {
            filter: filter.to_owned(),
            reason,
        })
}

/// Makes the `log` crate drop early what `tracing` would drop late.
fn follow_level() {
    let level = match LevelFilter::current().into_level() {
        None => ::log::LevelFilter::Off,
        Some(tracing::Level::ERROR) => ::log::LevelFilter::Error,
        Some(tracing::Level::WARN) => ::log::LevelFilter::Warn,
        Some(tracing::Level::INFO) => ::log::LevelFilter::Info,
        Some(tracing::Level::DEBUG) => ::log::LevelFilter::Debug,
        Some(tracing::Level::TRACE) => ::log::LevelFilter::Trace,
    };
    ::log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(filter: &str, format: LogFormat) -> LogConfig {
        LogConfig {
            filter: filter.to_owned(),
            format,
        }
    }

    fn logged(config: &LogConfig, terminal: bool, events: impl FnOnce(&LogControl)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, control) = build(config, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || events(&control));
        captured.text()
    }

    #[test]
    fn writes_json_where_no_terminal_is() {
        let text = logged(&LogConfig::default(), false, |_| {
            tracing::info!(listener = "public", "listener opened");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "listener opened");
        assert_eq!(line["listener"], "public");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn writes_text_on_a_terminal() {
        let text = logged(&LogConfig::default(), true, |_| tracing::info!("opened"));
        assert!(text.contains("opened"), "{text}");
        assert!(!text.starts_with('{'), "{text}");
    }

    #[test]
    fn changes_the_level_at_run_time() {
        let text = logged(&config("info", LogFormat::Text), false, |control| {
            tracing::debug!("before");
            control.set("debug").unwrap();
            tracing::debug!("after");
            assert_eq!(control.current(), "debug");
        });
        assert!(!text.contains("before"), "{text}");
        assert!(text.contains("after"), "{text}");
    }

    #[test]
    fn keeps_the_old_filter_when_the_new_one_is_bad() {
        let text = logged(&config("info", LogFormat::Text), false, |control| {
            let refused = control.set("meridian=loudly");
            assert!(matches!(refused, Err(LogError::Filter { .. })));
            assert_eq!(control.current(), "info");
            tracing::info!("still here");
        });
        assert!(text.contains("still here"), "{text}");
    }

    #[test]
    fn lowers_pingora_unless_the_filter_names_it() {
        let quiet = logged(&config("debug", LogFormat::Text), false, |_| {
            tracing::info!(target: "pingora_core::server", "chatter");
        });
        assert!(!quiet.contains("chatter"), "{quiet}");
        let named = logged(
            &config("info,pingora=debug", LogFormat::Text),
            false,
            |_| {
                tracing::debug!(target: "pingora_core::server", "chatter");
            },
        );
        assert!(named.contains("chatter"), "{named}");
    }

    #[test]
    fn captures_the_log_crate() {
        // The one test that installs the global log: a second `init` fails.
        let control = init(&config("warn", LogFormat::Json)).unwrap();
        assert!(!::log::log_enabled!(target: "somebody", ::log::Level::Info));
        control.set("info").unwrap();
        assert!(::log::log_enabled!(target: "somebody", ::log::Level::Info));
        let text = logged(&LogConfig::default(), false, |_| {
            ::log::warn!(target: "pingora_core::upgrade", "written to log");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "written to log");
        assert_eq!(line["target"], "pingora_core::upgrade");
        control.set("error").unwrap();
        assert!(!::log::log_enabled!(target: "somebody", ::log::Level::Warn));
        assert!(matches!(
            init(&LogConfig::default()),
            Err(LogError::Install(_))
        ));
    }
}
