//! Where the application behind a sidecar is.

use super::{CLUSTER, ip};
use consul::agent::Proxy;
use meridian_model::cluster::Target;
use meridian_model::{Endpoint, EndpointAddress, Health, Transport};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Where the application's exposed ports are.
pub(super) fn application_ip(proxy: &Proxy) -> Result<IpAddr, String> {
    match proxy.local_service_address.as_str() {
        "" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => ip(host),
    }
}

/// The application, as the one target of its cluster.
pub(super) fn application(proxy: &Proxy) -> Result<Arc<Target>, String> {
    let address = if !proxy.local_service_socket_path.is_empty() {
        EndpointAddress::Unix(proxy.local_service_socket_path.as_str().into())
    } else {
        let ip = application_ip(proxy)?;
        match proxy.local_service_port {
            0 => return Err("the proxy has neither LocalServicePort nor a socket path".to_owned()),
            port => EndpointAddress::Tcp(SocketAddr::new(ip, port)),
        }
    };
    Ok(Arc::new(Target {
        name: CLUSTER.into(),
        transport: Transport::Plain,
        endpoints: Arc::new([Endpoint {
            address,
            weight: 1,
            // Its checks are for others; whatever reaches the sidecar is for this instance.
            health: Health::Healthy,
            instance: proxy.destination_service_id.as_str().into(),
        }]),
    }))
}
