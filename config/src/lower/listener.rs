//! Listeners.

use super::route::Table;
use super::{Context, certificate};
use crate::file::{Listener as Written, ListenerProtocol, ListenerTls, TlsVersion};
use crate::path::Path;
use meridian_model::listener::{
    Alpn, Callers, ClientCertificateHeader, ClientTrust, ConnectionDeadlines, ConnectionLimits,
    EdgeTls, HttpService, PathNormalization, TcpService,
};
use meridian_model::route::{Precedence, VirtualHost};
use meridian_model::{Bind, Direction, Listener, RouteTable, Security, Service, TlsTerms};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Envoy's idle timeout of TCP proxies: connections to databases rest for long.
const TCP_IDLE: Duration = Duration::from_secs(3600);

/// Listeners with their routes; `tables` has one for each, in order.
pub(super) fn lower(
    written: &[Written],
    tables: Vec<Table>,
    cx: &mut Context<'_>,
) -> Vec<Arc<Listener>> {
    let list = Path::default().key("listeners");
    one_each_address(written, cx, &list);
    written
        .iter()
        .zip(tables)
        .enumerate()
        .map(|(index, (listener, table))| Arc::new(one(listener, table, cx, &list.index(index))))
        .collect()
}

fn one(written: &Written, table: Table, cx: &mut Context<'_>, path: &Path) -> Listener {
    // Which keys have a meaning depends on the protocol.
    if cx.sound(&path.key("protocol")) {
        refuse_foreign_keys(written, cx, path);
    }
    Listener {
        name: written.name.0.as_str().into(),
        bind: Bind::Tcp(address(written)),
        direction: Direction::Edge,
        security: security(written, cx, path),
        service: service(written, table),
        limits: limits(written, cx, path),
        deadlines: deadlines(written),
        callers: Callers::Anywhere,
    }
}

fn address(written: &Written) -> SocketAddr {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = written.address.as_ref().map_or(everywhere, |ip| ip.0);
    SocketAddr::new(ip, written.port)
}

fn one_each_address(written: &[Written], cx: &mut Context<'_>, list: &Path) {
    let mut taken: HashMap<u16, Vec<(IpAddr, usize)>> = HashMap::new();
    for (index, listener) in written.iter().enumerate() {
        let address = address(listener);
        let others = taken.entry(address.port()).or_default();
        let clash = others.iter().find(|(ip, _)| {
            *ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified()
        });
        if let Some((_, other)) = clash {
            let line = cx.line(&list.index(*other).key("port"));
            let message = format!(
                "port {} is taken by the listener in line {line}; one listener holds all certificates of a port",
                address.port()
            );
            cx.error(&list.index(index).key("port"), message);
        }
        others.push((address.ip(), index));
    }
}

/// Keys that nothing on a listener of this protocol honours.
fn refuse_foreign_keys(written: &Written, cx: &mut Context<'_>, path: &Path) {
    let (limits, deadlines) = (path.key("limits"), path.key("deadlines"));
    let handshake = deadlines.key("handshake");
    if written.protocol != ListenerProtocol::Https {
        for key in [handshake, path.key("tls")] {
            if cx.written(&key) {
                cx.error(&key, "has a meaning only on an HTTPS listener");
            }
        }
    } else if written.tls.is_none() {
        cx.error(
            &path.key("tls"),
            "an HTTPS listener needs tls.certificateRefs",
        );
    }
    let http = [
        path.key("hostname"),
        limits.key("head"),
        limits.key("headers"),
        limits.key("streams"),
        deadlines.key("firstByte"),
        deadlines.key("requestHead"),
        deadlines.key("stall"),
    ];
    for key in http {
        if written.protocol == ListenerProtocol::Tcp && cx.written(&key) {
            cx.error(&key, "has no meaning on a TCP listener");
        }
    }
}

fn security(written: &Written, cx: &mut Context<'_>, path: &Path) -> Security {
    match &written.tls {
        Some(tls) => Security::Edge(edge(tls, cx, &path.key("tls"))),
        None => Security::Plain,
    }
}

fn edge(tls: &ListenerTls, cx: &mut Context<'_>, path: &Path) -> EdgeTls {
    let list = path.key("certificateRefs");
    let references = tls.certificate_refs.iter().enumerate();
    EdgeTls {
        certificates: references
            .filter_map(|(index, reference)| certificate::server(reference, cx, &list.index(index)))
            .map(Arc::new)
            .collect(),
        terms: match tls.min_version {
            TlsVersion::V1_2 => TlsTerms::default(),
            TlsVersion::V1_3 => TlsTerms::newest(),
        },
        alpn: vec![Alpn::H2, Alpn::Http1],
    }
}

fn service(written: &Written, table: Table) -> Service {
    match table {
        Table::Tcp(clusters) => Service::Tcp(Arc::new(TcpService {
            clusters,
            authorization: None,
            idle_timeout: Some(
                written
                    .deadlines
                    .idle
                    .as_ref()
                    .map_or(TCP_IDLE, |idle| idle.0),
            ),
            checks: Vec::new(),
        })),
        Table::Http(hosts) => Service::Http(Arc::new(HttpService {
            routes: Arc::new(RouteTable {
                ports: Default::default(),
                precedence: Precedence::MostSpecific,
                hosts: hosts
                    .into_iter()
                    .map(|(host, routes)| VirtualHost {
                        hosts: vec![host],
                        routes,
                    })
                    .collect(),
            }),
            authorization: None,
            client_certificate: ClientCertificateHeader::Sanitize,
            trust: ClientTrust::Edge,
            normalization: PathNormalization::EDGE,
            filters: Default::default(),
        })),
    }
}

fn limits(written: &Written, cx: &mut Context<'_>, path: &Path) -> ConnectionLimits {
    let head = written.limits.head.0;
    let head_bytes = u32::try_from(head)
        .ok()
        .filter(|bytes| HEAD.contains(bytes));
    if head_bytes.is_none() {
        let message = format!(
            "expected a size from {} to {} bytes",
            HEAD.start(),
            HEAD.end()
        );
        cx.error(&path.key("limits").key("head"), message);
    }
    ConnectionLimits {
        connections: written.limits.connections,
        head_bytes: head_bytes.unwrap_or(*HEAD.start()),
        headers: written.limits.headers,
        streams: written.limits.streams,
    }
}

/// Less than 1 KiB holds no browser's request; more than 1 MiB for each of
/// thousands of clients is no protection.
const HEAD: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;

fn deadlines(written: &Written) -> ConnectionDeadlines {
    let defaults = ConnectionDeadlines::default();
    let deadlines = &written.deadlines;
    ConnectionDeadlines {
        first_byte: deadlines.first_byte.0,
        handshake: deadlines.handshake.0,
        request_head: deadlines.request_head.0,
        idle: deadlines.idle.as_ref().map_or(defaults.idle, |idle| idle.0),
        stall: deadlines.stall.0,
    }
}
