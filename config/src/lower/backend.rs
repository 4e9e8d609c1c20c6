//! Backends.

use super::context::{Context, Names};
use super::{certificate, policy};
use crate::file::{
    self, BackendProtocol, BackendTls, ConsulDiscovery, DNS_REFRESH, GatewayFile, StaticDiscovery,
};
use crate::path::Path;
use meridian_model::cluster::TlsTransport;
use meridian_model::{
    Backend, Cluster, ConsulService, Discovery, Endpoint, EndpointAddress, Health, UpstreamProtocol,
};
use std::net::SocketAddr;

/// Backends with their policies.
pub(super) fn lower(file: &GatewayFile, names: &Names<'_>, cx: &mut Context<'_>) -> Vec<Backend> {
    let list = Path::default().key("backends");
    let policies = policy::lower(file, names, cx);
    file.backends
        .iter()
        .zip(policies)
        .enumerate()
        .map(|(index, (written, policy))| {
            let path = list.index(index);
            let mut backend = one(written, cx, &path);
            policy.apply(&mut backend.cluster);
            if matches!(backend.discovery, Discovery::ConsulConnect(_)) && file.service.is_none() {
                needs_service(cx, &path.key("discovery").key("consul"));
            }
            backend
        })
        .collect()
}

fn needs_service(cx: &mut Context<'_>, path: &Path) {
    if cx.sound(&Path::default().key("service")) {
        let message = "the way through the mesh needs service.name, the gateway's own service; \
                       mesh: false goes around the mesh";
        cx.error(path, message);
    }
}

fn one(written: &file::Backend, cx: &mut Context<'_>, path: &Path) -> Backend {
    let protocol = match written.protocol {
        BackendProtocol::Http => UpstreamProtocol::Http1,
        BackendProtocol::Http2 | BackendProtocol::Grpc => UpstreamProtocol::Http2,
        BackendProtocol::Tcp => UpstreamProtocol::Tcp,
    };
    let discovery = discovery(&written.discovery, cx, &path.key("discovery"));
    let tls = written
        .tls
        .as_ref()
        .and_then(|written| tls(written, &discovery, cx, &path.key("tls")));
    Backend {
        cluster: Cluster::new(written.name.0.as_str().into(), protocol, Vec::new()),
        discovery,
        tls,
    }
}

fn discovery(written: &file::Discovery, cx: &mut Context<'_>, path: &Path) -> Discovery {
    match (&written.consul, &written.fixed, &written.dns) {
        (Some(consul), None, None) if consul.mesh => Discovery::ConsulConnect(service(consul)),
        (Some(consul), None, None) => Discovery::Consul(service(consul)),
        (None, Some(fixed), None) => endpoints(fixed, cx, &path.key("static").key("endpoints")),
        (None, None, Some(dns)) => Discovery::Dns {
            host: dns.name.0.clone(),
            port: dns.port,
            refresh: dns.refresh.0,
        },
        _ => {
            cx.error(path, "expected exactly one of consul, static, dns");
            Discovery::Static(Vec::new())
        }
    }
}

fn service(written: &ConsulDiscovery) -> ConsulService {
    let text = |name: &Option<file::Name>| name.as_ref().map(|name| name.0.clone());
    ConsulService {
        service: written.service.0.clone(),
        datacenter: text(&written.datacenter),
        namespace: text(&written.namespace),
        partition: text(&written.partition),
        filter: written.filter.clone(),
    }
}

/// Addresses as they stand; a lone host name is a name to resolve.
fn endpoints(written: &StaticDiscovery, cx: &mut Context<'_>, list: &Path) -> Discovery {
    if let [only] = written.endpoints.as_slice()
        && only.address.parse::<SocketAddr>().is_err()
        && let Some((host, port)) = host_and_port(&only.address)
    {
        return Discovery::Dns {
            host,
            port,
            refresh: DNS_REFRESH,
        };
    }
    let mut endpoints = Vec::new();
    for (index, endpoint) in written.endpoints.iter().enumerate() {
        match endpoint.address.parse::<SocketAddr>() {
            Ok(address) => endpoints.push(Endpoint {
                address: EndpointAddress::Tcp(address),
                weight: endpoint.weight,
                health: Health::Healthy,
                instance: endpoint.address.as_str().into(),
            }),
            Err(_) => {
                let message = match host_and_port(&endpoint.address) {
                    Some(_) => "a host name must be the only endpoint; see discovery.dns",
                    None => "expected an address and a port such as 127.0.0.1:9000",
                };
                cx.error(&list.index(index).key("address"), message);
            }
        }
    }
    Discovery::Static(endpoints)
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    // All digits and dots is an address that was not written well.
    let named = host.bytes().any(|b| b.is_ascii_alphabetic()) && host.bytes().all(legal);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    named.then(|| (host.to_owned(), port))
}

fn tls(
    written: &BackendTls,
    discovery: &Discovery,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<TlsTransport> {
    let name = match (&written.server_name, discovery) {
        (_, Discovery::ConsulConnect(_)) => {
            cx.error(
                path,
                "the mesh brings its own TLS; mesh: false goes around the mesh",
            );
            return None;
        }
        (Some(name), _) => name.0.as_str(),
        (None, Discovery::Dns { host, .. }) => host.as_str(),
        (None, _) => {
            let message = "expected serverName, the name that the certificate must cover";
            cx.error(path, message);
            return None;
        }
    };
    let roots = match &written.ca_file {
        Some(file) => certificate::authorities(file, cx, &path.key("caFile"))?,
        None => Vec::new(),
    };
    Some(TlsTransport {
        server_name: Some(name.into()),
        roots,
        certificate: None,
    })
}
