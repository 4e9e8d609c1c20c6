//! One binary for all integration tests: one link, and one list of what is held.

/// The rules of the workspace: arrows between crates, file shapes, licences.
mod tidy;

/// The README's walk-through does what it says.
mod readme;

/// `meridian demo` on a Consul agent of its own.
mod demo;

/// The edge gateway on a file: routes, reload, validation.
mod gateway;

/// Gateways that Consul's entries describe, ingress and API: ours, and beside Envoy's.
mod api_gateway;
mod edge_gateways;
mod ingress_gateway;
mod ingress_hosts;

/// Meridian and Envoy at either end of a mesh connection.
mod interop;

/// What Envoy and meshd make of the same rules and the same requests.
mod differential;

/// Whom a sidecar talks to: one certificate, and no other.
mod identity;

/// What intentions do to new and open connections and to requests.
mod intentions;

/// Tokens that intentions ask for, and the keys behind them.
mod jwt;

/// Consul's built-in Envoy extensions, without Envoy.
mod extensions;

/// How many requests an instance takes.
mod rate_limits;

/// Two datacenters, with and without gateways between them.
mod datacenters;

/// A sidecar follows its registration.
mod registration;

/// A sidecar follows its destinations.
mod changes;

/// TLS versions and suites of the mesh.
mod mesh_tls;

/// How handshakes end that are refused.
mod alerts;

/// Plain text is let in by nobody who does not see where it was sent.
mod permissive;

/// What belongs to transparent mode.
mod transparent;

/// Routes that lead to nobody, and what leads to a place that is not there.
mod nowhere;
mod validate_clusters;

/// Access logs that the mesh's configuration asks for.
mod access_logs;

/// Upstreams that are prepared queries.
mod prepared_query;

/// Paths and checks without a certificate.
mod exposed;

/// Services and callers that may have few connections.
mod few_connections;

/// Heads larger than a sidecar takes.
mod large_heads;

/// TCP upstreams without an instance, and connections above a limit.
mod no_instance;

/// Extensions that are required and refused.
mod required_extension;

/// Rotations, outages, changes and departures cost no request.
mod zero_loss;

/// Peers that die, hang, reset or flap, and a Consul that loses its way.
mod faults;

/// A service goes from Envoy to meshd and back.
mod swap;

/// How a proxy leaves.
mod drain;

/// Spans reach a collector that is worth trusting.
mod tracing;

/// The operator's view, with Consul there and away.
mod admin;

/// Least rights, and tokens that are refused, with ACLs and TLS on.
mod access;

/// Starts while Consul is away.
mod restart;

/// `meridian check`, with everything in order and with one thing broken at a time.
mod check;

/// What an idle sidecar costs.
mod memory;

/// What callers in the mesh reach outside of it.
mod terminating_gateway;
