//! Two federated datacenters: the test's own namespace, and one beside it that a
//! thread of its own lives in, linked by a pair of virtual interfaces.
//!
//! Neither namespace has a name: the kernel removes the second one, and with it
//! the link, when its thread ends, which it does at the latest with the test.

use std::cell::OnceCell;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::consul::Consul;
use crate::mesh_gateway::{self, MeshGateway};
use crate::sidecar::Kind;
use crate::tools;
use crate::wait::{self, PATIENCE};
use crate::world::{World, enter_new_namespace};

/// Name of the test's own datacenter, the primary one.
pub const NEAR: &str = "near";
/// Name of the other one.
pub const FAR: &str = "far";
/// Address of the test's own namespace on the link.
pub const NEAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Address of the other namespace on the link.
pub const FAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The link's interface, which has the same name at both ends.
const LINK: &str = "wan";

/// Two datacenters that know each other.
#[derive(Debug)]
pub struct Federation {
    /// The test's own agent, in [`NEAR`].
    pub consul: Consul,
    /// The other datacenter.
    pub far: Datacenter,
}

impl Federation {
    /// Starts both, joined over the WAN; `settings` replace both agents' own.
    pub async fn start(world: &World, settings: Value) -> Self {
        let far = Datacenter::open();
        let consul = Consul::start_with(world, agent(NEAR, &settings)).await;
        far.start_consul(agent(FAR, &settings)).await;
        let federation = Self { consul, far };
        federation.joined().await;
        federation
    }

    /// Starts both so that their servers reach each other through Meridian's gateways alone
    /// (`connect.enable_mesh_gateway_wan_federation`). The other datacenter's gateway is started
    /// there and lives as long as it.
    pub async fn through_gateways(world: &World) -> (Self, MeshGateway) {
        let far = Datacenter::open();
        let files = Files::make(world);
        let consul = Consul::start_with(world, agent(NEAR, &files.settings(NEAR))).await;
        let expose = ["expose-servers"];
        let gateway = MeshGateway::start(world, Kind::Meshd, NEAR_ADDRESS, &expose).await;
        let mut settings = files.settings(FAR);
        settings["primary_gateways"] = json!([format!("{NEAR_ADDRESS}:{}", mesh_gateway::PORT)]);
        settings["primary_gateways_interval"] = json!("1s");
        far.start_consul(agent(FAR, &settings)).await;
        far.within(async move |site: Rc<Site>| {
            let kind = Kind::Meshd;
            let gateway = MeshGateway::start(&site.world, kind, FAR_ADDRESS, &expose).await;
            site.gateway.set(gateway).expect("one gateway");
        })
        .await;
        let federation = Self { consul, far };
        federation.joined().await;
        (federation, gateway)
    }

    async fn joined(&self) {
        let path = "/v1/catalog/datacenters";
        let both = |found: &Value| found.as_array().is_some_and(|all| all.len() == 2);
        wait::holds("both datacenters are joined", PATIENCE, async || {
            let near = self.consul.api(Method::GET, path, None).await;
            let far = self
                .far
                .within(async |site: Rc<Site>| site.consul().api(Method::GET, path, None).await)
                .await;
            both(&near) && both(&far)
        })
        .await;
    }

    /// Cuts the link: what is sent is lost without a word, in both directions.
    pub async fn cut(&self) {
        self.route_to(hardware(NOBODY), hardware(NOBODY)).await;
    }

    /// Mends the link.
    pub async fn mend(&self) {
        let (near, far) = (hardware(NEAR_ADDRESS), hardware(FAR_ADDRESS));
        self.route_to(near, far).await;
    }

    /// Interfaces take no packet that is addressed to another one.
    async fn route_to(&self, near: String, far: String) {
        neighbour(FAR_ADDRESS, &far);
        self.far
            .within(async move |_: Rc<Site>| neighbour(NEAR_ADDRESS, &near))
            .await;
    }
}

/// What makes an agent one of two.
fn agent(datacenter: &str, settings: &Value) -> Value {
    let (address, other) = if datacenter == NEAR {
        (NEAR_ADDRESS, FAR_ADDRESS)
    } else {
        (FAR_ADDRESS, NEAR_ADDRESS)
    };
    let mut written = json!({
        "datacenter": datacenter,
        "primary_datacenter": NEAR,
        "node_name": format!("{datacenter}-node"),
        "bind_addr": address,
        "ports": {"grpc": 8502, "serf_wan": 8302},
        "retry_join_wan": [other],
        // The default waits for half a minute.
        "retry_interval_wan": "1s",
    });
    if let (Some(written), Value::Object(settings)) = (written.as_object_mut(), settings) {
        written.extend(settings.clone());
    }
    written
}

