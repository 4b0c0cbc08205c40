//! How far a file is, while its parts move beside each other.

use crate::{
    progress::{Moving, Progress},
    store::attachments::Attachment,
};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{BlobSize, limits::BLOB_PARTS_MAX};
use sealpost_relay_client::Moved;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the bytes of each part, and tells those who watch.
pub(super) struct Meter(Mutex<Course>);

struct Course {
    parts: [u64; BLOB_PARTS_MAX as usize],
    moving: Option<Moving>,
}

impl Meter {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Course {
            parts: [0; BLOB_PARTS_MAX as usize],
            moving: None,
        }))
    }

    /// These parts are there; from now on the others move, until the meter is dropped.
    pub(super) fn begin(
        &self,
        progress: &Progress,
        file: &Attachment,
        size: BlobSize,
        there: PartSet,
    ) {
        let mut course = self.lock();
        for (number, bytes) in (0..).zip(&mut course.parts) {
            *bytes = if there.contains(number) {
                size.part_bytes(number).unwrap_or_default() as u64
            } else {
                0
            };
        }
        course.moving =
            Some(progress.begin(&file.name, file.direction, course.bytes(), size.bytes()));
    }

    /// What is to be told how far part `number` is.
    pub(super) fn part(self: &Arc<Self>, number: u32) -> Moved {
        let meter = Arc::clone(self);
        Arc::new(move |bytes| {
            let mut course = meter.lock();
            if let Some(part) = course.parts.get_mut(number as usize) {
                *part = bytes as u64;
            }
            if let Some(moving) = &course.moving {
                moving.moved(course.bytes());
            }
        })
    }

    /// All bytes that have moved.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn bytes(&self) -> u64 {
        self.parts.iter().sum()
    }
}
