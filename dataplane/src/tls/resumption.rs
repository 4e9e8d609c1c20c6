//! Mesh sessions that go on where an earlier connection left off.
//!
//! A resumed session costs no signature and no verification, which is most of a
//! handshake. It also brings the peer's chain as it was verified then. So sessions live no
//! longer than what they were verified against: every configuration has keys and a store of
//! its own, and a new leaf or root makes a new configuration. What time alone changes is looked
//! at here, after the handshake. Whom a certificate names and what that name may do
//! is asked on every connection, resumed or not.

use super::TlsError;
use super::certificate::check_period;
use super::sessions::Sessions;
use rustls::client::Resumption;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, CommonState, HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;

/// Tickets that a client gets with each connection. It uses one for each, so that one
/// would do; the second makes up for a connection that was closed before its ticket came.
const TICKETS: usize = 2;

/// Lets clients of this configuration resume. The tickets hold all that the server knows,
/// under a key that only this configuration has.
///
/// # Errors
/// Without randomness for the key.
pub(super) fn offer(config: &mut ServerConfig) -> Result<(), TlsError> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(TlsError::Tickets)?;
    config.send_tls13_tickets = TICKETS;
    Ok(())
}

/// Lets connections of this configuration resume.
pub(super) fn accept(config: &mut ClientConfig) {
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
}

