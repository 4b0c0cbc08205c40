//! Readiness of the relay, as `/readyz` reports it.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Readiness of the relay, shared by all parts that affect it.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    readiness: Readiness,
    /// Why new work is refused although the store commits.
    storage_low: Option<String>,
}

/// Readiness of the relay. Reasons are messages for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Starting,
    Ready,
    /// The store does not commit. The sweeper retries every few seconds.
    StoreFailing {
        reason: String,
    },
    /// The disk has too little free space: accepted items are finished, new work is refused.
    StorageLow {
        reason: String,
    },
    Stopping,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::StorageLow { reason } => write!(f, "new work is refused: {reason}"),
            Self::StoreFailing { reason } => write!(f, "the store does not commit: {reason}"),
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

    /// Records why the disk has too little free space for new work, or that it has enough again.
    pub(crate) fn set_storage_low(&self, low: Option<String>) {
        let mut state = self.lock();
        match (&state.storage_low, &low) {
            (None, Some(reason)) => {
                tracing::error!(reason, "new work is refused: the disk is almost full")
            }
            (Some(_), None) => {
                tracing::info!("the disk has free space again: new work is accepted")
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        state.storage_low = low;
    }

    pub(crate) fn record_store_failure(&self, reason: &str) {
        let failing = Readiness::StoreFailing {
            reason: reason.to_owned(),
        };
        self.change(|now| match now {
            Readiness::Starting | Readiness::Ready => {
                tracing::error!(reason, "the store does not commit");
                Some(failing)
            }
            Readiness::StoreFailing { .. } | Readiness::StorageLow { .. } | Readiness::Stopping => {
                None
            }
        });
    }

    pub(crate) fn record_store_commit(&self) {
        self.change(|now| match now {
            Readiness::Starting => Some(Readiness::Ready),
            Readiness::StoreFailing { .. } => {
                tracing::info!("the store commits again");
                Some(Readiness::Ready)
            }
            Readiness::Ready | Readiness::StorageLow { .. } | Readiness::Stopping => None,
        });
    }

    pub(crate) fn set_stopping(&self) {
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
    fn readiness_follows_the_store_and_the_disk() {
        let health = Health::default();
        assert_eq!(health.readiness(), Readiness::Starting);
        health.record_store_commit();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.record_store_failure("the disk is full");
        assert_eq!(
            health.readiness(),
            Readiness::StoreFailing {
                reason: "the disk is full".to_owned()
            }
        );
        health.record_store_commit();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.set_storage_low(Some("10 bytes are free".to_owned()));
        assert_eq!(
            health.readiness(),
            Readiness::StorageLow {
                reason: "10 bytes are free".to_owned()
            }
        );
        health.record_store_commit();
        assert!(
            matches!(health.readiness(), Readiness::StorageLow { .. }),
            "a commit frees no space"
        );
        health.set_storage_low(None);
        assert_eq!(health.readiness(), Readiness::Ready);
        health.set_stopping();
        health.record_store_commit();
        assert_eq!(health.readiness(), Readiness::Stopping);
    }
}
