//! A client for a part of Nomad's HTTP API: the agent, its regions, services
//! registered with Nomad, and running jobs.
//!
//! ```no_run
//! # async fn example() -> Result<(), nomad::Error> {
//! let client = nomad::Client::new("http://127.0.0.1:4646", None)?;
//! let source = "job \"hello\" { ... }";
//! let job = client.parse_job(source).await?;
//! let registered = client.register_job(&job, source).await?;
//! println!("evaluation {}", registered.evaluation);
//! for service in client.service("hello").await? {
//!     println!("{}:{}", service.address, service.port);
//! }
//! # Ok(())
//! # }
//! ```

mod agent;
mod client;
mod error;
mod job;
mod service;

pub use agent::Agent;
pub use client::Client;
pub use error::Error;
pub use job::{Job, Registered};
pub use service::{Service, ServiceName};
