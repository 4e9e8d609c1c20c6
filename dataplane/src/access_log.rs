//! The access log of the moment: the program's own, or the one that came with the traffic.

mod line;

use arc_swap::ArcSwapOption;
use meridian_model::AccessLogPlan;
use meridian_model::access_log::LogDestination;
use meridian_telemetry::access_log::{
    AccessLog, AccessLogConfig, AccessLogError, AccessLogFormat, AccessLogMetrics, AccessRecord,
    Destination,
};
use std::fmt;
use std::sync::Arc;

/// Hands records to the log of the moment.
pub(crate) struct LogSwitch {
    /// The program's own.
    own: Option<Arc<AccessLog>>,
    current: ArcSwapOption<AccessLog>,
}

impl LogSwitch {
    /// Starts with the program's own log, if it has one.
    pub(crate) fn new(own: Option<AccessLog>) -> Self {
        let own = own.map(Arc::new);
        Self {
            current: ArcSwapOption::new(own.clone()),
            own,
        }
    }

    /// Whether records are wanted.
    pub(crate) fn is_on(&self) -> bool {
        self.current.load().is_some()
    }

    /// Hands a record over. Never waits.
    pub(crate) fn record(&self, record: AccessRecord) {
        if let Some(log) = &*self.current.load() {
            log.record(record);
        }
    }

    /// The log of the moment.
    pub(crate) fn current(&self) -> Option<Arc<AccessLog>> {
        self.current.load_full()
    }

    /// Opens the log of `plan`, or goes back to the program's own. The log before writes what it
    /// holds and ends. Beside success, operators of the plan's that hold nothing.
    pub(crate) fn follow(
        &self,
        plan: Option<&AccessLogPlan>,
        metrics: AccessLogMetrics,
    ) -> Result<Vec<String>, AccessLogError> {
        let Some(plan) = plan else {
            self.current.store(self.own.clone());
            return Ok(Vec::new());
        };
        let (config, unknown) = config(plan);
        let log = AccessLog::new(&config, metrics)?;
        self.current.store(Some(Arc::new(log)));
        Ok(unknown)
    }
}

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSwitch")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

fn config(plan: &AccessLogPlan) -> (AccessLogConfig, Vec<String>) {
    let (pattern, unknown) = line::pattern(&plan.line);
    let config = AccessLogConfig {
        format: AccessLogFormat::Pattern(Arc::new(pattern)),
        destination: match &plan.destination {
            LogDestination::Stdout => Destination::Stdout,
            LogDestination::Stderr => Destination::Stderr,
            LogDestination::File(path) => Destination::File(path.clone()),
        },
        ..AccessLogConfig::default()
    };
    (config, unknown)
}
