//! What the scenarios share: the programs, the files, and how much is done.

use crate::{others::Others, passage::Passage};
use anyhow::{Context as _, anyhow, ensure};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{api::hex, process::Program};
use sealpost_proto::limits::{FILE_BYTES_MAX, FILES_PER_MESSAGE_MAX};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds beside others; the median counts.
    pub(crate) rounds: usize,
    /// Rounds from end to end; the median counts.
    pub(crate) whole_rounds: usize,
    /// Rounds on one core; the median counts.
    pub(crate) core_rounds: usize,
}

impl Plan {
    /// Everything.
    pub(crate) const FULL: Self = Self {
        rounds: 21,
        whole_rounds: 9,
        core_rounds: 31,
    };
    /// Under four minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 7,
        whole_rounds: 3,
        core_rounds: 11,
    };
}

/// The bench.
#[derive(Debug)]
pub(crate) struct Bench {
    /// How much is done.
    pub(crate) plan: Plan,
    program: Program,
    rage: Option<PathBuf>,
    folder: TempDir,
}

/// A file on disk and in the page cache.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Where.
    pub(crate) path: PathBuf,
    /// Hex of its SHA-256.
    pub(crate) digest: String,
}

impl Bench {
    /// A bench with the programs of this folder. Everything is kept on the disk beside them until the bench is dropped.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn new(plan: Plan, programs: &Path, rage: Option<&Path>) -> anyhow::Result<Self> {
        for name in ["sealpost", "sealpost-relay"] {
            let path = programs.join(name);
            ensure!(
                path.is_file(),
                "there is no {}: run ./tests/run files, which builds it",
                path.display()
            );
        }
        let folder = tempfile::Builder::new()
            .prefix("files-")
            .tempdir_in(programs)?;
        // What stands in memory alone would be durable for nothing.
        tempfile::env::override_temp_dir(folder.path())
            .map_err(|_| anyhow!("the folder for what is kept was set"))?;
        Ok(Self {
            plan,
            program: Program::installed(programs),
            rage: rage.map(Path::to_owned),
            folder,
        })
    }

    /// A relay and two nodes, all of them new.
    ///
    /// # Errors
    /// When they do not start or do not come together.
    pub(crate) async fn passage(&self) -> anyhow::Result<Passage> {
        Passage::open(self.program.clone()).await
    }

    /// What others would use.
    ///
    /// # Errors
    /// When something is missing.
    pub(crate) async fn others(&self) -> anyhow::Result<Others> {
        Others::start(self.folder.path(), self.rage.as_deref()).await
    }

    /// A file of so many random bytes: always the same for a number.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn sample(&self, number: u64, bytes: u64) -> anyhow::Result<Sample> {
        let path = self
            .folder
            .path()
            .join(format!("sample-{number}-{bytes}.bin"));
        let mut content = vec![0; usize::try_from(bytes)?];
        ChaCha8Rng::seed_from_u64(number).fill_bytes(&mut content);
        let mut file = File::create(&path)?;
        file.write_all(&content)?;
        file.sync_all()?;
        Ok(Sample {
            path,
            digest: hex(&Sha256::digest(&content)),
        })
    }

    /// As many and as large files as a message may have.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(crate) fn largest_samples(&self) -> anyhow::Result<Vec<Sample>> {
        (0..FILES_PER_MESSAGE_MAX as u64)
            .map(|number| self.sample(number, FILE_BYTES_MAX))
            .collect()
    }
}

/// Hex of the SHA-256 of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn digest_of(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1024 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}
