//! Progress of one file whose parts are transferred in parallel.

use crate::{
    progress::{Progress, RunningTransfer},
    store::files::StoredFile,
};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{BlobSize, limits::BLOB_PARTS_MAX};
use sealpost_relay_client::ProgressCallback;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Byte counters of all parts, which publish the total to [`Progress`].
pub(super) struct Meter(Mutex<Counters>);

struct Counters {
    parts: [u64; BLOB_PARTS_MAX as usize],
    published: Option<RunningTransfer>,
}

impl Meter {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Counters {
            parts: [0; BLOB_PARTS_MAX as usize],
            published: None,
        }))
    }

    /// Publishes the progress of a file from now on, until the meter is dropped. The parts in
    /// `present` count as transferred.
    pub(super) fn start(
        &self,
        progress: &Progress,
        file: &StoredFile,
        size: BlobSize,
        present: PartSet,
    ) {
        let mut counters = self.lock();
        for (number, bytes) in (0..).zip(&mut counters.parts) {
            *bytes = if present.contains(number) {
                size.part_bytes(number).unwrap_or_default() as u64
            } else {
                0
            };
        }
        counters.published = Some(progress.start(
            file.attachment,
            file.direction,
            counters.bytes(),
            size.bytes(),
        ));
    }

    /// Returns a callback for the transferred bytes of one part.
    pub(super) fn part(self: &Arc<Self>, number: u32) -> ProgressCallback {
        let meter = Arc::clone(self);
        Arc::new(move |bytes| {
            let mut counters = meter.lock();
            if let Some(part) = counters.parts.get_mut(number as usize) {
                *part = bytes as u64;
            }
            if let Some(published) = &counters.published {
                published.update(counters.bytes());
            }
        })
    }

    /// Returns the total of transferred bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    fn bytes(&self) -> u64 {
        self.parts.iter().sum()
    }
}
