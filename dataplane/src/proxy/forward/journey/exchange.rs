//! A try's exchange: the head that goes out, and how the response is to come back.

use super::Journey;
use crate::downstream::Incoming;
use crate::proxy::connection::{Permission, certificate_element};
use crate::proxy::exchange::{Exchange, Outcome};
use crate::proxy::heads::{self, CallerFacts, RequestShape, ResponseShape};
use crate::proxy::record::Record;
use crate::tables::Picked;
use crate::upstream::Session;
use meridian_model::UpstreamProtocol;

impl Journey<'_> {
    /// Sends the request on `upstream`, and says with the outcome which status came back.
    pub(super) async fn exchange(
        &mut self,
        session: &mut Incoming,
        picked: &Picked,
        upstream: Session,
        record: &mut Record,
        context: Option<meridian_telemetry::trace::TraceContext>,
    ) -> (Outcome, Option<u16>) {
        let request_id = record.request_id().clone();
        let mut head = match heads::request(session.head_mut(), &self.shape(&request_id)) {
            Ok(head) => head,
            Err(failure) => {
                upstream.abort().await;
                let sent = false;
                return (Outcome::Failed { failure, sent }, None);
            }
        };
        if let (Some(context), Some((_, state))) = (context, record.try_context()) {
            // A header of ours that does not fit leaves the trace behind, not the request.
            let _ = head.insert_header(
                meridian_telemetry::trace::TRACEPARENT,
                context.header_value(),
            );
            if let Some(value) = state.header_value() {
                let _ = head.insert_header(meridian_telemetry::trace::TRACESTATE, value);
            }
        }
        let permission = Permission::new(self.way.scene.connection);
        let edge = self.way.scene.app.service.trust.is_edge();
        let exchange = Exchange {
            session,
            upstream,
            clock: &mut self.clock,
            replay: &mut self.replay,
            record,
            shape: ResponseShape {
                caller: CallerFacts::new(self.way.scene.connection),
                version: self.client.version,
                head_only: self.client.head_only,
                upgrade_asked: self.upgrade,
                request_id: edge.then_some(&request_id),
                cookies: &self.hash.cookies,
                modifiers: [
                    &self.way.chosen.model.response_headers,
                    &self.way.admitted.action.model.response_headers,
                ],
                changes: &self.way.checked.response,
            },
            retry: self.retries.plan(),
            permission: &permission,
            cluster: self.way.cluster,
            picked,
            scene: self.way.scene,
            upstream_status: None,
            upstream_is_deaf: false,
        };
        exchange.run(head).await
    }

    fn shape<'b>(&'b self, request_id: &'b http::HeaderValue) -> RequestShape<'b> {
        let connection = self.way.scene.connection;
        let service = &self.way.scene.app.service;
        RequestShape {
            target: self.way.admitted.target.as_deref(),
            http2: self.way.cluster.model.protocol == UpstreamProtocol::Http2,
            has_body: self.body_comes,
            upgrade: self.upgrade,
            trust: service.trust,
            client_certificate: service.client_certificate,
            certificate_element: certificate_element(connection, self.way.scene.app),
            caller: CallerFacts::new(connection),
            request_id,
            modifiers: [
                &self.way.chosen.model.request_headers,
                &self.way.admitted.action.model.request_headers,
            ],
        }
    }
}
