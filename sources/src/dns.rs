//! A name in DNS, resolved again and again.

use crate::causes::chain_of;
use hickory_resolver::TokioResolver;
pub(crate) use hickory_resolver::config::LookupIpStrategy as Families;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A name, and how often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) host: String,
    refresh: Duration,
}

impl Name {
    pub(crate) fn new(host: &str, refresh: Duration) -> Self {
        Self {
            host: host.to_owned(),
            refresh,
        }
    }
}

/// Its addresses in order, or why there are none.
pub(crate) type Answer = Result<Vec<IpAddr>, String>;

/// Even a TTL of 0 is not asked for more often than this.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A name that failed is asked for again this soon, or after its refresh if that is shorter.
const RETRY: Duration = Duration::from_secs(5);
/// Servers that don't answer would otherwise be asked for half a minute, and a proxy that starts
/// waits for a first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves the name until nobody takes the answers any more. Answers that say what the last one
/// said are kept back, failures are not: they are counted.
pub(crate) async fn follow<T>(
    name: Name,
    families: Families,
    sender: mpsc::Sender<T>,
    letter: impl Fn(Answer) -> T,
) {
    let mut last = None;
    loop {
        let (answer, valid_until) = resolve(&name.host, families).await;
        let known = answer.is_ok() && last.as_ref() == Some(&answer);
        if !known && sender.send(letter(answer.clone())).await.is_err() {
            return;
        }
        last = Some(answer);
        let left = valid_until.saturating_duration_since(Instant::now());
        tokio::time::sleep(pause(left, name.refresh)).await;
    }
}

/// The answer, and until when it may be believed.
async fn resolve(host: &str, families: Families) -> (Answer, Instant) {
    let failed = |reason| (Err(reason), Instant::now() + RETRY);
    let resolver = match resolver(families) {
        Ok(resolver) => resolver,
        Err(reason) => return failed(reason),
    };
    match tokio::time::timeout(PATIENCE, resolver.lookup_ip(host)).await {
        Err(_) => failed(format!("no answer within {PATIENCE:?}")),
        Ok(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            // Servers rotate the order, which is no change.
            addresses.sort_unstable();
            addresses.dedup();
            (Ok(addresses), found.valid_until())
        }
        Ok(Err(error)) => failed(chain_of(&error)),
    }
}

/// Made for each question: name servers and the table of hosts change while a proxy runs, and
/// nothing is cached, since the refresh may be shorter than the TTL.
fn resolver(families: Families) -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| chain_of(&error))?;
    let options = builder.options_mut();
    options.ip_strategy = families;
    options.cache_size = 0;
    builder.build().map_err(|error| chain_of(&error))
}

/// The shorter of TTL and refresh, but no busy loop.
fn pause(ttl_left: Duration, refresh: Duration) -> Duration {
    ttl_left.min(refresh).max(LEAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_ttl_and_refresh_counts() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(seconds(300), seconds(30)), seconds(30));
        assert_eq!(pause(seconds(5), seconds(30)), seconds(5));
        assert_eq!(pause(seconds(0), seconds(30)), LEAST_PAUSE);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_needs_no_server_and_is_told_once() {
        tokio::time::pause();
        let (sender, mut receiver) = mpsc::channel(1);
        let name = Name::new("localhost", Duration::from_secs(1));
        let work = follow(name, Families::Ipv4thenIpv6, sender, |answer| answer);
        let task = tokio::spawn(work);
        let first = receiver.recv().await.unwrap();
        assert_eq!(first, Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        let again = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await;
        assert!(again.is_err(), "{again:?}");
        task.abort();
    }
}
