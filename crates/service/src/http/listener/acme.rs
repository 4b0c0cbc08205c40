//! A certificate that the listener gets by itself, by ACME (RFC 8555) with the challenge TLS-ALPN-01 (RFC 8737): the
//! authority connects to port 443 of each name and is shown a certificate that answers it.
//!
//! The account, the chain and its key are files of one private folder, so that a restart asks for nothing.

use super::certificate::{CertificateError, CertificateFiles, Good, Validity, read};
use crate::{Clock, SharedClock, Shutdown};
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
use sealpost_proto::limits::{ACME_LOOK_INTERVAL, ACME_RETRY_FIRST, ACME_RETRY_MAX, ACME_WAIT_MAX};
use std::{
    collections::HashMap,
    fmt,
    fs::{DirBuilder, File, OpenOptions, rename},
    future::Future,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::sleep;

/// The protocol by which an authority asks.
pub(super) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";
const ACCOUNT: &str = "account.json";
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";

/// What is wanted of which authority.
#[derive(Debug, Clone)]
pub struct AcmeOrder {
    /// Names that the certificate is for.
    pub names: Vec<String>,
    /// Whom the authority may write to, for example `mailto:ops@relay.example`.
    pub contact: Vec<String>,
    /// The authority's directory. Its terms of service are agreed to by ordering.
    pub directory: String,
    /// Where account, chain and key are kept.
    pub folder: PathBuf,
}

impl AcmeOrder {
    /// The certificate that was given last, for whoever only looks; `None` before the first one.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn kept(&self) -> Result<Option<Arc<CertificateFiles>>, CertificateError> {
        let (chain, key) = (self.folder.join(CHAIN), self.folder.join(KEY));
        chain
            .exists()
            .then(|| CertificateFiles::open(&chain, &key))
            .transpose()
    }
}

