//! An agent made of prepared answers that blocks as Consul does, and counts.

use meridian_sources::embedded::DevelopmentCa;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The agent. It ends when dropped.
pub(super) struct Scripted {
    address: String,
    state: Arc<State>,
    ca: DevelopmentCa,
    acceptor: JoinHandle<()>,
}

/// What the agent has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Queries that wait for news.
    pub(super) open: usize,
    /// Answers given.
    pub(super) answers: usize,
    /// Bytes of their bodies.
    pub(super) bytes: usize,
}

struct State {
    /// Answers by path, each with the index of its last change.
    answers: Mutex<BTreeMap<String, (u64, Arc<str>)>>,
    /// The newest index.
    index: watch::Sender<u64>,
    instances: usize,
    open: AtomicUsize,
    answered: AtomicUsize,
    bytes: AtomicUsize,
}

impl Scripted {
    /// Starts an agent that knows so many instances of every service it is asked for.
    pub(super) async fn start(instances: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let ca = DevelopmentCa::new("bench.consul", "dc1").expect("a CA");
        let state = Arc::new(State {
            answers: Mutex::default(),
            index: watch::Sender::new(1),
            instances,
            open: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        let agent = json!({"DebugConfig": {"DefaultIntentionPolicy": "allow"}});
        state.put("/v1/agent/self", &agent);
        state.put("/v1/agent/connect/ca/roots", &roots(&ca));
        let shared = Arc::clone(&state);
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // A connection that the client closes is over, and no concern of the test.
                tokio::spawn(async move { drop(serve(stream, &state).await) });
            }
        });
        Self {
            address,
            state,
            ca,
            acceptor,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// A sidecar beside `service`, and everything that it will ask for.
    pub(super) fn register(&self, service: &str, upstreams: usize) {
        let listed: Vec<_> = (0..upstreams)
            .map(|number| {
                json!({"DestinationName": format!("service-{number}"),
                    "LocalBindPort": 5000 + number})
            })
            .collect();
        let registration = json!({"ID": format!("{service}-proxy"), "Port": 21000,
            "Kind": "connect-proxy", "Datacenter": "dc1", "Proxy": {
                "DestinationServiceName": service, "LocalServicePort": 80, "Upstreams": listed}});
        let state = &self.state;
        state.put(&format!("/v1/agent/service/{service}-proxy"), &registration);
        let leaf = self.ca.leaf(service).expect("a leaf");
        let leaf = json!({"SerialNumber": leaf.serial_number, "CertPEM": leaf.certificate_pem,
            "PrivateKeyPEM": leaf.private_key_pem.expose(), "Service": service,
            "ServiceURI": leaf.service_uri, "ValidAfter": leaf.valid_after,
            "ValidBefore": leaf.valid_before});
        state.put(&format!("/v1/agent/connect/ca/leaf/{service}"), &leaf);
        for number in 0..upstreams {
            let upstream = format!("service-{number}");
            state.put(
                &format!("/v1/discovery-chain/{upstream}"),
                &chain(&upstream),
            );
            let instances = instances(&upstream, state.instances, "passing");
            state.put(&format!("/v1/health/connect/{upstream}"), &instances);
        }
    }

    /// One instance's check turns critical.
    pub(super) fn fail_an_instance(&self, service: &str) {
        let mut list = instances(service, self.state.instances, "passing");
        list[0]["Checks"][0]["Status"] = json!("critical");
        self.state
            .put(&format!("/v1/health/connect/{service}"), &list);
    }

    /// The list of a service's instances as it goes over the wire.
    pub(super) fn instances_of(&self, service: &str) -> Arc<str> {
        let path = format!("/v1/health/connect/{service}");
        self.state.find(&path).expect("a registered service").1
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            open: self.state.open.load(Ordering::SeqCst),
            answers: self.state.answered.load(Ordering::SeqCst),
            bytes: self.state.bytes.load(Ordering::SeqCst),
        }
    }

