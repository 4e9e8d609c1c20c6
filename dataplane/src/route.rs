//! Routing: which prepared action a request gets.
//!
//! A [`Router`] is compiled once from a model's route table, whenever a
//! snapshot changes, and then only read. Looking a route up neither allocates
//! nor walks the table: hosts and exact paths are hashed, prefixes are found
//! in a trie, and only regular expressions are tried in turn.

mod conditions;
mod hosts;
mod paths;
mod rank;
mod redirect;
mod rewrite;
mod router;
mod trie;

pub use conditions::{RequestFacts, conditions_hold};
pub(crate) use conditions::{escaped_byte, path_holds, query_value};
pub use hosts::host_of_authority;
pub use redirect::{Origin, redirect_location};
pub use rewrite::{MatchedPath, RewriteError, rewrite_path};
pub use router::{Match, Router};