/// The certificate that an authority gives, and the answers to its challenges.
pub struct AcmeCertificates {
    order: AcmeOrder,
    good: RwLock<Option<Good>>,
    answers: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority says no, or cannot be asked.
    #[error("the certificate authority: {0}")]
    Authority(#[from] Error),
    /// It could not convince itself that a name is ours.
    #[error(
        "the certificate authority did not find this relay behind {names}: is port 443 of that name this listener?"
    )]
    NotConvinced {
        /// As they were ordered.
        names: String,
    },
    /// A challenge cannot be answered.
    #[error("a challenge cannot be answered: {0}")]
    Challenge(String),
    /// The folder.
    #[error("{} cannot be used: {source}", path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was given is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl AcmeCertificates {
    /// Takes what the folder has, which it makes (mode 0700) when there is none. Nobody is asked yet.
    ///
    /// # Errors
    /// [`AcmeError::Folder`].
    pub fn open(order: AcmeOrder) -> Result<Arc<Self>, AcmeError> {
        let path = &order.folder;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| AcmeError::Folder {
            path: path.clone(),
            source,
        })?;
        let good = RwLock::new(stored(path));
        Ok(Arc::new(Self {
            order,
            good,
            answers: Mutex::default(),
        }))
    }

    /// When the certificate that is served is good; `None` before the first one.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.good
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|good| good.validity)
    }

    /// Orders a certificate when there is none or a third of its life is left, until the shutdown.
    pub async fn run(self: Arc<Self>, clock: SharedClock, shutdown: Shutdown) {
        let mut pause = ACME_RETRY_FIRST;
        loop {
            let mut wait = ACME_LOOK_INTERVAL;
            if self.is_due(clock.as_ref()) {
                let ordered = tokio::select! {
                    ordered = self.obtain() => ordered,
                    () = shutdown.triggered() => return,
                };
                self.tell(&ordered, pause);
                (wait, pause) = match ordered {
                    Ok(()) => (ACME_LOOK_INTERVAL, ACME_RETRY_FIRST),
                    Err(_) => (pause, (pause * 2).min(ACME_RETRY_MAX)),
                };
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.triggered() => return,
            }
        }
    }

    /// Orders a certificate now and serves it.
    ///
    /// # Errors
    /// [`AcmeError`]; what was served before still is.
    pub async fn obtain(&self) -> Result<(), AcmeError> {
        let account = self.account().await?;
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
            let answer = answer(&name, &challenge.key_authorization())?;
            self.answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name, answer);
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::default().timeout(ACME_WAIT_MAX);
        let ready = order.poll_ready(&patience).await;
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if ready? != OrderStatus::Ready {
            return Err(AcmeError::NotConvinced {
                names: self.order.names.join(", "),
            });
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patience).await?;
        self.keep(&chain, &key)
    }

    /// The key first: a chain without its key is not found good after a crash, and ordered again.
    fn keep(&self, chain: &str, key: &str) -> Result<(), AcmeError> {
        let folder = &self.order.folder;
        write_private(&folder.join(KEY), key.as_bytes())?;
        write_private(&folder.join(CHAIN), chain.as_bytes())?;
        let good = read(&folder.join(CHAIN), &folder.join(KEY))?;
        *self.good.write().unwrap_or_else(PoisonError::into_inner) = Some(good);
        Ok(())
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let path = self.order.folder.join(ACCOUNT);
        let builder = Account::builder_with_http(Box::new(Http::new()?));
        let kept = std::fs::read(&path)
            .ok()
            .and_then(|kept| serde_json::from_slice::<AccountCredentials>(&kept).ok());
        if let Some(credentials) = kept {
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
        let kept = serde_json::to_vec(&credentials).map_err(io::Error::other);
        let kept = kept.map_err(|source| AcmeError::Folder {
            path: path.clone(),
            source,
        })?;
        write_private(&path, &kept)?;
        Ok(account)
    }

    pub(super) fn is_due(&self, clock: &dyn Clock) -> bool {
        let good = self.good.read().unwrap_or_else(PoisonError::into_inner);
        good.as_ref().is_none_or(|good| {
            good.validity.not_after.since(clock.now()) <= good.validity.life() / 3
        })
    }

    fn tell(&self, ordered: &Result<(), AcmeError>, pause: Duration) {
        let names = self.order.names.join(", ");
        match ordered {
            Ok(()) => tracing::info!(names, "a new certificate is served"),
            Err(error) => {
                let seconds = pause.as_secs();
                tracing::error!(names, %error, again_in_seconds = seconds, "there is no new certificate");
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
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            return answers.get(hello.server_name()?).cloned();
        }
        let good = self.good.read().unwrap_or_else(PoisonError::into_inner);
        good.as_ref().map(|good| Arc::clone(&good.served))
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

fn stored(folder: &Path) -> Option<Good> {
    let (chain, key) = (folder.join(CHAIN), folder.join(KEY));
    if !chain.exists() {
        return None;
    }
    read(&chain, &key)
        .inspect_err(|error| tracing::warn!(%error, "a new certificate is ordered"))
        .ok()
}

/// The certificate that answers the challenge for a name (RFC 8737, section 3).
fn answer(name: &str, authorization: &KeyAuthorization) -> Result<Arc<CertifiedKey>, AcmeError> {
    let odd = |error: &dyn fmt::Display| AcmeError::Challenge(error.to_string());
    let key = KeyPair::generate().map_err(|error| odd(&error))?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|error| odd(&error))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(
        authorization.digest().as_ref(),
    )];
    let certificate = params.self_signed(&key).map_err(|error| odd(&error))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| odd(&error))?;
    // Not `from_der`: it reads the certificate and refuses the critical extension that is the answer.
    Ok(Arc::new(CertifiedKey::new(
        vec![certificate.der().clone()],
        key,
    )))
}

/// Whole or not at all, and for nobody else to read.
fn write_private(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let next = path.with_extension("new");
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(content)?;
        file.sync_all()?;
        rename(&next, path)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(|source| AcmeError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Asks the authority, whose own certificate has to be one that browsers trust.
struct Http(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Http {
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

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let asked = self.0.request(request);
        Box::pin(async move {
            let answered = asked.await.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(answered))
        })
    }
}
