//! Damaged inputs for every parser: the vectors and a few hand-made seeds, changed at random, always the same way.
//!
//! Nothing here knows a format. Start reading at [`bombard`]; the parsers and what each must hold stand in `tests/`.

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use rand_core::Rng as _;
use std::io::Write as _;

/// Changes made to one input at most.
const CHANGES_MAX: usize = 4;
/// Bytes that one extension adds at most.
const EXTENSION_BYTES_MAX: usize = 64;

/// One input for a parser.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The input.
    pub bytes: &'a [u8],
    /// Whether it is a seed as it stands; all others differ from every seed.
    pub is_seed: bool,
}

/// Shows `check` every seed, then `count` damaged ones. The same seeds give the same inputs. An input at which `check`
/// panics is written to standard error as hexadecimal.
///
/// # Panics
/// When `check` does.
pub fn bombard(seeds: &[Vec<u8>], count: u32, mut check: impl FnMut(Case<'_>)) {
    let mut show = |bytes: &[u8], is_seed| {
        let witness = Witness(bytes);
        check(Case { bytes, is_seed });
        drop(witness);
    };
    seeds.iter().for_each(|seed| show(seed, true));
    let mut mutator = Mutator(ChaCha20Rng::seed_from_u64(seeds.len() as u64));
    for _ in 0..count {
        let damaged = mutator.damage(seeds);
        if !seeds.contains(&damaged) {
            show(&damaged, false);
        }
    }
}

/// Tells which input a test failed at.
struct Witness<'a>(&'a [u8]);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(std::io::stderr(), "the input was {hex}");
        }
    }
}

struct Mutator(ChaCha20Rng);

impl Mutator {
    fn damage(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).to_vec();
        for _ in 0..=self.below(CHANGES_MAX - 1) {
            match self.below(5) {
                0 => self.flip(&mut bytes),
                1 => bytes.truncate(self.below(bytes.len())),
                2 => self.extend(&mut bytes),
                3 => self.splice(&mut bytes, seeds),
                4 => self.count_wrong(&mut bytes),
                _ => self.overwrite(&mut bytes),
            }
        }
        bytes
    }

    /// A number from 0 to `max`, both included.
    fn below(&mut self, max: usize) -> usize {
        let drawn = self.0.next_u64() % (max as u64 + 1);
        usize::try_from(drawn).unwrap_or(max)
    }

    fn pick<'s>(&mut self, seeds: &'s [Vec<u8>]) -> &'s [u8] {
        let at = self.below(seeds.len().saturating_sub(1));
        seeds.get(at).map_or(&[], Vec::as_slice)
    }

    /// The bounds of a piece of `len` bytes or less.
    fn piece(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let end = start + self.below((len - start).min(EXTENSION_BYTES_MAX));
        start..end
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let bit = self.below(bytes.len() * 8 - 1);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    fn extend(&mut self, bytes: &mut Vec<u8>) {
        let mut more = vec![0; self.below(EXTENSION_BYTES_MAX)];
        self.0.fill_bytes(&mut more);
        bytes.extend(more);
    }

    /// Puts a piece of one seed where another piece was.
    fn splice(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let donor = self.pick(seeds);
        let (from, to) = (self.piece(donor.len()), self.piece(bytes.len()));
        bytes.splice(to, donor[from].iter().copied());
    }

    /// Takes some bytes for a number, as lengths, counts and versions are written, and puts an edge of numbers there.
    fn count_wrong(&mut self, bytes: &mut [u8]) {
        let width = [1, 2, 4, 8][self.below(3)];
        if bytes.len() < width {
            return;
        }
        let at = self.below(bytes.len() - width);
        let len = bytes.len() as u64;
        let edges = [
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
        let edge = edges[self.below(edges.len() - 1)].to_be_bytes();
        bytes[at..at + width].copy_from_slice(&edge[8 - width..]);
    }

    fn overwrite(&mut self, bytes: &mut [u8]) {
        let piece = self.piece(bytes.len());
        self.0.fill_bytes(&mut bytes[piece]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut inputs = Vec::new();
        bombard(seeds, 2_000, |case| inputs.push(case.bytes.to_vec()));
        inputs
    }

    #[test]
    fn the_same_seeds_give_the_same_inputs_and_many_different_ones() {
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
    fn only_seeds_are_called_seeds() {
        let seeds = [vec![0], vec![1]];
        bombard(&seeds, 2_000, |case| {
            assert_eq!(case.is_seed, seeds.iter().any(|seed| seed == case.bytes))
        });
    }
}