    /// Waits until all that is asked is waiting for news: the same for half a second.
    pub(super) async fn settled(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let (mut before, mut same) = (self.counts(), 0);
        while same < 10 {
            looks.tick().await;
            let now = self.counts();
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

impl State {
    fn put(&self, path: &str, body: &Value) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let text: Arc<str> = body.to_string().into();
        if answers.get(path).is_some_and(|(_, known)| *known == text) {
            return;
        }
        let index = *self.index.borrow() + 1;
        answers.insert(path.to_owned(), (index, text));
        self.index.send_replace(index);
    }

    fn find(&self, path: &str) -> Option<(u64, Arc<str>)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(path).cloned()
    }
}

/// Answers the requests of one connection.
async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(target) = request(&mut stream).await? {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let known = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("index=")?.parse().ok());
        let (status, index, body) = answer(state, path, known).await;
        state.answered.fetch_add(1, Ordering::SeqCst);
        state.bytes.fetch_add(body.len(), Ordering::SeqCst);
        let reply = format!(
            "HTTP/1.1 {status}\r\nX-Consul-Index: {index}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

/// The target of the next request, whose body is left out: a chain's overrides are none here.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    Ok(Some(target))
}

/// Waits, as long as the client knows what there is.
async fn answer(state: &State, path: &str, known: Option<u64>) -> (&'static str, u64, Arc<str>) {
    let mut news = state.index.subscribe();
    loop {
        let (status, index, body) = match state.find(path) {
            Some((index, body)) => ("200 OK", index, body),
            // Services without intentions, entries that nobody wrote.
            None if path.ends_with("/match") => ("200 OK", 1, "{}".into()),
            None => ("404 Not Found", 1, "".into()),
        };
        if known != Some(index) {
            return (status, index, body);
        }
        state.open.fetch_add(1, Ordering::SeqCst);
        let more = news.changed().await;
        state.open.fetch_sub(1, Ordering::SeqCst);
        if more.is_err() {
            return (status, index, body);
        }
    }
}

fn roots(ca: &DevelopmentCa) -> Value {
    let known = ca.roots();
    let listed: Vec<_> = known
        .roots
        .iter()
        .map(|root| json!({"ID": root.id, "RootCert": root.root_cert, "Active": root.active}))
        .collect();
    json!({"ActiveRootID": known.active_root_id, "TrustDomain": known.trust_domain,
        "Roots": listed})
}

fn chain(service: &str) -> Value {
    let id = format!("{service}.default.default.dc1");
    json!({"Chain": {"ServiceName": service, "Datacenter": "dc1", "Protocol": "http",
        "StartNode": "resolver:a",
        "Nodes": {"resolver:a": {"Type": "resolver", "Name": "a", "Resolver": {
            "Default": true, "ConnectTimeout": "5s", "Target": id}}},
        "Targets": {&id: {"ID": id, "Service": service, "Datacenter": "dc1",
            "SNI": format!("{service}.default.dc1.internal.bench.consul"),
            "Name": format!("{service}.default.dc1.internal.bench.consul")}}}})
}

/// Instances with all that Consul 1.20 writes of a sidecar that an agent registered.
fn instances(service: &str, count: usize, status: &str) -> Value {
    let list = (0..count).map(|number| instance(service, number, status));
    Value::Array(list.collect())
}

fn instance(service: &str, number: usize, status: &str) -> Value {
    let address = format!("10.1.{}.{}", number / 250, number % 250 + 1);
    let (node, proxy) = (format!("node-{number}"), format!("{service}-sidecar-proxy"));
    let id = format!("{proxy}-{number}");
    let index = json!({"CreateIndex": 100, "ModifyIndex": 100});
    let check = |name: &str, kind: &str, of: &str| {
        json!({"Node": node, "CheckID": format!("service:{of}:{name}"), "Name": name,
            "Status": status, "Notes": "", "Output": "TCP connect 10.1.0.1:21000: Success",
            "ServiceID": of, "ServiceName": proxy, "ServiceTags": [], "Type": kind,
            "Interval": "10s", "Timeout": "0s", "ExposedPort": 0, "Definition": {},
            "CreateIndex": 100, "ModifyIndex": 100})
    };
    json!({
        "Node": {"ID": "f1f6ccd1-0000-4000-8000-000000000000", "Node": node, "Address": address,
            "Datacenter": "dc1",
            "TaggedAddresses": {"lan": address, "lan_ipv4": address, "wan": address,
                "wan_ipv4": address},
            "Meta": {"consul-network-segment": "", "consul-version": "1.20.6"},
            "CreateIndex": index["CreateIndex"], "ModifyIndex": index["ModifyIndex"]},
        "Service": {"Kind": "connect-proxy", "ID": id, "Service": proxy, "Tags": [],
            "Address": address, "TaggedAddresses": {
                "lan_ipv4": {"Address": address, "Port": 21000},
                "wan_ipv4": {"Address": address, "Port": 21000}},
            "Meta": null, "Port": 21000, "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": false,
            "Proxy": {"DestinationServiceName": service,
                "DestinationServiceID": format!("{service}-{number}"),
                "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 8080, "Mode": "",
                "MeshGateway": {}, "Expose": {}},
            "Connect": {}, "PeerName": "", "CreateIndex": 100, "ModifyIndex": 100},
        "Checks": [check("Connect Sidecar Listening", "tcp", &id),
            check("Connect Sidecar Aliasing", "alias", &id), check("serfHealth", "", "")],
    })
}
