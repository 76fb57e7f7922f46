//! A certificate authority of the test's own, and identities under it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority and what a server under it presents.
pub struct Authority {
    /// Its certificate in PEM, for `ca_file`.
    pub pem: String,
    /// For a server on loopback.
    pub server: Arc<ServerConfig>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new authority with keys of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = pem("CERTIFICATE", certificate.der());
        let issuer = Issuer::new(params, key);

        let (leaf, key) = issue(&issuer, &["127.0.0.1", "localhost"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        Self { pem, server: Arc::new(server), issuer }
    }

    /// A new certificate under it for these names and addresses.
    pub fn identity(&self, names: &[&str]) -> Identity {
        let (leaf, key) = issue(&self.issuer, names);
        Identity { certificate: pem("CERTIFICATE", &leaf), key: pem("PRIVATE KEY", key.secret_pkcs8_der()) }
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
    (leaf.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn pem(what: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}
