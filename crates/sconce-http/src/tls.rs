//! TLS 1.2 and 1.3 by rustls, over the cryptography that the clients of hub and S3 use too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The certificate of a server, with its key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of that kind.
    #[error("{key} = {}: {problem}; it must be a PEM file with {what}", path.display())]
    File {
        /// The option that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What it must hold.
        what: &'static str,
    },
    /// Certificate and key are not for each other, or of a kind that is not known.
    #[error(
        "certificate_file = {} and private_key_file = {}: {cause}",
        certificate.display(),
        key.display()
    )]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// What is wrong.
        cause: rustls::Error,
    },
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let of_certificate = |problem: String| TlsError::File {
            key: "certificate_file",
            path: certificate.into(),
            problem,
            what: "the certificate, followed by those that it was issued with",
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|cause| of_certificate(told(&cause)))?;
        if chain.is_empty() {
            return Err(of_certificate("there is no certificate in it".into()));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::File {
            key: "private_key_file",
            path: key.into(),
            problem: told(&cause),
            what: "a private key without a password",
        })?;
        let pair = |cause| TlsError::Pair {
            certificate: certificate.into(),
            key: key.into(),
            cause,
        };
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}

fn told(cause: &pem::Error) -> String {
    match cause {
        pem::Error::Io(cause) => cause.to_string(),
        pem::Error::NoItemsFound => "there is nothing of that kind in it".into(),
        other => format!("{other:?}"),
    }
}
