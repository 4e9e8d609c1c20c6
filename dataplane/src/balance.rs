//! Choosing an endpoint for a request.
//!
//! A [`Balancer`] belongs to one target of a cluster. Its tables are prepared
//! when endpoints change and swapped as a whole, so that any number of threads
//! pick without a lock; what changes between two updates (requests under way,
//! latency, ejection) stands in atomics that outlive the tables.
//!
//! One policy a file; all of them are given the clock, the randomness and the
//! hash, so their distributions can be tested.

mod alias;
mod balancer;
mod cookie;
mod failover;
mod hash;
mod least_request;
mod maglev;
mod member;
mod peak_ewma;
mod random;
mod ring;
mod round_robin;
mod slow_start;
mod stats;
mod view;

pub use balancer::{BalanceOptions, Balancer, PickContext};
pub use cookie::GeneratedCookie;
pub use failover::{PriorityHealth, choose_target, priority_loads};
pub use hash::{RequestHash, request_hash};
pub use member::{EndpointId, Member};
pub use peak_ewma::penalised_latency;
pub use slow_start::SlowStart;
pub use stats::{ActiveRequest, EndpointStats, OpenConnection};
