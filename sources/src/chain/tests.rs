//! Chains as Consul compiles them, and what becomes of them.
