//! Listeners for strangers: whether they are open, and how long what they present is valid.

use crate::check::certificates::days;
use crate::check::outside::SOON;
use crate::check::registration::{Gateway, connect};
use crate::check::report::Report;
use meridian_dataplane::probe::expiry;
use meridian_model::listener::ServerCertificate;
use meridian_model::{Bind, Security, Snapshot};
use std::time::{Duration, SystemTime};

pub(super) async fn check(snapshot: &Snapshot, gateway: &Gateway, report: &mut Report) {
    report.group("listeners");
    for (name, listener) in &snapshot.listeners {
        let Bind::Tcp(address) = &listener.bind else {
            continue;
        };
        match connect(address).await {
            Ok(()) => report.good(format!("{name} is open at {address}")),
            Err(reason) => report.bad(
                format!("{name} is not open at {address}: {reason}"),
                gateway.start(),
            ),
        }
        let Security::Edge(tls) = &listener.security else {
            continue;
        };
        for certificate in &tls.certificates {
            let term = match *certificate.name == *gateway.service {
                true => CONSULS,
                false => WRITTEN,
            };
            validity(name.as_str(), certificate, &term, SystemTime::now(), report);
        }
    }
    if snapshot.listeners.is_empty() {
        report.bad(
            "it has no listener",
            "see the groups of its entry and of the configuration",
        );
    }
}

/// How long before its end a certificate should have been renewed, and by whom.
struct Term {
    soon: Duration,
    renew: &'static str,
}

/// Signed by Consul for the gateway, for days.
const CONSULS: Term = Term {
    soon: Duration::from_secs(60 * 60),
    renew: "look into the agent's log why it is not renewed",
};

const WRITTEN: Term = Term {
    soon: SOON,
    renew: "renew it: write its entry again, or its file",
};

fn validity(
    listener: &str,
    certificate: &ServerCertificate,
    term: &Term,
    now: SystemTime,
    report: &mut Report,
) {
    let name = format!("the certificate {} of {listener}", certificate.name);
    let end = certificate.chain.first().and_then(|leaf| expiry(leaf));
    let Some(end) = end else {
        report.warn(format!("{name} has no end that can be read"), term.renew);
        return;
    };
    match end.duration_since(now) {
        Ok(left) if left < term.soon => {
            report.warn(format!("{name} expires in {}", hours(left)), term.renew);
        }
        Ok(left) => report.good(format!("{name} is valid for {}", hours(left))),
        Err(past) => report.bad(
            format!("{name} expired {} ago", hours(past.duration())),
            term.renew,
        ),
    }
}

/// In days, once there are some.
fn hours(time: Duration) -> String {
    let hours = time.as_secs() / 3600;
    match hours {
        0..48 => format!("{hours} h"),
        _ => days(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::PrivateKey;

    fn said(chain: Vec<std::sync::Arc<[u8]>>, term: &Term) -> String {
        let certificate = ServerCertificate {
            name: "site".into(),
            hosts: Vec::new(),
            chain,
            key: PrivateKey::from_der(Vec::new()),
        };
        let mut report = Report::default();
        validity("main", &certificate, term, SystemTime::now(), &mut report);
        report.to_string()
    }

    #[test]
    fn a_certificate_without_an_end_is_named() {
        let text = said(vec![[0_u8; 3].as_slice().into()], &WRITTEN);
        assert!(
            text.contains("‼ the certificate site of main has no end"),
            "{text}"
        );
        assert!(said(Vec::new(), &CONSULS).contains("agent's log"));
    }

    #[test]
    fn times_are_told_in_hours_and_then_in_days() {
        let hour = Duration::from_secs(3600);
        assert_eq!(hours(hour * 47), "47 h");
        assert_eq!(hours(hour * 49), "2 days");
    }
}
