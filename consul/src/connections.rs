//! The connections to the agent, and the certificates that they are made with.
//!
//! A process outlives its certificates, so their files are looked at before requests, once a second
//! at most. Where they hold something else, requests from then on use connections of their own;
//! those under way end on the ones that they began on. Files that are of no use, because they are
//! being replaced or by mistake, leave everything as it was.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    config::ClientConfig,
    error::Error,
    tls::{Authorities, TlsConfig},
};

/// How old a look at the files may be: certificates are replaced long before they end.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a pool of connections from settings and the files that they name.
type Make = fn(&ClientConfig) -> Result<reqwest::Client, Error>;

#[derive(Debug)]
pub(crate) struct Connections {
    config: Arc<ClientConfig>,
    make: Make,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    http: reqwest::Client,
    /// What the files held when they were read last.
    seen: Seen,
    looked: Instant,
}

/// What the files held, as a hash: a private key stays nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(u64);

/// What became of the files.
#[derive(Debug)]
enum Look {
    Same,
    Changed(Seen, Result<reqwest::Client, Error>),
}

impl Connections {
    pub(crate) fn new(config: Arc<ClientConfig>, make: Make) -> Result<Self, Error> {
        // Before they are read: what is written in between is seen as a change.
        let seen = Seen::of(&config);
        let state = State {
            http: make(&config)?,
            seen,
            looked: Instant::now(),
        };
        Ok(Self {
            config,
            make,
            state: Mutex::new(state),
        })
    }

    /// Those for a request that is sent now.
    pub(crate) async fn current(&self) -> reqwest::Client {
        if let Some(seen) = self.due(Instant::now()) {
            let (config, make) = (Arc::clone(&self.config), self.make);
            let look = tokio::task::spawn_blocking(move || look(&config, make, seen));
            // It fails where the runtime ends, and this request with it.
            if let Ok(Look::Changed(seen, made)) = look.await {
                self.change(seen, made);
            }
        }
        self.state().http.clone()
    }

    /// What was seen last, for the one request that is to look again.
    fn due(&self, now: Instant) -> Option<Seen> {
        if !has_files(&self.config) {
            return None;
        }
        let mut state = self.state();
        if now.saturating_duration_since(state.looked) < LOOK {
            return None;
        }
        state.looked = now;
        Some(state.seen)
    }

    fn change(&self, seen: Seen, made: Result<reqwest::Client, Error>) {
        let mut state = self.state();
        state.seen = seen;
        match made {
            Ok(http) => {
                state.http = http;
                tracing::info!("certificates for the Consul agent were read again");
            }
            Err(error) => tracing::warn!(
                error = %in_one_line(&error),
                "certificates for the Consul agent cannot be used; going on with the last ones"
            ),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the files, and makes other connections where they hold something else.
fn look(config: &ClientConfig, make: Make, before: Seen) -> Look {
    let now = Seen::of(config);
    if now == before {
        return Look::Same;
    }
    Look::Changed(now, make(config))
}

fn has_files(config: &ClientConfig) -> bool {
    let tls = &config.tls;
    let authorities = !tls.insecure && tls.authorities != Authorities::System;
    config.address.is_tls() && (authorities || tls.client.is_some())
}

impl Seen {
    fn of(config: &ClientConfig) -> Self {
        let mut hasher = DefaultHasher::new();
        if has_files(config) {
            for file in files(&config.tls) {
                // One that can't be read is another state than one that can.
                let content = fs::read(&file).map_err(|error| error.kind());
                (file, content).hash(&mut hasher);
            }
        }
        Self(hasher.finish())
    }
}

/// In the same order each time.
fn files(tls: &TlsConfig) -> Vec<PathBuf> {
    let mut files = match &tls.authorities {
        Authorities::System => Vec::new(),
        Authorities::File(path) => vec![path.clone()],
        Authorities::Directory(path) => inside(path),
    };
    if let Some(pair) = &tls.client {
        files.extend([pair.certificate.clone(), pair.key.clone()]);
    }
    files
}

fn inside(directory: &Path) -> Vec<PathBuf> {
    // One that can't be read has no files: making connections says why.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// An error with its causes.
fn in_one_line(error: &Error) -> String {
    let mut text = String::new();
    let mut next = Some(error as &dyn std::error::Error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::Address, client::pool, tls::ClientPair};
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            let [certificate, key] = files.pair();
            files.write("ca.pem", &certificate);
            files.write("client.pem", &certificate);
            files.write("client.key", &key);
            files
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn pair(&self) -> [String; 2] {
            let key = KeyPair::generate().unwrap();
            let wanted = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            let certificate = wanted.self_signed(&key).unwrap();
            [certificate.pem(), key.serialize_pem()]
        }

        fn config(&self) -> ClientConfig {
            let address = Address::parse("https://127.0.0.1:1", false).unwrap();
            let path = |name| self.0.path().join(name);
            ClientConfig {
                tls: TlsConfig {
                    authorities: Authorities::File(path("ca.pem")),
                    client: Some(ClientPair {
                        certificate: path("client.pem"),
                        key: path("client.key"),
                    }),
                    ..TlsConfig::default()
                },
                ..ClientConfig::new(address)
            }
        }
    }

    #[test]
    fn a_whole_change_is_taken_and_half_of_one_is_not() {
        let files = Files::new();
        let config = files.config();
        let seen = Seen::of(&config);
        assert!(matches!(look(&config, pool, seen), Look::Same));
        let [certificate, key] = files.pair();
        files.write("client.pem", &certificate);
        let Look::Changed(half, Err(error)) = look(&config, pool, seen) else {
            panic!("a certificate with another one's key");
        };
        let said = in_one_line(&error);
        assert!(said.contains("certificate and key don't fit"), "{said}");
        assert!(matches!(look(&config, pool, half), Look::Same), "said once");
        files.write("client.key", &key);
        let whole = look(&config, pool, half);
        assert!(matches!(whole, Look::Changed(_, Ok(_))), "{whole:?}");
    }

    #[test]
    fn files_are_looked_at_once_a_second() {
        let files = Files::new();
        let connections = Connections::new(Arc::new(files.config()), pool).unwrap();
        let made = connections.state().looked;
        assert_eq!(connections.due(made), None);
        assert!(connections.due(made + LOOK).is_some());
        assert_eq!(connections.due(made + LOOK), None, "somebody else does");
    }

    #[test]
    fn without_files_there_is_nothing_to_look_at() {
        let address = Address::parse("http://127.0.0.1:1", false).unwrap();
        let plain = ClientConfig {
            tls: Files::new().config().tls,
            ..ClientConfig::new(address)
        };
        let connections = Connections::new(Arc::new(plain), pool).unwrap();
        assert_eq!(connections.due(Instant::now() + LOOK * 2), None);
    }
}
