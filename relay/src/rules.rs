//! What the operator may change while the relay runs. It is replaced as a whole, so that nobody sees half of two versions.

use crate::{
    config::Config,
    rates::{Meters, TrustedProxies},
};
use sealpost_egress::{CallError, Client, Guard, Limits};
use sealpost_proto::wire::RegistrationPolicy;
use sealpost_relay_core::Quotas;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The part of the configuration that can be changed without a restart, ready to use.
pub(crate) struct Rules {
    /// Who may register.
    pub(crate) registration: Registration,
    /// How much one account or mailbox may hold.
    pub(crate) quotas: Quotas,
    /// Counts how often it is asked; new rules begin to count anew.
    pub(crate) meters: Meters,
    /// Whom it believes where a request came from.
    pub(crate) proxies: TrustedProxies,
    /// Calls webhooks, as far as they may be called.
    pub(crate) client: Client,
}

impl Rules {
    /// The rules of a configuration.
    ///
    /// # Errors
    /// [`CallError`] when webhooks could not be called.
    pub(crate) fn new(config: &Config) -> Result<Self, CallError> {
        Ok(Self {
            registration: Registration::new(
                config.registration.policy,
                &config.registration.tokens,
            ),
            quotas: (&config.quotas).into(),
            meters: Meters::new((&config.rates).into()),
            proxies: TrustedProxies::new(config.rates.trusted_proxies.clone()),
            client: Client::new(Guard::new(config.egress.allow.clone()), Limits::default())?,
        })
    }
}

/// Who may register.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// The policy.
    pub(crate) policy: RegistrationPolicy,
    tokens: Vec<[u8; 32]>,
}

impl Registration {
    /// A policy and the tokens that are good, of which only the digests are kept.
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

    /// Whether the token is one of the good ones, in constant time.
    #[must_use]
    pub(crate) fn is_good(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return false };
        let digest = Sha256::digest(token);
        self.tokens.iter().fold(false, |any, good| {
            any | bool::from(good.ct_eq(digest.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_operators_tokens_are_good() {
        let registration = Registration::new(
            RegistrationPolicy::Token,
            &["one".to_owned(), "two".to_owned()],
        );
        assert!(registration.is_good(Some("one")) && registration.is_good(Some("two")));
        assert!(
            !registration.is_good(Some("three"))
                && !registration.is_good(Some(""))
                && !registration.is_good(None)
        );
    }
}
