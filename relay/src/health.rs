//! Whether the relay can do its work, as `/readyz` tells.

use crate::store::StoreError;
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Whether the relay can do its work.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    readiness: Readiness,
    /// Why nothing new is taken though the store commits.
    storage_low: Option<String>,
}

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
    /// Finishing what was accepted, and nothing new: the disk has too little room.
    StorageLow {
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
            Self::StorageLow { reason } => write!(f, "nothing new is taken: {reason}"),
            Self::StoreFails { reason } => write!(f, "the store does not commit: {reason}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(State {
            readiness: Readiness::Starting,
            storage_low: None,
        }))
    }
}

impl Health {
    /// What the relay is ready for.
    #[must_use]
    pub(crate) fn readiness(&self) -> Readiness {
        let State {
            readiness,
            storage_low,
        } = &*self.lock();
        match (readiness, storage_low) {
            (Readiness::Ready, Some(reason)) => Readiness::StorageLow {
                reason: reason.clone(),
            },
            (readiness, _) => readiness.clone(),
        }
    }

    /// Why the disk has too little room for new work, if it has.
    pub(crate) fn storage(&self, low: Option<String>) {
        let mut state = self.lock();
        match (&state.storage_low, &low) {
            (None, Some(reason)) => tracing::error!(reason, "nothing new is taken"),
            (Some(_), None) => tracing::info!("the disk has room again: new work is taken"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        state.storage_low = low;
    }

    /// A commit failed.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        let failing = Readiness::StoreFails {
            reason: error.to_string(),
        };
        self.change(|now| match now {
            Readiness::Starting | Readiness::Ready => {
                tracing::error!(reason = %error, "the store does not commit");
                Some(failing)
            }
            Readiness::StoreFails { .. } | Readiness::StorageLow { .. } | Readiness::Stopping => {
                None
            }
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
            Readiness::Ready | Readiness::StorageLow { .. } | Readiness::Stopping => None,
        });
    }

    /// The relay stops.
    pub(crate) fn stop(&self) {
        self.change(|_| Some(Readiness::Stopping));
    }

    fn change(&self, next: impl FnOnce(&Readiness) -> Option<Readiness>) {
        let mut state = self.lock();
        if let Some(changed) = next(&state.readiness) {
            state.readiness = changed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(
            health.readiness(),
            Readiness::StoreFails {
                reason: "the disk is full".to_owned()
            }
        );
        health.store_works();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.storage(Some("10 bytes are free".to_owned()));
        assert_eq!(
            health.readiness(),
            Readiness::StorageLow {
                reason: "10 bytes are free".to_owned()
            }
        );
        health.store_works();
        assert!(
            matches!(health.readiness(), Readiness::StorageLow { .. }),
            "a commit makes no room"
        );
        health.storage(None);
        assert_eq!(health.readiness(), Readiness::Ready);
        health.stop();
        health.store_works();
        assert_eq!(health.readiness(), Readiness::Stopping);
    }
}
