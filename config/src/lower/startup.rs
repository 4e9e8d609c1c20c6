//! Start-up blocks.

use super::Context;
use crate::file::{self, GatewayFile, MeshFile};
use crate::path::Path;
use crate::startup::{
    AccessLog, AccessLogDestination, Consul, ConsulTls, Startup, State, Telemetry, TokenSource,
    Tracing,
};
use std::path::PathBuf;

/// Of a gateway's file.
pub(super) fn gateway(file: &GatewayFile, cx: &mut Context<'_>, top: &Path) -> Startup {
    Startup {
        admin: admin(&file.admin, cx, &top.key("admin")),
        consul: consul(&file.consul, cx, &top.key("consul")),
        telemetry: telemetry(&file.telemetry, cx),
        drain_deadline: file.drain.deadline.0,
        threads: file.threads,
        state: None,
    }
}

/// Of a mesh proxy's file.
pub(super) fn mesh(file: &MeshFile, cx: &mut Context<'_>, top: &Path) -> Startup {
    Startup {
        admin: admin(&file.admin, cx, &top.key("admin")),
        consul: consul(&file.consul, cx, &top.key("consul")),
        telemetry: telemetry(&file.telemetry, cx),
        drain_deadline: file.drain.deadline.0,
        threads: file.threads,
        state: file.state.as_ref().map(|state| State {
            directory: cx.resolve(&state.directory),
            keep_keys: state.keep_keys,
        }),
    }
}

impl Default for Startup {
    /// What a file without any start-up block means.
    fn default() -> Self {
        Self {
            admin: file::Admin::default().bind.0,
            consul: Consul::default(),
            telemetry: Telemetry::default(),
            drain_deadline: file::Drain::default().deadline.0,
            threads: None,
            state: None,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        let written = file::Telemetry::default();
        Self {
            log_level: written.log_level,
            access_log: AccessLog {
                format: written.access_log.format,
                destination: destination(&written.access_log.destination, |file| file.into()),
            },
            tracing: None,
        }
    }
}

fn admin(admin: &file::Admin, cx: &mut Context<'_>, path: &Path) -> std::net::SocketAddr {
    if !admin.bind.0.ip().is_loopback() {
        let message = "not on loopback: the program starts with --admin-token-file only";
        cx.warn(&path.key("bind"), message);
    }
    admin.bind.0
}

fn consul(consul: &file::Consul, cx: &mut Context<'_>, path: &Path) -> Consul {
    let token = match (&consul.token_file, &consul.token_env) {
        (Some(file), None) => Some(TokenSource::File(cx.resolve(file))),
        (None, Some(variable)) => Some(TokenSource::Environment(variable.clone())),
        (None, None) => None,
        (Some(_), Some(_)) => {
            let message = "expected only one of tokenFile and tokenEnv";
            cx.error(&path.key("tokenEnv"), message);
            None
        }
    };
    Consul {
        address: consul.address.clone(),
        token,
        datacenter: consul.datacenter.clone(),
        namespace: consul.namespace.clone(),
        partition: consul.partition.clone(),
        tls: consul
            .tls
            .as_ref()
            .map(|tls| consul_tls(tls, cx, &path.key("tls"))),
    }
}

fn consul_tls(tls: &file::ConsulTls, cx: &mut Context<'_>, path: &Path) -> ConsulTls {
    let client = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => Some((cx.resolve(certificate), cx.resolve(key))),
        (None, None) => None,
        _ => {
            cx.error(path, "expected certificate and key together");
            None
        }
    };
    ConsulTls {
        ca_file: tls.ca_file.as_ref().map(|file| cx.resolve(file)),
        client,
        server_name: tls.server_name.clone(),
    }
}

fn telemetry(telemetry: &file::Telemetry, cx: &Context<'_>) -> Telemetry {
    let log = &telemetry.access_log;
    Telemetry {
        log_level: telemetry.log_level,
        access_log: AccessLog {
            format: log.format,
            destination: destination(&log.destination, |file| cx.resolve(file.as_ref())),
        },
        tracing: telemetry.tracing.as_ref().map(|tracing| Tracing {
            endpoint: tracing.endpoint.0.clone(),
            sampling: tracing.sampling,
        }),
    }
}

fn destination(written: &str, file: impl Fn(&str) -> PathBuf) -> AccessLogDestination {
    match written {
        "none" => AccessLogDestination::None,
        "stdout" => AccessLogDestination::Stdout,
        "stderr" => AccessLogDestination::Stderr,
        other => AccessLogDestination::File(file(other)),
    }
}
