//! Keeping one failure from becoming many: ejection of failing endpoints,
//! caps on what an upstream may hold, retries within a budget, and limits on what
//! clients may ask for.
//!
//! Pure rules over atomics. The clock and chance are passed in; waiting,
//! sending and logging are the caller's.

mod backoff;
mod breaker;
mod limiter;
mod outlier;
mod retry;

pub use backoff::backoff;
pub use breaker::{Breaker, Permit, Resource, Usage};
pub use limiter::{Limiter, Rate};
pub use outlier::{Ejection, Outcome, Outlier, Report};
pub use retry::{Attempt, Ending, RetryReason, should_retry};
