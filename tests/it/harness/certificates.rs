//! Certificates for servers that speak TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// The only name that the certificate carries: whoever dials an address is not talking to it.
pub(crate) const HOST: &str = "localhost";

/// An authority, and a certificate of it for [`HOST`].
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn issue() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        // A name of its own: OpenSSL takes a certificate whose issuer has the same one for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        for (name, text) in
            [("ca.pem", issuer.pem()), ("node.pem", certificate.pem()), ("node.key", key.serialize_pem())]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Settings of a server that speaks TLS at this port, and to its peers.
    pub(crate) fn settings(&self, port: u16) -> [(&'static str, String); 6] {
        [
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.file("node.pem")),
            ("tls-key-file", self.file("node.key")),
            ("tls-ca-cert-file", self.file("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
    }
}
