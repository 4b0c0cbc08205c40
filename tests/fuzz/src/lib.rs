//! Deterministic mutation fuzzing for every parser: test vectors and a few hand-written seeds,
//! mutated at random with a fixed seed.
//!
//! This crate is independent of the formats. Start reading at [`fuzz_inputs`]; the parsers and
//! their properties are in `tests/`.

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use rand_core::Rng as _;
use std::io::Write as _;

/// Limit on the mutations of one input.
const MUTATIONS_MAX: usize = 4;
/// Limit on the bytes that one extension adds.
const EXTENSION_BYTES_MAX: usize = 64;

/// Input for a parser.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The bytes of the input.
    pub bytes: &'a [u8],
    /// Whether the input is an unchanged seed; every other input differs from all seeds.
    pub is_seed: bool,
}

/// Calls `check` with every seed and then with `count` mutated inputs. The same seeds give the same
/// inputs. If `check` panics, the input is printed on standard error in hexadecimal.
///
/// # Panics
/// When `check` panics.
pub fn fuzz_inputs(seeds: &[Vec<u8>], count: u32, mut check: impl FnMut(Case<'_>)) {
    let mut check_input = |bytes: &[u8], is_seed| {
        let reporter = FailureReporter(bytes);
        check(Case { bytes, is_seed });
        drop(reporter);
    };
    seeds.iter().for_each(|seed| check_input(seed, true));
    let mut mutator = Mutator(ChaCha20Rng::seed_from_u64(seeds.len() as u64));
    for _ in 0..count {
        let mutated = mutator.mutate(seeds);
        if !seeds.contains(&mutated) {
            check_input(&mutated, false);
        }
    }
}

/// Reports the input at which a test failed.
struct FailureReporter<'a>(&'a [u8]);

impl Drop for FailureReporter<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(std::io::stderr(), "the input was {hex}");
        }
    }
}

struct Mutator(ChaCha20Rng);

impl Mutator {
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick_seed(seeds).to_vec();
        for _ in 0..=self.at_most(MUTATIONS_MAX - 1) {
            match self.at_most(5) {
                0 => self.flip_bit(&mut bytes),
                1 => bytes.truncate(self.at_most(bytes.len())),
                2 => self.extend(&mut bytes),
                3 => self.splice(&mut bytes, seeds),
                4 => self.overwrite_with_boundary_value(&mut bytes),
                _ => self.overwrite(&mut bytes),
            }
        }
        bytes
    }

    /// Returns a number from 0 to `max`, inclusive.
    fn at_most(&mut self, max: usize) -> usize {
        let value = self.0.next_u64() % (max as u64 + 1);
        usize::try_from(value).unwrap_or(max)
    }

    fn pick_seed<'s>(&mut self, seeds: &'s [Vec<u8>]) -> &'s [u8] {
        let at = self.at_most(seeds.len().saturating_sub(1));
        seeds.get(at).map_or(&[], Vec::as_slice)
    }

    /// Returns a random range within `len` bytes.
    fn random_range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.at_most(len);
        let end = start + self.at_most((len - start).min(EXTENSION_BYTES_MAX));
        start..end
    }

    fn flip_bit(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let bit = self.at_most(bytes.len() * 8 - 1);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    fn extend(&mut self, bytes: &mut Vec<u8>) {
        let mut more = vec![0; self.at_most(EXTENSION_BYTES_MAX)];
        self.0.fill_bytes(&mut more);
        bytes.extend(more);
    }

    /// Replaces a range with a range of another seed.
    fn splice(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let donor = self.pick_seed(seeds);
        let (from, to) = (
            self.random_range(donor.len()),
            self.random_range(bytes.len()),
        );
        bytes.splice(to, donor[from].iter().copied());
    }

    /// Overwrites some bytes with a boundary value, as if they were a length, a count or a version.
    fn overwrite_with_boundary_value(&mut self, bytes: &mut [u8]) {
        let width = [1, 2, 4, 8][self.at_most(3)];
        if bytes.len() < width {
            return;
        }
        let at = self.at_most(bytes.len() - width);
        let len = bytes.len() as u64;
        let boundaries = [
            0,
            1,
            len,
            len.wrapping_sub(1),
            len + 1,
            1 << 31,
            u64::MAX >> 1,
            u64::MAX,
            self.0.next_u64() % 256,
        ];
        let boundary = boundaries[self.at_most(boundaries.len() - 1)].to_be_bytes();
        bytes[at..at + width].copy_from_slice(&boundary[8 - width..]);
    }

    fn overwrite(&mut self, bytes: &mut [u8]) {
        let range = self.random_range(bytes.len());
        self.0.fill_bytes(&mut bytes[range]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut inputs = Vec::new();
        fuzz_inputs(seeds, 2_000, |case| inputs.push(case.bytes.to_vec()));
        inputs
    }

    #[test]
    fn same_seeds_give_the_same_varied_inputs() {
        let seeds = [
            b"a first seed, of some length".to_vec(),
            b"another".to_vec(),
            Vec::new(),
        ];
        let one = inputs(&seeds);
        assert_eq!(one, inputs(&seeds));
        let distinct: std::collections::BTreeSet<_> = one.iter().collect();
        assert!(distinct.len() > 1_000, "{}", distinct.len());
        assert!(one.iter().any(|input| input.len() > 60) && one.iter().any(Vec::is_empty));
    }

    #[test]
    fn only_unchanged_seeds_are_marked() {
        let seeds = [vec![0], vec![1]];
        fuzz_inputs(&seeds, 2_000, |case| {
            assert_eq!(case.is_seed, seeds.iter().any(|seed| seed == case.bytes))
        });
    }
}
