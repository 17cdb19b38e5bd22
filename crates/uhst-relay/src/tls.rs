//! HTTPS with PEM files, which are reloaded when they change.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use tokio::time::sleep;

use super::{RelayStartError, TlsFiles};

/// The interval at which the files are checked.
const CHECK: Duration = Duration::from_secs(2);

/// The last certificate and key that worked.
pub(super) struct Tls {
    files: TlsFiles,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    pub(super) fn new(files: TlsFiles) -> Result<Self, RelayStartError> {
        let acceptor = RwLock::new(acceptor(&files)?);
        Ok(Tls { files, acceptor })
    }

    /// Returns the acceptor for a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads the files whenever one of them changes, forever. If they do not work, the former ones stay in use:
    /// perhaps only one of the two has been replaced yet.
    pub(super) async fn run(&self) {
        let mut known = self.versions();
        loop {
            sleep(CHECK).await;
            let now = self.versions();
            if now == known {
                continue;
            }
            known = now;
            match acceptor(&self.files) {
                Ok(acceptor) => {
                    *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    tracing::info!(certificate = %self.files.certificate.display(), "reloaded the certificate");
                }
                Err(error) => tracing::warn!(%error, "cannot reload the certificate: the former one stays in use"),
            }
        }
    }

    /// Returns the modification time and size of both files.
    fn versions(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.files.certificate, &self.files.key].map(|file| {
            let about = std::fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

/// Loads the certificate and the key.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, RelayStartError> {
    let bad = |path: &Path, reason: String| RelayStartError::Tls { path: path.to_owned(), reason };
    let bad_certificate = |reason: String| bad(&files.certificate, reason);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_certificate("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad(&files.key, error.to_string()))?;
    // The provider is explicit because the process may have another default, or none.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad_certificate(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad_certificate(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
