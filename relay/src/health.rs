//! Whether the relay can do its work, as `/readyz` tells.

use crate::store::StoreError;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Whether the relay can do its work.
#[derive(Debug)]
pub(crate) struct Health(Mutex<Readiness>);

/// What the relay is ready for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Not yet.
    Starting,
    /// Everything.
    Ready,
    /// The store does not commit; it is tried again every few seconds.
    StoreFails {
        /// In words for the operator.
        reason: String,
    },
    /// Nothing new.
    Stopping,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::StoreFails { reason } => write!(f, "the store does not commit: {reason}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(Readiness::Starting))
    }
}

impl Health {
    /// What the relay is ready for.
    #[must_use]
    pub(crate) fn readiness(&self) -> Readiness {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A commit failed.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        let failing = Readiness::StoreFails { reason: error.to_string() };
        self.change(|now| match now {
            Readiness::Starting | Readiness::Ready => {
                tracing::error!(reason = %error, "the store does not commit");
                Some(failing)
            }
            Readiness::StoreFails { .. } | Readiness::Stopping => None,
        });
    }

    /// A commit succeeded.
    pub(crate) fn store_works(&self) {
        self.change(|now| match now {
            Readiness::Starting => Some(Readiness::Ready),
            Readiness::StoreFails { .. } => {
                tracing::info!("the store commits again");
                Some(Readiness::Ready)
            }
            Readiness::Ready | Readiness::Stopping => None,
        });
    }

    /// The relay stops.
    pub(crate) fn stop(&self) {
        self.change(|_| Some(Readiness::Stopping));
    }

    fn change(&self, next: impl FnOnce(&Readiness) -> Option<Readiness>) {
        let mut readiness = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = next(&readiness) {
            *readiness = changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_turns_red_and_green_again_by_itself() {
        let health = Health::default();
        assert_eq!(health.readiness(), Readiness::Starting);
        health.store_works();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.store_failed(&StoreError::DiskFull);
        assert_eq!(health.readiness(), Readiness::StoreFails { reason: "the disk is full".to_owned() });
        health.store_works();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.stop();
        health.store_works();
        assert_eq!(health.readiness(), Readiness::Stopping);
    }
}
