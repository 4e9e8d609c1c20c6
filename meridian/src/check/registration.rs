//! The registration: is the proxy known to the agent, do its checks pass, is anybody there.

use super::Whose;
use super::report::Report;
use super::trouble::explain;
use consul::agent::{AgentService, ServiceKind, Upstream};
use consul::health::{CheckStatus, ServiceEntry};
use consul::{Client, Query};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpStream, ToSocketAddrs};

/// A proxy that the agent knows.
#[derive(Debug)]
pub(super) enum Registered {
    Sidecar(Sidecar),
    Gateway(Gateway),
}

/// A sidecar.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// Its ID.
    pub(super) proxy: String,
    /// The service that it stands for.
    pub(super) service: String,
    /// Where it calls.
    pub(super) upstreams: Vec<Upstream>,
}

/// A gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) kind: GatewayKind,
    /// Its service, which is also the name of its entry.
    pub(super) service: String,
    /// Where it is registered, and the host of its listeners.
    pub(super) address: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayKind {
    Mesh,
    Terminating,
    Ingress,
    Api,
}

impl GatewayKind {
    fn of(kind: &ServiceKind) -> Option<Self> {
        Some(match kind {
            ServiceKind::MeshGateway => Self::Mesh,
            ServiceKind::TerminatingGateway => Self::Terminating,
            ServiceKind::IngressGateway => Self::Ingress,
            ServiceKind::ApiGateway => Self::Api,
            ServiceKind::Typical | ServiceKind::ConnectProxy | ServiceKind::Other(_) => {
                return None;
            }
        })
    }

    /// As an operator writes it after `--gateway`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Terminating => "terminating",
            Self::Ingress => "ingress",
            Self::Api => "api",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Mesh | Self::Terminating => "meshd",
            Self::Ingress | Self::Api => "gateway",
        }
    }
}

impl Gateway {
    /// How it is started.
    pub(super) fn start(&self) -> String {
        let Self {
            kind,
            service,
            address,
        } = self;
        format!(
            "start it: {} run --gateway {} --service {service} --address {address}",
            kind.program(),
            kind.word()
        )
    }
}

/// Loopback, or the machine next to it.
const CONNECT: Duration = Duration::from_secs(2);

/// `None` where there is nothing to go on with.
pub(super) async fn check(
    client: &Client,
    whose: Whose<'_>,
    report: &mut Report,
) -> Option<Registered> {
    let id = match whose {
        Whose::Proxy(id) => id.to_owned(),
        Whose::Beside(service) => beside(client, service, report).await?,
        Whose::Gateway(service) => gateway_of(client, service, report).await?,
    };
    let found = match client.agent_service(&id).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            let (finding, mut remedy) = explain(&error, "service:read on the proxy's name");
            if error.is_not_found() {
                remedy = REGISTER.to_owned();
            }
            report.bad(finding, remedy);
            return None;
        }
    };
    if let Some(kind) = GatewayKind::of(&found.kind) {
        return gateway(client, kind, &found, report).await;
    }
    let Some(settings) = found
        .proxy
        .as_ref()
        .filter(|_| found.kind == ServiceKind::ConnectProxy)
    else {
        report.bad(
            format!("{id} is registered, but is neither a sidecar nor a gateway"),
            "name the service with --sidecar-for, or its proxy with --proxy-id",
        );
        return None;
    };
    let service = settings.destination_service_name.clone();
    report.good(format!("{id} is registered as sidecar of {service}"));
    let start = format!("start it: meshd run --proxy-id {id}");
    let listens = listens(&found, &start, report).await;
    health(client.health_connect(&service), &id, listens, report).await;
    let served = |one: &&Upstream| !one.centrally_configured && one.destination_name != "*";
    let upstreams = settings.upstreams.iter().filter(served).cloned();
    Some(Registered::Sidecar(Sidecar {
        upstreams: upstreams.collect(),
        proxy: id,
        service,
    }))
}

