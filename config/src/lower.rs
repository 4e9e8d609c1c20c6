//! What is meant: file types into the model, block by block.
//!
//! Errors are collected, each at its path. One that follows from a broken
//! place (see [`crate::shape`]) is not reported: it may be gone with the other.

mod attempt;
mod backend;
mod certificate;
mod context;
mod filter;
mod host;
mod listener;
mod matches;
mod policy;
mod reach;
mod route;
mod startup;

pub(crate) use context::Context;

use crate::file::{GatewayFile, MeshFile};
use crate::load::{Gateway, Mesh};
use crate::path::Path;
use meridian_model::Blueprint;

/// A gateway's file.
pub(crate) fn gateway(file: &GatewayFile, cx: &mut Context<'_>) -> Gateway {
    let top = Path::default();
    let names = file.backends.iter().map(|backend| backend.name.0.as_str());
    let names = cx.names("backend", &top.key("backends"), names);
    let backends = backend::lower(file, &names, cx);
    let tables = route::lower(file, names, cx);
    let listeners = listener::lower(&file.listeners, tables, cx);
    Gateway {
        blueprint: Blueprint {
            listeners,
            backends,
        },
        startup: startup::gateway(file, cx, &top),
        service: file.service.as_ref().map(|service| service.name.0.clone()),
    }
}

/// A mesh proxy's file.
pub(crate) fn mesh(file: &MeshFile, cx: &mut Context<'_>) -> Mesh {
    Mesh {
        startup: startup::mesh(file, cx, &Path::default()),
    }
}
