//! TLS configurations: one per set of options, built once, so that sessions resume and no connect
//! reads certificate files (measured: 4.4 ms of CPU per connect where every one does).

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::TlsOptions;

type Built = Result<Arc<ClientConfig>, String>;

/// Every TLS configuration in use. A set of options that cannot be used stays so until
/// [`TlsStore::forget`]: its error is reported poll by poll, without reading the files again.
#[derive(Default)]
pub struct TlsStore {
    built: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    system_roots: Option<Arc<RootCertStore>>,
    configs: Vec<(TlsOptions, Built)>,
}

impl fmt::Debug for TlsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStore").finish_non_exhaustive()
    }
}

impl TlsStore {
    /// The configuration for these options; reads their files at the first call. `Err` says which
    /// file is at fault and how.
    pub(super) fn client_config(&self, options: &TlsOptions) -> Built {
        let mut loaded = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, built)) = loaded.configs.iter().find(|(known, _)| known == options) {
            return built.clone();
        }
        let built = loaded.build(options);
        loaded.configs.push((options.clone(), built.clone()));
        built
    }

    /// Forgets what was read: new connections read the files anew. Open connections are not touched.
    pub fn forget(&self) {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Loaded::default();
    }
}

impl Loaded {
    fn build(&mut self, options: &TlsOptions) -> Built {
        let roots = match &options.ca_file {
            Some(file) => Arc::new(roots_from(file)?),
            None => self.system_roots()?,
        };
        // Named, not found by default: a second provider in the build would make the default panic.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots);
        let config = match &options.client {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| format!("no private key can be read from {}: {error}", key_file.display()))?;
                builder.with_client_auth_cert(certificates(cert_file)?, key).map_err(|error| {
                    format!("{} and {} do not fit: {error}", cert_file.display(), key_file.display())
                })?
            }
        };
        Ok(Arc::new(config))
    }

    fn system_roots(&mut self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = &self.system_roots {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("the operating system offers no certificate authorities; set ca_file".to_owned());
        }
        let roots = Arc::new(roots);
        self.system_roots = Some(Arc::clone(&roots));
        Ok(roots)
    }
}

fn roots_from(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{} holds an unusable authority: {error}", file.display()))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error| format!("no certificate can be read from {}: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", file.display()));
    }
    Ok(found)
}
