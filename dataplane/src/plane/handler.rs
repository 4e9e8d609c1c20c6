//! What is done with accepted connections: HTTP goes to the proxy, bytes to the relay.

use crate::downstream::{Connection, Downstream, Wire};
use crate::listener::{ConnectionHandler, DrainWatch};
use crate::proxy::{ConnectionApp, Shared};
use crate::stream;
use crate::tables::App;
use std::sync::Arc;

/// Serves connections of all listeners.
pub(super) struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl ConnectionHandler for Handler {
    type State = App;

    async fn http(self: Arc<Self>, stream: Box<Downstream<App>>, drain: DrainWatch) {
        ConnectionApp::serve(Arc::clone(&self.shared), stream, &drain).await;
    }

    async fn tcp(
        self: Arc<Self>,
        stream: Wire,
        connection: Arc<Connection<App>>,
        drain: DrainWatch,
    ) {
        stream::serve(&self.shared, stream, &connection, drain).await;
    }
}
