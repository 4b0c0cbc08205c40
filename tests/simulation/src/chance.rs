//! All that is left to chance, from one seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{CryptoRng, Rng as _, SeedableRng as _};
use sealpost_node::store::DrawEntropy;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream of chance; the same seed gives the same stream.
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// 0 to `end`, exclusive; 0 when there is nothing to choose from.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.next_u64() % end }
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// Happens so many times in a thousand.
    pub(crate) fn happens(&mut self, in_thousand: u64) -> bool {
        self.below(1_000) < in_thousand
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// The random source of one node: each transaction draws from a stream of its own.
    pub(crate) fn entropy(&mut self) -> DrawEntropy {
        let seeds = Mutex::new(ChaCha8Rng::seed_from_u64(self.number()));
        Arc::new(move || {
            let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
            let stream: Box<dyn CryptoRng> = Box::new(ChaCha8Rng::seed_from_u64(seeds.next_u64()));
            stream
        })
    }
}
