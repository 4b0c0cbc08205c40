//! The random source of a run, derived from one seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{CryptoRng, Rng as _, SeedableRng as _};
use sealpost_node::store::EntropySource;
use std::sync::{Arc, Mutex, PoisonError};

/// Seeded random stream; the same seed gives the same stream.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.next_u64() % end }
    }

    pub(crate) fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max - min + 1)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// Returns true with a probability of `per_mille` in a thousand.
    pub(crate) fn happens_per_mille(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Creates the random source of one node; each transaction gets a stream of its own.
    pub(crate) fn entropy(&mut self) -> EntropySource {
        let seeds = Mutex::new(ChaCha8Rng::seed_from_u64(self.next_u64()));
        Arc::new(move || {
            let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
            let stream: Box<dyn CryptoRng> = Box::new(ChaCha8Rng::seed_from_u64(seeds.next_u64()));
            stream
        })
    }
}
