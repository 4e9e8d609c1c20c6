//! `check`: a proxy's whole way into the mesh, looked at step by step.
//!
//! Each group asks what the proxy itself asks, with the same token, so that a right which is
//! missing shows where it is missed. What can't be looked at because an earlier step failed is
//! left out: the first × is the one to mend.

mod agent;
mod certificates;
mod gateway;
mod handshake;
mod intentions;
mod outside;
mod registration;
mod report;
mod snapshot;
mod token;
mod trouble;
mod upstream;

use crate::cli;
use consul::Client;
use meridian_config::Consul;
use meridian_program::Outcome;
use meridian_sources::ConsulOptions;
use meridian_sources::consul_mesh::{self, Sidecar};
use registration::Registered;
use report::Report;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("write to standard output")]
    Output(#[source] io::Error),
}

/// Whose way is checked.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    /// The sidecar beside the service instance with this ID.
    Beside(&'a str),
    /// The sidecar or gateway with this ID.
    Proxy(&'a str),
    /// The gateway registered under this name.
    Gateway(&'a str),
}

/// Checks everything, and says it on standard output.
pub(crate) async fn run(check: cli::Check) -> Result<Outcome, CheckError> {
    let mut report = Report::default();
    let misconfigured = match client(&check) {
        Ok(client) => {
            everything(&check, &client, &mut report).await;
            false
        }
        Err(error) => {
            report.group("settings");
            let (finding, remedy) = trouble::explain(&error, "");
            report.bad(finding, remedy);
            true
        }
    };
    let outcome = match (misconfigured, report.is_good()) {
        (true, _) => Outcome::Misconfigured,
        (false, true) => Outcome::Done,
        (false, false) => Outcome::Failed,
    };
    let mut output = io::stdout().lock();
    let written = if check.json {
        writeln!(output, "{:#}", report.document())
    } else {
        write!(output, "{report}")
    };
    written.map_err(CheckError::Output)?;
    Ok(outcome)
}

/// The client as the proxy makes it, less patient.
fn client(check: &cli::Check) -> Result<Client, consul::Error> {
    let environment = |name: &str| std::env::var(name).ok();
    let mut config = check
        .consul
        .client_config(&Consul::default(), environment)?;
    config.limits.request = Duration::from_secs(check.timeout.get());
    Client::new(config)
}

async fn everything(check: &cli::Check, client: &Client, report: &mut Report) {
    let which = &check.which;
    let whose = match (&which.sidecar_for, &which.service, &which.proxy_id) {
        (Some(service), ..) => Whose::Beside(service),
        (_, Some(gateway), _) => Whose::Gateway(gateway),
        // One of the three is required.
        (.., proxy) => Whose::Proxy(proxy.as_deref().unwrap_or_default()),
    };
    report.group("agent");
    if !agent::check(client, report).await {
        return;
    }
    report.group("token");
    if !token::check(client, report).await {
        return;
    }
    report.group("registration");
    let Some(registered) = registration::check(client, whose, report).await else {
        return;
    };
    let limit = Duration::from_secs(check.timeout.get());
    match registered {
        Registered::Sidecar(sidecar) => of_sidecar(client, &sidecar, limit, report).await,
        Registered::Gateway(found) => gateway::check(client, &found, limit, report).await,
    }
}

async fn of_sidecar(
    client: &Client,
    sidecar: &registration::Sidecar,
    limit: Duration,
    report: &mut Report,
) {
    report.group("certificates");
    let certified = certificates::check(client, &sidecar.service, report).await;
    for upstream in &sidecar.upstreams {
        report.group(format!("upstream {}", upstream.destination_name));
        upstream::check(client, sidecar, upstream, report).await;
    }
    if !certified {
        return;
    }
    let source = consul_mesh::run(
        client.clone(),
        Sidecar::ProxyId(sidecar.proxy.clone()),
        ConsulOptions::default(),
        Arc::new(()),
    );
    if let Some(snapshot) = snapshot::first(source, limit, |_| true, report).await {
        report.group("handshakes");
        handshake::mesh(&snapshot, report).await;
    }
}
