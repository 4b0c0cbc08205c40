//! Certificates from a certificate authority by ACME (RFC 8555) with the challenge TLS-ALPN-01
//! (RFC 8737): the authority connects to port 443 of each name and expects a challenge certificate.
//!
//! Account, chain and key are files in one private directory, so a restart needs no new order.

use super::certificate::{CertificateError, CertificateFiles, LoadedCertificate, Validity, load};
use crate::{Clock, SharedClock, Shutdown, data_dir::write_private};
use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    Error, HttpClient, Identifier, KeyAuthorization, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sealpost_proto::limits::{
    ACME_CHECK_INTERVAL, ACME_RETRY_FIRST, ACME_RETRY_MAX, ACME_STEP_TIMEOUT,
};
use std::{
    collections::HashMap,
    fmt,
    fs::DirBuilder,
    future::Future,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::sleep;

/// ALPN protocol of a challenge.
pub(super) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";
const ACCOUNT_FILE: &str = "account.json";
const CHAIN_FILE: &str = "chain.pem";
const KEY_FILE: &str = "key.pem";

/// Order of a certificate at a certificate authority.
#[derive(Debug, Clone)]
pub struct AcmeOrder {
    /// DNS names of the certificate.
    pub names: Vec<String>,
    /// Contact URLs for the authority, for example `mailto:ops@relay.example`.
    pub contact: Vec<String>,
    /// Directory URL of the authority. An order accepts its terms of service.
    pub directory: String,
    /// Directory of account, chain and key.
    pub storage_dir: PathBuf,
}

impl AcmeOrder {
    /// Returns the stored certificate; `None` before the first one.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load_stored_certificate(
        &self,
    ) -> Result<Option<Arc<CertificateFiles>>, CertificateError> {
        let (chain, key) = (
            self.storage_dir.join(CHAIN_FILE),
            self.storage_dir.join(KEY_FILE),
        );
        chain
            .exists()
            .then(|| CertificateFiles::open(&chain, &key))
            .transpose()
    }
}

/// Current certificate from a certificate authority, and the responses to its challenges.
pub struct AcmeCertificates {
    order: AcmeOrder,
    current: RwLock<Option<LoadedCertificate>>,
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// Error when ordering a certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refused the order or did not respond.
    #[error("the certificate authority refused the order or did not respond: {0}")]
    Authority(#[from] Error),
    /// The authority could not validate a name.
    #[error(
        "the certificate authority could not validate {names}: \
         check that port 443 of that name leads to this listener"
    )]
    NotValidated {
        /// The ordered names.
        names: String,
    },
    /// There is no response to a challenge.
    #[error("cannot respond to a challenge: {0}")]
    Challenge(String),
    /// The directory, or a file in it, cannot be read or written.
    #[error("{} cannot be used: {source}", path.display())]
    Storage {
        /// Path of the directory or file.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
    /// The authority issued an invalid certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl AcmeCertificates {
    /// Loads the stored certificate. Creates the directory (mode 0700) if it does not exist. Orders
    /// nothing.
    ///
    /// # Errors
    /// [`AcmeError::Storage`].
    pub fn open(order: AcmeOrder) -> Result<Arc<Self>, AcmeError> {
        let path = &order.storage_dir;
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|source| AcmeError::Storage {
            path: path.clone(),
            source,
        })?;
        let current = RwLock::new(load_stored(path));
        Ok(Arc::new(Self {
            order,
            current,
            challenges: Mutex::default(),
        }))
    }

    /// Returns the validity of the current certificate; `None` before the first one.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|current| current.validity)
    }

    /// Orders a certificate whenever there is none or a third of its lifetime is left, until the
    /// shutdown.
    pub async fn run(self: Arc<Self>, clock: SharedClock, shutdown: Shutdown) {
        let mut pause = ACME_RETRY_FIRST;
        loop {
            let mut wait = ACME_CHECK_INTERVAL;
            if self.is_due(clock.as_ref()) {
                let ordered = tokio::select! {
                    ordered = self.order_certificate() => ordered,
                    () = shutdown.triggered() => return,
                };
                self.log_outcome(&ordered, pause);
                (wait, pause) = match ordered {
                    Ok(()) => (ACME_CHECK_INTERVAL, ACME_RETRY_FIRST),
                    Err(_) => (pause, (pause * 2).min(ACME_RETRY_MAX)),
                };
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.triggered() => return,
            }
        }
    }

    /// Orders a certificate now and starts to use it.
    ///
    /// # Errors
    /// [`AcmeError`]; then the old certificate stays in use.
    pub async fn order_certificate(&self) -> Result<(), AcmeError> {
        let account = self.load_or_create_account().await?;
        let names: Vec<_> = self
            .order
            .names
            .iter()
            .cloned()
            .map(Identifier::Dns)
            .collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .ok_or_else(|| {
                    AcmeError::Challenge("the authority does not offer tls-alpn-01".to_owned())
                })?;
            let name = challenge.identifier().to_string();
            let certificate =
                generate_challenge_certificate(&name, &challenge.key_authorization())?;
            self.challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name, certificate);
            challenge.set_ready().await?;
        }
        let retry_policy = RetryPolicy::default().timeout(ACME_STEP_TIMEOUT);
        let ready = order.poll_ready(&retry_policy).await;
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if ready? != OrderStatus::Ready {
            return Err(AcmeError::NotValidated {
                names: self.order.names.join(", "),
            });
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&retry_policy).await?;
        self.store_certificate(&chain, &key)
    }

    /// Stores the key first: after a crash in between, the chain does not match the key and a new
    /// certificate is ordered.
    fn store_certificate(&self, chain: &str, key: &str) -> Result<(), AcmeError> {
        let directory = &self.order.storage_dir;
        write_file(&directory.join(KEY_FILE), key.as_bytes())?;
        write_file(&directory.join(CHAIN_FILE), chain.as_bytes())?;
        let loaded = load(&directory.join(CHAIN_FILE), &directory.join(KEY_FILE))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(())
    }

    async fn load_or_create_account(&self) -> Result<Account, AcmeError> {
        let path = self.order.storage_dir.join(ACCOUNT_FILE);
        let builder = Account::builder_with_http(Box::new(AuthorityClient::new()?));
        let stored = std::fs::read(&path)
            .ok()
            .and_then(|json| serde_json::from_slice::<AccountCredentials>(&json).ok());
        if let Some(credentials) = stored {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<_> = self.order.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder
            .create(&new, self.order.directory.clone(), None)
            .await?;
        let json = serde_json::to_vec(&credentials).map_err(io::Error::other);
        let json = json.map_err(|source| AcmeError::Storage {
            path: path.clone(),
            source,
        })?;
        write_file(&path, &json)?;
        Ok(account)
    }

    pub(super) fn is_due(&self, clock: &dyn Clock) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_none_or(|current| {
            let validity = current.validity;
            validity.not_after.since(clock.now()) <= validity.lifetime() / 3
        })
    }

    fn log_outcome(&self, ordered: &Result<(), AcmeError>, pause: Duration) {
        let names = self.order.names.join(", ");
        match ordered {
            Ok(()) => tracing::info!(names, "a new certificate is in use"),
            Err(error) => {
                let seconds = pause.as_secs();
                tracing::error!(
                    names,
                    %error,
                    retry_in_seconds = seconds,
                    "cannot get a new certificate"
                );
            }
        }
    }
}