/// Certificates of servers, which gateways tell apart by them.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn make(world: &World) -> Self {
        let directory = world.directory().join("servers");
        std::fs::create_dir(&directory).expect("a directory for certificates");
        let files = Self { directory };
        files.tls("ca create");
        for datacenter in [NEAR, FAR] {
            files.tls(&format!(
                "cert create -server -dc={datacenter} -node={datacenter}-node"
            ));
        }
        files
    }

    fn tls(&self, words: &str) {
        let done = Command::new(tools::consul())
            .arg("tls")
            .args(words.split_whitespace())
            .current_dir(&self.directory)
            .output()
            .expect("`consul tls` runs");
        assert!(done.status.success(), "consul tls {words}: {done:?}");
    }

    fn settings(&self, datacenter: &str) -> Value {
        let file = |name: &str| self.directory.join(name);
        json!({
            // Servers find each other by their gateways.
            "retry_join_wan": [],
            "connect": {"enabled": true, "enable_mesh_gateway_wan_federation": true},
            "tls": {"internal_rpc": {
                "ca_file": file("consul-agent-ca.pem"),
                "cert_file": file(&format!("{datacenter}-server-consul-0.pem")),
                "key_file": file(&format!("{datacenter}-server-consul-0-key.pem")),
                "verify_incoming": true,
                "verify_outgoing": true,
                "verify_server_hostname": true,
            }},
        })
    }
}

/// The datacenter beside the test's own.
#[derive(Debug)]
pub struct Datacenter {
    jobs: mpsc::UnboundedSender<Job>,
    thread: Option<JoinHandle<()>>,
}

/// What there is in it, for work that is done there.
#[derive(Debug)]
pub struct Site {
    /// Its logs and files.
    pub world: World,
    consul: OnceCell<Consul>,
    gateway: OnceCell<MeshGateway>,
}

impl Site {
    /// Its agent.
    pub fn consul(&self) -> &Consul {
        self.consul.get().expect("the agent was started")
    }
}

type Work = Box<dyn FnOnce(Rc<Site>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

enum Job {
    Work(Work),
    /// The test has failed: show what happened here.
    Tell,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Job")
    }
}

impl Datacenter {
    fn open() -> Self {
        let (jobs, received) = mpsc::unbounded_channel();
        let (here, there) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name(FAR.to_owned())
            .spawn(move || live(received, &here))
            .expect("a thread for the datacenter");
        let id = there.recv().expect("the other namespace");
        ip(&format!(
            "link add {LINK} type veth peer name {LINK} netns {id}"
        ));
        configure(NEAR_ADDRESS, FAR_ADDRESS);
        Self {
            jobs,
            thread: Some(thread),
        }
    }

    async fn start_consul(&self, settings: Value) {
        self.within(async move |site: Rc<Site>| {
            configure(FAR_ADDRESS, NEAR_ADDRESS);
            let consul = Consul::start_with(&site.world, settings).await;
            site.consul.set(consul).expect("one agent");
        })
        .await;
    }

    /// Does something there: on its thread, and so in its namespace. What it spawns lives on until
    /// the test ends.
    ///
    /// # Panics
    /// When the work panics, or other work did before.
    pub async fn within<T, F, Fut>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(Rc<Site>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Work = Box::new(move |site| {
            Box::pin(async move {
                // Nobody waits any more where the test has failed.
                let _ = reply.send(work(site).await);
            })
        });
        assert!(
            self.jobs.send(Job::Work(job)).is_ok(),
            "the other datacenter has failed"
        );
        answer.await.expect("work in the other datacenter")
    }
}

impl Drop for Datacenter {
    fn drop(&mut self) {
        if thread::panicking() {
            // A thread that failed has told already.
            let _ = self.jobs.send(Job::Tell);
        }
        let (closed, _) = mpsc::unbounded_channel();
        self.jobs = closed;
        if let Some(thread) = self.thread.take() {
            // Its own panic was shown when it happened.
            let _ = thread.join();
        }
    }
}

/// The life of the datacenter's thread.
fn live(mut jobs: mpsc::UnboundedReceiver<Job>, here: &std::sync::mpsc::Sender<String>) {
    enter_new_namespace();
    let name: PathBuf = std::fs::read_link("/proc/thread-self").expect("this thread's name");
    let id = name.file_name().expect("its number").to_string_lossy();
    here.send(id.into_owned()).expect("somebody waits");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the datacenter");
    let site = Rc::new(Site {
        world: World::new(),
        consul: OnceCell::new(),
        gateway: OnceCell::new(),
    });
    runtime.block_on(async {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Work(work) => work(Rc::clone(&site)).await,
                Job::Tell => site.world.tell(),
            }
        }
    });
}

/// An address of the link that no interface has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);

/// The address of an interface on the wire.
fn hardware(address: Ipv4Addr) -> String {
    let [.., last] = address.octets();
    format!("02:00:00:00:00:{last:02}")
}

/// Sets this end up. The other one's address on the wire is told, not asked for, so that a cut is
/// silent: nobody notices that nobody is there.
fn configure(own: Ipv4Addr, other: Ipv4Addr) {
    let address = hardware(own);
    ip(&format!("link set {LINK} address {address}"));
    ip(&format!("address add {own}/24 dev {LINK}"));
    ip(&format!("link set {LINK} up"));
    neighbour(other, &hardware(other));
}

fn neighbour(other: Ipv4Addr, address: &str) {
    ip(&format!(
        "neighbour replace {other} lladdr {address} dev {LINK} nud permanent"
    ));
}

/// Runs `ip` in the calling thread's namespace.
fn ip(words: &str) {
    let done = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("`ip` runs: `make setup` installs iproute2");
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {words}: {error}");
}
