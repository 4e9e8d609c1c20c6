//! Faults under load, every response counted.
//!
//! What may be lost is derived, not guessed. A request that is idempotent may be
//! repeated, so none is lost while another instance lives, but for those whose retry
//! had no budget: they are counted. One that is not, such as POST, is lost where it
//! was given to somebody who died with it: nobody can know whether it was carried
//! out. And whatever an origin took and sat on until the time was up is lost, for
//! only its answer could have saved it.

mod control;
mod peers;
mod scene;
