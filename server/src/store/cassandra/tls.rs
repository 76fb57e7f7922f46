//! Encrypted connections: files of certificates and keys, and why either side refuses the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use scylla::errors::{
    BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind,
    FrameHeaderParseError, MetadataError, NewSessionError,
};

/// Files of TLS; an empty one trusts the system's certificates.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM certificates that nodes are trusted by, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate of this server and its key, where nodes ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(super) fn config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                let (_, refused) = roots.add_parsable_certificates(certificates(path)?);
                if roots.is_empty() {
                    return Err(format!("{}: no certificate, and {refused} that are none", path.display()));
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
        config.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| error.to_string())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| format!("{}: {error}", path.display()))
}

/// Why no connection could be made, and what to do, if it is for want of agreement about encryption: waiting mends none of that.
pub(super) fn refusal(error: &NewSessionError) -> Option<String> {
    let error = tls_error(error)?;
    let what_to_do = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "give the node a certificate for the address in storage.cassandra.contact_points",
        rustls::Error::InvalidCertificate(_) => {
            "name the certificate of the authority that signed that of the node in ca_file"
        }
        rustls::Error::AlertReceived(_) => {
            "name a certificate that the nodes trust, and its key, in certificate_file and key_file"
        }
        rustls::Error::InvalidMessage(_) => "the node does not encrypt: have it encrypt, or unset the section",
        _ => "compare it with client_encryption_options of the node",
    };
    Some(format!("{error}: {what_to_do}"))
}

fn tls_error(error: &NewSessionError) -> Option<&rustls::Error> {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error,
    })) = error
    else {
        return None;
    };
    let broken = match last_connection_error {
        ConnectionError::IoError(error) => return cause(error),
        ConnectionError::BrokenConnection(broken) => broken,
        ConnectionError::ConnectionSetupRequestError(request) => match &request.error {
            ConnectionSetupRequestErrorKind::BrokenConnection(broken) => broken,
            _ => return None,
        },
        _ => return None,
    };
    // Nodes look at the certificate of a client once that takes the connection for made.
    match broken.downcast_ref()? {
        BrokenConnectionErrorKind::FrameHeaderParseError(FrameHeaderParseError::HeaderIoError(error))
        | BrokenConnectionErrorKind::WriteError(error) => cause(error),
        _ => None,
    }
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
