//! Encryption of connections by rustls: which certificates are trusted, and why one is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use thiserror::Error;

/// Why encryption cannot be set up.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// The file of certificates cannot be read.
    #[error("`{}` holds no certificates that can be used", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine trusts nobody.
    #[error("no certificate of an authority was found on this machine")]
    NoRoots,
    /// rustls refuses.
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
    /// The host of the URL is no name a certificate can have.
    #[error("`{0}` is no name a certificate can be for")]
    Name(String),
}

/// What to offer for the protocol inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 before HTTP/1.1.
    Both,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }
}

/// How connections are encrypted; made once and shared.
#[derive(Debug, Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts the certificates of `ca_file`, else those of the system; with `insecure` anyone.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn new(ca_file: Option<&Path>, insecure: bool, offer: Offer) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = if insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()
        };
        config.alpn_protocols = offer.protocols();
        Ok(Self { config: Arc::new(config) })
    }

    /// A connection to `host` that has not said anything yet.
    ///
    /// # Errors
    /// If `host` is no name for a certificate.
    pub fn connect(&self, host: &str) -> Result<ClientConnection, TlsSetupError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsSetupError::Name(host.to_owned()))?;
        Ok(ClientConnection::new(Arc::clone(&self.config), name)?)
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsSetupError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = ca_file {
        let failed = |source| TlsSetupError::CaFile { path: path.to_owned(), source };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(Box::new(error)))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(Box::new(error)))?;
            store.add(certificate).map_err(|error| failed(Box::new(error)))?;
        }
        if store.is_empty() {
            return Err(failed("there is no certificate in it".into()));
        }
        return Ok(store);
    }
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() { Err(TlsSetupError::NoRoots) } else { Ok(store) }
}

/// Why TLS was not agreed on: a word for it, and a sentence.
pub fn reason(error: &rustls::Error) -> (&'static str, String) {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ("expired", "the server's certificate has expired".to_owned())
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("not_valid_yet", "the server's certificate is not valid yet".to_owned())
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ("wrong_name", "the server's certificate is for another name".to_owned())
            }
            CertificateError::UnknownIssuer => {
                ("unknown_issuer", "the server's certificate is not signed by anyone who is trusted".to_owned())
            }
            other => ("certificate", format!("the server's certificate is not to be trusted: {other}")),
        },
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            ("no_protocol", "the server speaks none of the versions of HTTP that were offered".to_owned())
        }
        rustls::Error::InvalidMessage(_) => {
            ("no_tls", "the server does not speak TLS on this port: is it `http`?".to_owned())
        }
        other => ("handshake", other.to_string()),
    }
}

/// Takes any certificate, and still checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
