//! How the parts of a gateway that Consul's entries configure are put together.

use crate::app::BUILD;
use crate::cli::Run;
use meridian_config::Startup;
use meridian_program::{Frame, Named, Outcome, PlanError, RunError};
use meridian_sources::ConsulOptions;
use meridian_sources::consul_gateway::{self, Gateway};

/// Everything that was asked for, checked, before anything is started.
pub(crate) struct Plan {
    frame: Frame,
    gateway: Gateway,
}

impl Plan {
    /// Reads everything that can be wrong.
    pub(crate) fn new(run: &Run, gateway: Gateway) -> Result<Self, PlanError> {
        let named = Named {
            service: &gateway.service,
            workers: meridian_program::settings::every_processor(),
        };
        // As in a mesh, traffic is configured in Consul; there is no file.
        let frame = Frame::new(named, &Startup::default(), &run.program, &run.consul)?;
        Ok(Self { frame, gateway })
    }

    /// Runs until the end is asked for. The registration stays: an operator may have added to it,
    /// and Consul's check says that the gateway is away.
    pub(crate) async fn run(self) -> Result<Outcome, RunError> {
        let source = |client, counts| {
            consul_gateway::run(client, self.gateway, ConsulOptions::default(), counts)
        };
        self.frame.run(BUILD, source).await
    }
}
