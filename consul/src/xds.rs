//! The certificate that an agent makes for an ingress gateway.
//!
//! Its DNS names are the gateway's, and the leaf that the HTTP API hands out has none. The agent
//! gives it away over xDS alone (gRPC), inside of the listeners that it has in mind for Envoy; this
//! is a client for just that. Nothing else of those listeners is read.

mod grpc;
mod proto;
mod reach;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::Instant;

use crate::{
    blocking::{Backoff, WatchEvent},
    client::Client,
    error::{Endpoint, Error},
    query::{Meta, Raw},
    secret::Secret,
};
use grpc::Exchange;
use proto::{DeltaRequest, DeltaResponse, Listener};

/// A certificate with its key, as an agent serves it to one of its gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCertificate {
    /// Leaf and intermediates; PEM.
    pub certificate_pem: String,
    /// The key; PEM.
    pub private_key_pem: Secret,
}

impl Client {
    /// Follows the certificate of an ingress gateway with TLS, by the ID of its registration.
    ///
    /// The agent's gRPC port is asked of the agent; where the token must not know, it is Consul's
    /// usual 8502. [`ClientConfig::grpc`](crate::ClientConfig::grpc) wins over both.
    #[must_use]
    pub fn gateway_certificate(&self, id: &str) -> CertificateWatch {
        CertificateWatch {
            client: self.clone(),
            id: id.to_owned(),
            backoff: Backoff::default(),
            stream: None,
            served: Served::default(),
            last: None,
            failures: 0,
        }
    }
}

/// Follows the certificate of a gateway. Lives as long as it is held.
#[derive(Debug)]
pub struct CertificateWatch {
    client: Client,
    id: String,
    backoff: Backoff,
    stream: Option<Stream>,
    served: Served,
    /// What was reported last; `None` before the first report.
    last: Option<Arc<Option<GatewayCertificate>>>,
    failures: u32,
}

/// An agent puts a gateway's configuration together step by step, and may send listeners before
/// their certificate. That there is none is believed after so long.
const SETTLING: Duration = Duration::from_secs(5);

const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/\
                      DeltaAggregatedResources";

fn endpoint() -> Endpoint {
    Endpoint {
        operation: "follow the gateway's certificate",
        path: METHOD.to_owned(),
    }
}

impl CertificateWatch {
    /// Waits for news; `None` is a gateway whose listeners have no certificate of Consul's. It
    /// never ends by itself: after a failure the next call tries again, after a pause.
    ///
    /// Not cancel safe: a call that is dropped may lose news.
    pub async fn next(&mut self) -> WatchEvent<Option<GatewayCertificate>> {
        loop {
            let heard = self.hear().await;
            let Err(error) = heard else {
                if let Some(event) = self.report() {
                    return event;
                }
                continue;
            };
            self.stream = None;
            self.served = Served::default();
            self.failures = self.failures.saturating_add(1);
            return WatchEvent::Failed {
                error,
                consecutive: self.failures,
            };
        }
    }

    /// Takes one message in, or lets the time pass after which a missing certificate is believed.
    async fn hear(&mut self) -> Result<(), Error> {
        if self.stream.is_none() && self.failures > 0 {
            tokio::time::sleep(self.backoff.pause(self.failures, fastrand::f64())).await;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Stream::open(&self.client, &self.id).await?),
        };
        let settled = self.served.settled_at();
        let message = match settled {
            Some(at) => match tokio::time::timeout_at(at, stream.next()).await {
                Ok(message) => message?,
                Err(_) => {
                    self.served.believe();
                    return Ok(());
                }
            },
            None => stream.next().await?,
        };
        self.served.take(message, Instant::now() + SETTLING)?;
        Ok(())
    }

    fn report(&mut self) -> Option<WatchEvent<Option<GatewayCertificate>>> {
        let now = self.served.certificate()?;
        let meta = Meta::default();
        let recovered = std::mem::take(&mut self.failures) > 0;
        if self.last.as_deref() == Some(&now) {
            return recovered.then_some(WatchEvent::Recovered { meta });
        }
        let value = Arc::new(now);
        self.last = Some(Arc::clone(&value));
        Some(WatchEvent::Changed {
            value,
            meta,
            // There is no body: the answer is made of a stream.
            raw: Raw::Absent,
        })
    }
}

/// The subscription to one gateway's listeners.
#[derive(Debug)]
struct Stream {
    exchange: Exchange,
}

impl Stream {
    async fn open(client: &Client, id: &str) -> Result<Self, Error> {
        let config = client.config();
        let scope = [
            ("namespace", &config.namespace),
            ("partition", &config.partition),
        ];
        let first = DeltaRequest::first(LISTENERS, id, scope);
        let connection = reach::agent(client).await?;
        let token = client.token().await;
        let exchange = Exchange::begin(connection, METHOD, token, &first.encode_to_vec()).await?;
        Ok(Self { exchange })
    }

    /// The next message, which is acknowledged: an agent sends no other before.
    async fn next(&mut self) -> Result<DeltaResponse, Error> {
        let bytes = self.exchange.message().await?;
        let response = DeltaResponse::decode(bytes).map_err(undecodable)?;
        let acknowledgement = DeltaRequest::acknowledging(&response);
        self.exchange.send(&acknowledgement.encode_to_vec())?;
        Ok(response)
    }
}

/// What an agent serves to a gateway now: certificates by listener.
#[derive(Debug, Default)]
struct Served {
    listeners: BTreeMap<String, Option<GatewayCertificate>>,
    /// When a missing certificate is believed to be none; `None` where there is nothing to wait for.
    settling: Option<Instant>,
    /// Whether there was an answer at all.
    answered: bool,
}

impl Served {
    fn take(&mut self, message: DeltaResponse, settled_at: Instant) -> Result<(), Error> {
        for resource in message.resources {
            let listener = resource.resource.unwrap_or_default();
            let listener = Listener::decode(listener.value.as_slice()).map_err(undecodable)?;
            self.listeners.insert(resource.name, certificate(listener));
        }
        for name in &message.removed_resources {
            self.listeners.remove(name);
        }
        let first = !std::mem::replace(&mut self.answered, true);
        let found = self.found().is_some();
        if found {
            self.settling = None;
        } else if first {
            self.settling = Some(settled_at);
        }
        Ok(())
    }

    fn settled_at(&self) -> Option<Instant> {
        self.settling
    }

    fn believe(&mut self) {
        self.settling = None;
    }

    /// All listeners that have one have the same.
    fn found(&self) -> Option<&GatewayCertificate> {
        self.listeners.values().flatten().next()
    }

    /// The outer `None` is not to be told yet.
    fn certificate(&self) -> Option<Option<GatewayCertificate>> {
        (self.answered && self.settling.is_none()).then(|| self.found().cloned())
    }
}

fn certificate(listener: Listener) -> Option<GatewayCertificate> {
    let contexts = listener.filter_chains.into_iter();
    contexts
        .chain(listener.default_filter_chain)
        .filter_map(|chain| chain.transport_socket?.tls_context())
        .flat_map(|context| context.common.unwrap_or_default().certificates)
        .find_map(|found| {
            Some(GatewayCertificate {
                certificate_pem: found.chain?.text()?,
                private_key_pem: Secret::new(found.key?.text()?),
            })
        })
}

fn undecodable(source: prost::DecodeError) -> Error {
    Error::Decode {
        endpoint: endpoint(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
