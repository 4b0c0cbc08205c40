//! Compares attachments with their primitives in one run: `cargo bench -p sealpost-e2ee --bench
//! stream`.
//!
//! The last lines are ratios: 1.00 means that all time is spent in the primitives in brackets.

#![expect(
    clippy::print_stdout,
    reason = "the ratios are what this program is for"
)]
#![expect(
    clippy::expect_used,
    reason = "a benchmark of something that fails measures nothing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the system clock"
)]

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce as PureNonce};
use criterion::{Criterion, Throughput};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sealpost_e2ee::attachment::{
    BlobOpener, BlobSalt, BlobSealer, ChunkPosition, FileKey, PayloadCipher, SealStep, Sealed,
    SealedPart,
};
use sealpost_proto::limits::CHUNK_BYTES;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

const KEY: [u8; 32] = [7; 32];
/// 32 MiB: sixteen parts, and a length that Padmé does not change.
const FILE_BYTES: usize = 32 * 1024 * 1024;
const ROUNDS: usize = 15;

fn main() {
    let criterion = Criterion::default().configure_from_args();
    let criterion = criterion
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let mut criterion = criterion.sample_size(20);
    let mut comparisons = comparisons();
    for comparison in &mut comparisons {
        let mut group = criterion.benchmark_group("stream");
        group.throughput(Throughput::Bytes(comparison.bytes as u64));
        group.bench_function(comparison.name, |bencher| {
            bencher.iter(|| (comparison.run)())
        });
        group.finish();
    }
    criterion.final_summary();
    print_ratios(&mut comparisons);
}

/// One benchmark: an operation, and how many bytes it processes.
struct Comparison {
    name: &'static str,
    bytes: usize,
    run: Box<dyn FnMut()>,
}

impl Comparison {
    fn new(name: &'static str, bytes: usize, run: impl FnMut() + 'static) -> Self {
        Self {
            name,
            bytes,
            run: Box::new(run),
        }
    }

    /// Returns the seconds per byte, over at least one file's worth of bytes.
    fn time(&mut self) -> f64 {
        let times = FILE_BYTES.div_ceil(self.bytes);
        let start = Instant::now();
        (0..times).for_each(|_| (self.run)());
        start.elapsed().as_secs_f64() / (times * self.bytes) as f64
    }
}

/// Measures all benchmarks in turn, round after round, so that other load on the machine affects
/// all alike. Prints the median of each round's ratios.
fn print_ratios(comparisons: &mut [Comparison]) {
    let rounds: Vec<BTreeMap<_, _>> = (0..ROUNDS)
        .map(|_| {
            comparisons
                .iter_mut()
                .map(|comparison| (comparison.name, comparison.time()))
                .collect()
        })
        .collect();
    for (name, primitives) in [
        ("chunk/seal", &["raw/ring seal"][..]),
        ("chunk/open", &["raw/ring open"]),
        ("file/seal", &["raw/ring seal", "raw/sha256"]),
        ("file/open", &["raw/ring open", "raw/sha256"]),
        ("raw/pure-Rust seal", &["raw/ring seal"]),
    ] {
        let bound = |round: &BTreeMap<_, f64>| {
            primitives
                .iter()
                .map(|primitive| round[primitive])
                .sum::<f64>()
        };
        let ratio = median(rounds.iter().map(|round| bound(round) / round[name]));
        let rate = 1e-6 / median(rounds.iter().map(|round| round[name]));
        println!(
            "ratio {name} / ({}): {ratio:.3} ({rate:.0} MB/s)",
            primitives.join(" and ")
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn comparisons() -> Vec<Comparison> {
    let raw = || LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &KEY).expect("32 bytes"));
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let pure = ChaCha20Poly1305::new(&KEY.into());
    let (seal_raw, open_raw) = (raw(), raw());
    let (seal_chunk, open_chunk) = (PayloadCipher::new(&KEY), PayloadCipher::new(&KEY));
    let [mut a, mut b, mut c, mut d, mut e] = [(); 5].map(|()| vec![1_u8; CHUNK_BYTES]);

    // Opening in place needs the same ciphertext every time, so both figures include the copy.
    let mut sealed = vec![1_u8; CHUNK_BYTES];
    let tag = open_chunk.seal(0, ChunkPosition::Inner, &mut sealed);
    let sealed_copy = sealed.clone();
    let hashed = sealed.clone();
    let file: Rc<[u8]> = (1..=251).cycle().take(FILE_BYTES).collect();
    vec![
        Comparison::new("raw/ring seal", CHUNK_BYTES, move || {
            let tag = seal_raw.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut a);
            black_box(tag.expect("short").as_ref());
        }),
        Comparison::new("chunk/seal", CHUNK_BYTES, move || {
            black_box(seal_chunk.seal(1, ChunkPosition::Inner, &mut b));
        }),
        Comparison::new("raw/ring open", CHUNK_BYTES, move || {
            c.copy_from_slice(&sealed);
            let opened =
                open_raw.open_in_place_separate_tag(nonce(), Aad::empty(), tag.into(), &mut c, 0..);
            black_box(opened.expect("sealed"));
        }),
        Comparison::new("chunk/open", CHUNK_BYTES, move || {
            d.copy_from_slice(&sealed_copy);
            open_chunk
                .open(0, ChunkPosition::Inner, &mut d, tag)
                .expect("sealed");
        }),
        Comparison::new("raw/pure-Rust seal", CHUNK_BYTES, move || {
            let buffer = e.as_mut_slice().into();
            black_box(
                pure.encrypt_inout_detached(&PureNonce::from([0; 12]), b"", buffer)
                    .expect("short"),
            );
        }),
        Comparison::new("raw/sha256", CHUNK_BYTES, move || {
            black_box(Sha256::digest(&hashed));
        }),
        sealing(Rc::clone(&file)),
        opening(&file),
    ]
}

fn sealing(file: Rc<[u8]>) -> Comparison {
    Comparison::new("file/seal", FILE_BYTES, move || {
        seal(&file, |part| {
            black_box(part.sha256);
        });
    })
}

/// Each part is copied before it is opened, as if it was read from a disk.
fn opening(file: &[u8]) -> Comparison {
    let mut parts = Vec::new();
    let sealed = seal(file, |part| parts.push(part.bytes.to_vec()));
    let mut buffer = Vec::new();
    Comparison::new("file/open", FILE_BYTES, move || {
        let mut opener =
            BlobOpener::new(&FileKey::from_bytes(KEY), &sealed).expect("lengths agree");
        for part in &parts {
            buffer.clear();
            buffer.extend_from_slice(part);
            black_box(opener.open_part(&mut buffer).expect("sealed").pt_bytes());
        }
        let _verified = opener.finish().expect("complete");
    })
}

fn seal(file: &[u8], mut on_part: impl FnMut(SealedPart<'_>)) -> Sealed {
    let mut sealer = BlobSealer::new(&FileKey::from_bytes(KEY), &BlobSalt::from_bytes([9; 16]));
    for mut piece in file.chunks(256 * 1024) {
        while let Some(part) = sealer.push(&mut piece).expect("within the limit") {
            on_part(part);
        }
    }
    let mut tail = sealer.finish();
    loop {
        match tail.next_step() {
            SealStep::Part(part) => on_part(part),
            SealStep::Done(sealed) => return sealed,
        }
    }
}
