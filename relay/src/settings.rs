//! Settings that the operator may change while the relay runs. A reload replaces them as a whole,
//! so that no reader sees a mixture of two versions.

use crate::{
    config::{Config, Egress},
    rates::RateLimiters,
};
use arc_swap::ArcSwap;
use sealpost_egress::{CallError, Client, Guard, IpRange, Limits};
use sealpost_proto::{limits::LEASE_DURATION, wire::RegistrationPolicy};
use sealpost_relay_core::Quotas;
use sealpost_service::{CaFileError, read_ca_file};
use sha2::{Digest as _, Sha256};
use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};
use subtle::ConstantTimeEq as _;
use url::Url;

/// Part of the configuration that takes effect without a restart.
pub(crate) struct Settings {
    pub(crate) registration: Registration,
    pub(crate) quotas: Quotas,
    /// Rate limits. A reload resets their counts.
    pub(crate) rate_limiters: RateLimiters,
    pub(crate) proxies: TrustedProxies,
    /// Page from which partners of the nodes can get Sealpost.
    pub(crate) download_url: Option<Url>,
    /// HTTP client for webhooks, with the SSRF guard.
    pub(crate) webhook_client: Client,
}

/// Error for settings that cannot take effect.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file with certificate authorities cannot be used.
    #[error("egress.ca_file: {0}")]
    CaFile(#[from] CaFileError),
    /// The page from which partners get Sealpost is none.
    #[error("download_url: {0:?} is not an http:// or https:// URL")]
    DownloadUrl(String),
    /// The HTTP client cannot be created.
    #[error(transparent)]
    Client(#[from] CallError),
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Result<Self, SettingsError> {
        Ok(Self {
            registration: Registration::new(
                config.registration.policy,
                &config.registration.tokens,
            ),
            quotas: (&config.quotas).into(),
            rate_limiters: RateLimiters::new((&config.rates).into()),
            download_url: parse_download_url(&config.download_url)?,
            proxies: TrustedProxies::new(config.rates.trusted_proxies.clone()),
            // Each call has a timeout of its own, which is shorter than its lease.
            webhook_client: create_client(
                &config.egress,
                Guard::new(config.egress.allow.clone()),
                LEASE_DURATION,
            )?,
        })
    }
}

fn parse_download_url(text: &str) -> Result<Option<Url>, SettingsError> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).ok();
    match url.filter(|url| matches!(url.scheme(), "http" | "https")) {
        Some(url) => Ok(Some(url)),
        None => Err(SettingsError::DownloadUrl(text.to_owned())),
    }
}

/// Creates an HTTP client that trusts the public certificate authorities and the configured ones.
pub(crate) fn create_client(
    egress: &Egress,
    guard: Guard,
    total_timeout: Duration,
) -> Result<Client, SettingsError> {
    let authorities = match egress.ca_file.as_str() {
        "" => Vec::new(),
        path => read_ca_file(Path::new(path))?,
    };
    let limits = Limits {
        total_timeout,
        ..Limits::default()
    };
    Ok(Client::with_authorities(guard, limits, &authorities)?)
}

/// Current settings, shared by all their readers and the reload.
#[derive(Clone)]
pub(crate) struct LiveSettings(Arc<ArcSwap<Settings>>);

impl LiveSettings {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// Returns the current settings. A caller that needs two of them loads them once.
    #[must_use]
    pub(crate) fn load(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

/// Address ranges of proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug, Clone)]
pub(crate) struct TrustedProxies(Vec<IpRange>);

impl TrustedProxies {
    #[must_use]
    pub(crate) const fn new(ranges: Vec<IpRange>) -> Self {
        Self(ranges)
    }

    #[must_use]
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0
            .iter()
            .any(|range| range.contains(address.to_canonical()))
    }
}

/// Registration policy and tokens of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) policy: RegistrationPolicy,
    /// SHA-256 of each token.
    tokens: Vec<[u8; 32]>,
}

impl Registration {
    #[must_use]
    pub(crate) fn new(policy: RegistrationPolicy, tokens: &[String]) -> Self {
        Self {
            policy,
            tokens: tokens
                .iter()
                .map(|token| Sha256::digest(token).into())
                .collect(),
        }
    }

    /// Returns whether the token is a valid one, in constant time.
    #[must_use]
    pub(crate) fn is_valid(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return false };
        let digest = Sha256::digest(token);
        self.tokens.iter().fold(false, |any, valid| {
            any | bool::from(valid.ct_eq(digest.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_url_must_be_a_web_page() {
        for text in ["javascript:alert(1)", "relay.example", "file:///etc/passwd"] {
            let refused = parse_download_url(text);
            assert!(
                matches!(refused, Err(SettingsError::DownloadUrl(_))),
                "{text}"
            );
        }
        assert!(parse_download_url("").unwrap().is_none());
        assert!(
            parse_download_url("https://a.example/b?c=d")
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn only_configured_tokens_are_valid() {
        let registration = Registration::new(
            RegistrationPolicy::Token,
            &["one".to_owned(), "two".to_owned()],
        );
        assert!(registration.is_valid(Some("one")) && registration.is_valid(Some("two")));
        assert!(
            !registration.is_valid(Some("three"))
                && !registration.is_valid(Some(""))
                && !registration.is_valid(None)
        );
    }
}
