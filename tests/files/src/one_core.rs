//! Sealing and opening one file on one core, compared with the primitives from the same crates, in
//! the same thread, alternately.

use anyhow::{Context as _, anyhow};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sealpost_bench_support::median;
use sealpost_e2ee::attachment::{
    BlobOpener, BlobSalt, BlobSealer, FileKey, SealStep, Sealed, SealedPart,
};
use sealpost_proto::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use sha2::{Digest as _, Sha256};
use std::{hint::black_box, time::Instant};

const KEY: [u8; 32] = [7; 32];
/// Size of the pieces passed to the sealer, as a node reads them from a connection.
const PIECE_BYTES: usize = 64 * 1024;

/// Medians over the rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OneCore {
    /// Rate of sealing in 10^6 bytes per second.
    pub(crate) seal_mb_s: f64,
    /// Rate of opening.
    pub(crate) open_mb_s: f64,
    /// Rate of the cipher alone.
    pub(crate) cipher_mb_s: f64,
    /// Rate of SHA-256 alone.
    pub(crate) sha256_mb_s: f64,
    /// Rate of sealing divided by its bound.
    pub(crate) seal_vs_bound: f64,
    /// Rate of opening divided by its bound.
    pub(crate) open_vs_bound: f64,
}

/// Seconds for one file in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    encrypt: f64,
    decrypt: f64,
    sha256: f64,
    seal: f64,
    open: f64,
}

/// Measures the given number of rounds in this thread.
pub(crate) fn measure(rounds: usize) -> anyhow::Result<OneCore> {
    let file = vec![0x5a_u8; usize::try_from(FILE_BYTES_MAX)?];
    let mut parts = Vec::new();
    let sealed = seal_file(&file, |part| parts.push(part.bytes.to_vec()))?;
    let mut measured = (0..=rounds)
        .map(|_| measure_round(&file, &parts, &sealed))
        .collect::<Result<Vec<_>, _>>()?;
    // The first round is the warm-up.
    measured.remove(0);
    let median_of = |figure: fn(&Round) -> f64| median(measured.iter().map(figure));
    let mb_s = |seconds: f64| FILE_BYTES_MAX as f64 / 1e6 / seconds;
    Ok(OneCore {
        seal_mb_s: mb_s(median_of(|round| round.seal)),
        open_mb_s: mb_s(median_of(|round| round.open)),
        cipher_mb_s: mb_s(median_of(|round| round.encrypt)),
        sha256_mb_s: mb_s(median_of(|round| round.sha256)),
        seal_vs_bound: median_of(|round| (round.encrypt + round.sha256) / round.seal),
        open_vs_bound: median_of(|round| (round.decrypt + round.sha256) / round.open),
    })
}

fn measure_round(file: &[u8], parts: &[Vec<u8>], sealed: &Sealed) -> anyhow::Result<Round> {
    let key = LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, &KEY)
            .map_err(|_| anyhow!("the key has the wrong length"))?,
    );
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut chunk = vec![1_u8; CHUNK_BYTES];
    let times = file.len().div_ceil(CHUNK_BYTES);
    let encrypt = measure_seconds(|| {
        (0..times).try_for_each(|_| {
            key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut chunk)
                .map(drop)
        })
    })?;
    let tag = key
        .seal_in_place_separate_tag(nonce(), Aad::empty(), &mut chunk)
        .map_err(|_| anyhow!("the chunk cannot be sealed"))?;
    let (original, tag) = (chunk.clone(), <[u8; 16]>::try_from(tag.as_ref())?);
    let decrypt = measure_seconds(|| {
        (0..times).try_for_each(|_| {
            // Opening in place has overwritten the ciphertext.
            chunk.copy_from_slice(&original);
            key.open_in_place_separate_tag(nonce(), Aad::empty(), tag.into(), &mut chunk, 0..)
                .map(drop)
        })
    })?;
    let sha256 = measure_seconds(|| {
        let mut hash = Sha256::new();
        (0..times).for_each(|_| hash.update(&chunk));
        black_box(hash.finalize());
        Ok::<_, anyhow::Error>(())
    })?;
    let seal = measure_seconds(|| {
        seal_file(file, |part| {
            black_box(part.sha256);
        })
        .map(drop)
    })?;
    let open = measure_seconds(|| open_parts(parts, sealed))?;
    Ok(Round {
        encrypt,
        decrypt,
        sha256,
        seal,
        open,
    })
}

fn measure_seconds<E: std::fmt::Debug>(
    work: impl FnOnce() -> Result<(), E>,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    work().map_err(|error| anyhow!("{error:?}"))?;
    Ok(started.elapsed().as_secs_f64())
}

fn seal_file(file: &[u8], mut handle_part: impl FnMut(SealedPart<'_>)) -> anyhow::Result<Sealed> {
    let mut sealer = BlobSealer::new(&FileKey::from_bytes(KEY), &BlobSalt::from_bytes([9; 16]));
    for mut piece in file.chunks(PIECE_BYTES) {
        while let Some(part) = sealer.push(&mut piece)? {
            handle_part(part);
        }
    }
    let mut tail = sealer.finish();
    loop {
        match tail.next_step() {
            SealStep::Part(part) => handle_part(part),
            SealStep::Done(sealed) => return Ok(sealed),
        }
    }
}

/// Opens all parts; each one is copied into a buffer first, as if it were read from a disk.
fn open_parts(parts: &[Vec<u8>], sealed: &Sealed) -> anyhow::Result<()> {
    let mut opener = BlobOpener::new(&FileKey::from_bytes(KEY), sealed)?;
    let mut buffer = Vec::new();
    for part in parts {
        buffer.clear();
        buffer.extend_from_slice(part);
        black_box(
            opener
                .open_part(&mut buffer)
                .context("the part cannot be opened")?
                .pt_bytes(),
        );
    }
    let _verified = opener.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_parts_open_completely() {
        let mut parts = Vec::new();
        let sealed = seal_file(&[3; 3_000_000], |part| parts.push(part.bytes.to_vec())).unwrap();
        assert_eq!(parts.len(), 2);
        open_parts(&parts, &sealed).unwrap();
        parts.pop();
        assert!(open_parts(&parts, &sealed).is_err());
    }
}
