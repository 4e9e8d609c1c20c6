//! TLS to a linked service: its authorities, our certificate for it, and the name to ask for, from
//! files beside the gateway.

use crate::causes::chain_of;
use crate::knowledge::{Knowledge, Known, Topic};
use crate::translate::certificate;
use consul::catalog::GatewayService;
use meridian_model::Transport;
use meridian_model::cluster::{ClientCertificate, TlsTransport};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;

/// Why there is no transport.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoTransport {
    /// A file has not been read yet.
    Waiting,
    /// The files, or the name, are of no use.
    Failed(String),
}

/// The files to be followed. Without `CAFile` the others mean nothing, as for Consul's Envoy.
pub(super) fn wanted(linked: &GatewayService) -> impl Iterator<Item = Topic> {
    let files = [&linked.ca_file, &linked.cert_file, &linked.key_file];
    let files = files.map(|file| {
        let used = !linked.ca_file.is_empty() && !file.is_empty();
        used.then(|| Topic::File(PathBuf::from(file)))
    });
    files.into_iter().flatten()
}

/// How the service is called: plainly, or with what its files hold now.
pub(super) fn transport(
    linked: &GatewayService,
    knowledge: &Knowledge,
) -> Result<Transport, NoTransport> {
    if linked.ca_file.is_empty() {
        return Ok(Transport::Plain);
    }
    let roots = authorities(read("CAFile", &linked.ca_file, knowledge)?)
        .map_err(|reason| NoTransport::Failed(format!("CAFile `{}`: {reason}", linked.ca_file)))?;
    if !linked.sni.is_empty() && ServerName::try_from(linked.sni.as_str()).is_err() {
        let reason = format!("SNI `{}` is no server name", linked.sni);
        return Err(NoTransport::Failed(reason));
    }
    Ok(Transport::Tls(TlsTransport {
        server_name: Some(linked.sni.as_str())
            .filter(|name| !name.is_empty())
            .map(Arc::from),
        roots,
        certificate: ours(linked, knowledge)?,
    }))
}

/// What is presented; nothing where only one of the files is named, which Consul refuses.
fn ours(
    linked: &GatewayService,
    knowledge: &Knowledge,
) -> Result<Option<ClientCertificate>, NoTransport> {
    if linked.cert_file.is_empty() || linked.key_file.is_empty() {
        return Ok(None);
    }
    let chain = read("CertFile", &linked.cert_file, knowledge)?;
    let key = read("KeyFile", &linked.key_file, knowledge)?;
    certificate::client(chain, key).map(Some).map_err(|error| {
        let (chain, key) = (&linked.cert_file, &linked.key_file);
        let reason = chain_of(&error);
        NoTransport::Failed(format!("CertFile `{chain}` with KeyFile `{key}`: {reason}"))
    })
}

fn read<'a>(field: &str, path: &str, knowledge: &'a Knowledge) -> Result<&'a [u8], NoTransport> {
    match knowledge.file(path.as_ref()) {
        Known::Value(bytes) => Ok(bytes),
        Known::Waiting => Err(NoTransport::Waiting),
        Known::Failed(reason) => Err(NoTransport::Failed(format!("{field}: {reason}"))),
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, String> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| chain_of(&error))?;
        found.push(Arc::from(certificate.as_ref()));
    }
    if found.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(found)
}