/// Whether the peer of a finished handshake may be believed at `now`. A full handshake has
/// verified its chain; in a resumed one it may have expired since.
///
/// # Errors
/// When a certificate of a resumed chain is not valid at `now`.
pub(crate) fn check(session: &CommonState, now: UnixTime) -> io::Result<()> {
    if session.handshake_kind() != Some(HandshakeKind::Resumed) {
        return Ok(());
    }
    let chain = session.peer_certificates().unwrap_or_default();
    let expired = |error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(error),
        )
    };
    chain
        .iter()
        .try_for_each(|certificate| check_period(certificate, now).map_err(expired))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tls::authority::{Authority, Flaw};
    use crate::tls::{HandshakeFailure, PeerCertificate, mesh_client_config, mesh_server_config};
    use futures::future::join_all;
    use meridian_model::{CipherSuite, Identity, TlsTerms};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, HandshakeKind, ServerConfig};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    /// Both ends of a connection that has carried a byte each way.
    struct Ends {
        client: client::TlsStream<DuplexStream>,
        server: server::TlsStream<DuplexStream>,
    }

    impl Ends {
        /// How the handshake went, in both ends' words.
        fn kind(&self) -> HandshakeKind {
            let kinds = [
                self.client.get_ref().1.handshake_kind(),
                self.server.get_ref().1.handshake_kind(),
            ];
            assert_eq!(kinds[0], kinds[1]);
            kinds[0].expect("a finished handshake")
        }

        /// Whether each end believes the other at `now`.
        fn believe(&self, now: UnixTime) -> [Result<(), HandshakeFailure>; 2] {
            [
                check(self.client.get_ref().1, now),
                check(self.server.get_ref().1, now),
            ]
            .map(|result| result.map_err(|error| HandshakeFailure::classify(&error)))
        }
    }

    async fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Ends {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("api.default.dc1.internal.td").unwrap();
        let connect = TlsConnector::from(Arc::clone(client)).connect(name, near);
        let accept = TlsAcceptor::from(Arc::clone(server)).accept(far);
        let (client, server) = tokio::join!(connect, accept);
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        client.write_all(b"x").await.unwrap();
        client.flush().await.unwrap();
        server.read_u8().await.unwrap();
        server.write_all(b"y").await.unwrap();
        server.flush().await.unwrap();
        client.read_u8().await.unwrap();
        Ends { client, server }
    }

    fn identities(ca: &Authority) -> [Identity; 2] {
        ["web", "api"].map(|name| ca.identity(name, Flaw::None))
    }

    fn server(api: &Identity, terms: &TlsTerms) -> Arc<ServerConfig> {
        mesh_server_config(api, &[], terms).unwrap()
    }

    fn client(ca: &Authority, web: &Identity) -> Arc<ClientConfig> {
        mesh_client_config(web, &ca.transport(web, "api"), None).unwrap()
    }

    fn in_years(years: u64) -> UnixTime {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let now = Duration::from_secs(UnixTime::now().as_secs());
        UnixTime::since_unix_epoch(now + year * u32::try_from(years).unwrap())
    }

    #[tokio::test]
    async fn sessions_of_one_generation_resume_and_keep_their_peer() {
        let ca = Authority::new("td");
        let [web, api] = identities(&ca);
        let tls12 = TlsTerms {
            tls12: vec![CipherSuite::EcdsaAes128],
            tls13: false,
        };
        for terms in [TlsTerms::default(), tls12] {
            let (server, client) = (server(&api, &terms), client(&ca, &web));
            assert_eq!(meet(&server, &client).await.kind(), HandshakeKind::Full);
            for _ in 0..10 {
                let ends = meet(&server, &client).await;
                assert_eq!(ends.kind(), HandshakeKind::Resumed, "{terms:?}");
                let peers = [
                    ends.client.get_ref().1.peer_certificates(),
                    ends.server.get_ref().1.peer_certificates(),
                ];
                let [callee, caller] =
                    peers.map(|chain| PeerCertificate::of(chain).unwrap().unwrap().spiffe);
                assert_eq!([&callee, &caller], [&api.spiffe, &web.spiffe]);
            }
        }
    }

    #[tokio::test]
    async fn many_connections_at_a_time_resume() {
        const AT_A_TIME: usize = 32;
        let ca = Authority::new("td");
        let [web, api] = identities(&ca);
        let (server, client) = (server(&api, &TlsTerms::default()), client(&ca, &web));
        // Each leaves one ticket more than it takes.
        for _ in 0..AT_A_TIME {
            meet(&server, &client).await;
        }
        let all = join_all((0..AT_A_TIME).map(|_| meet(&server, &client))).await;
        let resumed = all
            .iter()
            .filter(|ends| ends.kind() == HandshakeKind::Resumed);
        assert_eq!(resumed.count(), AT_A_TIME);
    }

    #[tokio::test]
    async fn a_new_leaf_or_root_on_either_side_ends_all_sessions() {
        let ca = Authority::new("td");
        let [web, api] = identities(&ca);
        let terms = TlsTerms::default();
        let (old_server, old_client) = (server(&api, &terms), client(&ca, &web));
        meet(&old_server, &old_client).await;
        let [new_web, new_api] = identities(&ca);
        let (new_server, new_client) = (server(&new_api, &terms), client(&ca, &new_web));
        let ends = meet(&new_server, &old_client).await;
        assert_eq!(ends.kind(), HandshakeKind::Full);
        let ends = meet(&old_server, &new_client).await;
        assert_eq!(ends.kind(), HandshakeKind::Full);
        // The same leaf, but no root of the client's any more: it is refused, whatever its
        // tickets say. Its newest is of the new server, so that it needs another of the old one.
        meet(&old_server, &old_client).await;
        let resumable = meet(&old_server, &old_client).await;
        assert_eq!(resumable.kind(), HandshakeKind::Resumed);
        let other = Authority::new("td");
        let strict = other.identity("api", Flaw::None);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("api.default.dc1.internal.td").unwrap();
        let connect = TlsConnector::from(Arc::clone(&old_client)).connect(name, near);
        let accept = TlsAcceptor::from(server(&strict, &terms)).accept(far);
        let (client, server) = tokio::join!(connect, accept);
        assert!(client.is_err() && server.is_err());
    }

    #[tokio::test]
    async fn a_resumed_peer_whose_certificate_has_expired_is_not_believed() {
        let ca = Authority::new("td");
        let [web, api] = identities(&ca);
        let (server, client) = (server(&api, &TlsTerms::default()), client(&ca, &web));
        let full = meet(&server, &client).await;
        // The verifiers have judged this one, by their own clock.
        assert_eq!(full.believe(in_years(100)), [Ok(()), Ok(())]);
        let resumed = meet(&server, &client).await;
        assert_eq!(resumed.kind(), HandshakeKind::Resumed);
        assert_eq!(resumed.believe(UnixTime::now()), [Ok(()), Ok(())]);
        let expired = Err(HandshakeFailure::Expired);
        assert_eq!(resumed.believe(in_years(100)), [expired, expired]);
    }
}
