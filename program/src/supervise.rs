//! The process around its proxies: log, signals, and the way it ends.

use crate::{Opened, Outcome, Proxy, Settings, StartError};
use meridian_dataplane::admin::{SignalError, Signals, Wish};
use meridian_telemetry::log::{self, LogConfig, LogControl, LogError};
use meridian_telemetry::metrics::BuildInfo;
use tokio::sync::watch;

/// Why a process could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log could not be set up.
    #[error("set up the log")]
    Log(#[source] LogError),
    /// The system refused signals.
    #[error("take signals over")]
    Signals(#[source] SignalError),
}

/// This process. Made once, before anything else.
#[derive(Debug)]
pub struct Process {
    build: BuildInfo,
    log: LogControl,
    signals: Signals,
    end: watch::Sender<bool>,
}

impl Process {
    /// Sets up the log, chooses the TLS provider and takes signals over, on the
    /// runtime of the control plane.
    ///
    /// # Errors
    /// When the log's filter is bad, or the system refuses.
    pub fn begin(build: BuildInfo, config: &LogConfig) -> Result<Self, ProcessError> {
        let log = log::init(config).map_err(ProcessError::Log)?;
        meridian_dataplane::tls::provider();
        Ok(Self {
            build,
            log,
            signals: Signals::listen().map_err(ProcessError::Signals)?,
            end: watch::Sender::new(false),
        })
    }

    /// Opens telemetry and admin listener of a proxy in this process.
    ///
    /// # Errors
    /// When an address is taken or a file can't be opened.
    pub async fn open(&self, settings: Settings) -> Result<Opened, StartError> {
        Opened::open(self.build, settings, self.log.clone(), self.end.clone()).await
    }

    /// Runs until somebody asks for the end, then ends the proxies in the order
    /// given. `reload` is called on SIGHUP.
    pub async fn supervise(mut self, proxies: Vec<Proxy>, reload: impl Fn()) -> Outcome {
        let mut asked = self.end.subscribe();
        loop {
            tokio::select! {
                // The sender lives in self: this returns only when somebody asked.
                _ = asked.wait_for(|asked| *asked) => break,
                wish = self.signals.next() => match wish {
                    Wish::End => break,
                    Wish::Reload => {
                        tracing::info!("reloading");
                        reload();
                        proxies.iter().for_each(Proxy::reopen_logs);
                    }
                },
            }
        }
        tracing::info!("draining");
        let end = async {
            for proxy in proxies {
                proxy.end().await;
            }
        };
        tokio::select! {
            () = end => Outcome::Done,
            () = impatience(&mut self.signals) => {
                tracing::warn!("second signal: ending at once");
                Outcome::Failed
            }
        }
    }
}

/// Returns at the next wish to end; a reload is nothing any more.
async fn impatience(signals: &mut Signals) {
    while signals.next().await != Wish::End {}
}
