//! What a client keeps to resume sessions with its one target.
//!
//! rustls' own store holds eight tickets a server. A sidecar that dials for every
//! connection of its application has more handshakes than that under way at a
//! time, and each that finds no ticket costs both ends a full one.

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Handshakes with a target that may be under way before one of them is a full one.
/// A ticket holds both ends' chains, some 4 KiB: a target that is dialled this fast has
/// a quarter of a MiB of them.
const TICKETS: usize = 64;

/// Sessions with one server. Another name ends those with the one before.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    server: Option<ServerName<'static>>,
    group: Option<NamedGroup>,
    /// TLS 1.2 may use a session many times.
    older: Option<Tls12ClientSessionValue>,
    /// Each for one connection, the oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    /// What is kept about any server.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked in between left whole values.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept about this server, if it is the one.
    fn about<T>(
        &self,
        server: &ServerName<'_>,
        take: impl FnOnce(&mut Kept) -> Option<T>,
    ) -> Option<T> {
        let mut kept = self.lock();
        if kept.server.as_ref() != Some(server) {
            return None;
        }
        take(&mut kept)
    }

    /// A place for news of this server.
    fn learn(&self, server: ServerName<'static>, keep: impl FnOnce(&mut Kept)) {
        let mut kept = self.lock();
        if kept.server.as_ref() != Some(&server) {
            *kept = Kept {
                server: Some(server),
                ..Kept::default()
            };
        }
        keep(&mut kept);
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.learn(server, |kept| kept.group = Some(group));
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.about(server, |kept| kept.group)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.learn(server, |kept| kept.older = Some(value));
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.about(server, |kept| kept.older.clone())
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.about(server, |kept| kept.older.take());
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.learn(server, |kept| {
            if kept.tickets.len() == TICKETS {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.about(server, |kept| kept.tickets.pop_back())
    }
}