async fn gateway(
    client: &Client,
    kind: GatewayKind,
    found: &AgentService,
    report: &mut Report,
) -> Option<Registered> {
    let (id, service) = (&found.id, &found.service);
    let host = match found.address.as_str() {
        "" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse(),
    };
    let Ok(host) = host else {
        report.bad(
            format!(
                "{id} is registered at {}, which is no IP address",
                found.address
            ),
            "register it at the address that it is run with: --address IP:PORT --register",
        );
        return None;
    };
    let gateway = Gateway {
        kind,
        service: service.clone(),
        address: SocketAddr::new(host, found.port),
    };
    report.good(format!("{id} is registered as {} gateway", kind.word()));
    // A gateway of Meridian's knows one name, and looks for its registration by it.
    if id != service && kind != GatewayKind::Api {
        report.bad(
            format!("its ID, {id}, is not the name of its service, {service}"),
            format!("register it with the ID {service}, as --register does"),
        );
        return None;
    }
    // What an API gateway listens at is in its entry alone.
    let listens = match kind {
        GatewayKind::Api => true,
        _ => listens(found, &gateway.start(), report).await,
    };
    health(client.health_service(service), id, listens, report).await;
    Some(Registered::Gateway(gateway))
}

async fn gateway_of(client: &Client, service: &str, report: &mut Report) -> Option<String> {
    let is_it = |one: &AgentService| one.service == service && GatewayKind::of(&one.kind).is_some();
    let whose = format!("gateway {service}");
    let register = "register it: meshd run --gateway mesh or terminating, gateway run --gateway \
                    ingress or api, with --service NAME --address IP:PORT --register";
    one_of(client, is_it, &whose, register, report).await
}

const REGISTER: &str = "register the service with `connect { sidecar_service {} }`, with this \
                        agent: consul services register FILE";

async fn beside(client: &Client, service: &str, report: &mut Report) -> Option<String> {
    let stands_beside = |candidate: &AgentService| {
        let proxy = candidate.proxy.as_ref();
        candidate.kind == ServiceKind::ConnectProxy
            && proxy.is_some_and(|proxy| proxy.destination_service_id == service)
    };
    let whose = format!("sidecar of {service}");
    one_of(client, stands_beside, &whose, REGISTER, report).await
}

/// The ID of the one proxy that is meant.
async fn one_of(
    client: &Client,
    is_meant: impl Fn(&AgentService) -> bool,
    whose: &str,
    register: &str,
    report: &mut Report,
) -> Option<String> {
    let answer = match client.agent_services().once().await {
        Ok(answer) => answer,
        Err(error) => {
            report.failed(&error, "service:read");
            return None;
        }
    };
    let services: &BTreeMap<String, AgentService> = &answer.value;
    let mut found = services.iter().filter(|(_, one)| is_meant(one));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Some(id.clone()),
        (Some((one, _)), Some((other, _))) => {
            report.bad(
                format!("more than one {whose} is registered: {one}, {other}, …"),
                "name one of them with --proxy-id",
            );
            None
        }
        (None, _) => {
            let hidden = answer.meta.filtered_by_acls
                || answer.meta.default_acl_policy.as_deref() == Some("deny");
            let more = if hidden {
                ", or the token lacks service:read on it"
            } else {
                ""
            };
            report.bad(
                format!("no {whose} is registered with this agent"),
                format!("{register}{more}"),
            );
            None
        }
    }
}

async fn listens(found: &AgentService, start: &str, report: &mut Report) -> bool {
    let host = if found.address.is_empty() {
        "127.0.0.1"
    } else {
        &found.address
    };
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, found.port).to_string(),
        Err(_) => format!("{host}:{}", found.port),
    };
    let Err(reason) = connect(&address).await else {
        report.good(format!("somebody listens at {address}"));
        return true;
    };
    report.bad(
        format!("nobody listens at {address}, where others call it: {reason}"),
        start,
    );
    false
}

/// Whether somebody listens on this machine, or the one next to it.
pub(super) async fn connect(address: impl ToSocketAddrs) -> Result<(), String> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {CONNECT:?}")),
    }
}

/// As others see it.
async fn health(
    instances: Query<Vec<ServiceEntry>>,
    proxy: &str,
    listens: bool,
    report: &mut Report,
) {
    let entries = match instances.once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, "service:read and node:read");
            return;
        }
    };
    let Some(entry) = entries.iter().find(|entry| entry.service.id == proxy) else {
        report.bad(
            "the catalog does not know it yet",
            "the agent tells its servers within a minute; if not, its own token lacks service:write",
        );
        return;
    };
    let failing = entry
        .checks
        .iter()
        .filter(|check| check.status == CheckStatus::Critical);
    let failing: Vec<_> = failing.map(|check| check.name.as_str()).collect();
    if failing.is_empty() {
        report.good("its checks let others call it");
    } else {
        let remedy = if listens {
            "look at their output: consul catalog services, or the agent's log"
        } else {
            "they will pass once it listens"
        };
        report.bad(format!("checks fail: {}", failing.join(", ")), remedy);
    }
}