impl ResolvesServerCert for AcmeCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|name| name == ACME_PROTOCOL))
        {
            let challenges = self
                .challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            return challenges.get(hello.server_name()?).cloned();
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .map(|current| Arc::clone(&current.certified_key))
    }
}

impl fmt::Debug for AcmeCertificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AcmeCertificates")
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

fn load_stored(directory: &Path) -> Option<LoadedCertificate> {
    let (chain, key) = (directory.join(CHAIN_FILE), directory.join(KEY_FILE));
    if !chain.exists() {
        return None;
    }
    load(&chain, &key)
        .inspect_err(|error| {
            tracing::warn!(%error, "the stored certificate is not usable; a new one is ordered");
        })
        .ok()
}

/// Creates the certificate that responds to the challenge for a name (RFC 8737, section 3).
fn generate_challenge_certificate(
    name: &str,
    authorization: &KeyAuthorization,
) -> Result<Arc<CertifiedKey>, AcmeError> {
    let failed = |error: &dyn fmt::Display| AcmeError::Challenge(error.to_string());
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params =
        CertificateParams::new(vec![name.to_owned()]).map_err(|error| failed(&error))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(
        authorization.digest().as_ref(),
    )];
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| failed(&error))?;
    // Not `from_der`: it parses the certificate and refuses the critical extension of the
    // challenge.
    Ok(Arc::new(CertifiedKey::new(
        vec![certificate.der().clone()],
        key,
    )))
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    write_private(path, content).map_err(|source| AcmeError::Storage {
        path: path.to_owned(),
        source,
    })
}

/// HTTP client for the authority, whose own certificate has to be publicly trusted.
struct AuthorityClient(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl AuthorityClient {
    fn new() -> Result<Self, Error> {
        let connector =
            HttpsConnectorBuilder::new().with_provider_and_webpki_roots(ring::default_provider());
        let connector = connector.map_err(|error| Error::Other(Box::new(error)))?;
        let connector = connector
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let response = self.0.request(request);
        Box::pin(async move {
            let response = response
                .await
                .map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response))
        })
    }
}
