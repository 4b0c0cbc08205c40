//! The programs, the files and the number of rounds of a benchmark.

use crate::{node_pair::NodePair, reference::ReferenceTools};
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

/// Extent of the measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of the comparison, of which the median is reported.
    pub(crate) rounds: usize,
    /// End-to-end rounds, of which the median is reported.
    pub(crate) end_to_end_rounds: usize,
    /// Rounds on one core, of which the median is reported.
    pub(crate) core_rounds: usize,
}

impl Plan {
    /// Full run.
    pub(crate) const FULL: Self = Self {
        rounds: 21,
        end_to_end_rounds: 9,
        core_rounds: 31,
    };
    /// Run of less than four minutes.
    pub(crate) const QUICK: Self = Self {
        rounds: 7,
        end_to_end_rounds: 3,
        core_rounds: 11,
    };
}

/// Benchmark environment.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Extent of the measurement.
    pub(crate) plan: Plan,
    program: Program,
    rage: Option<PathBuf>,
    directory: TempDir,
}

/// File on disk and in the page cache.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub(crate) digest: String,
}

impl Bench {
    /// Creates a benchmark with the programs in this directory. The data is stored beside them
    /// until the benchmark is dropped.
    pub(crate) fn new(plan: Plan, programs: &Path, rage: Option<&Path>) -> anyhow::Result<Self> {
        for name in ["sealpost", "sealpost-relay"] {
            let path = programs.join(name);
            ensure!(
                path.is_file(),
                "{} does not exist: run ./tests/run files, which builds it",
                path.display()
            );
        }
        let directory = tempfile::Builder::new()
            .prefix("files-")
            .tempdir_in(programs)?;
        // A temporary directory in memory would make fsync free.
        tempfile::env::override_temp_dir(directory.path())
            .map_err(|_| anyhow!("the temporary directory was already set"))?;
        Ok(Self {
            plan,
            program: Program::installed(programs),
            rage: rage.map(Path::to_owned),
            directory,
        })
    }

    /// Starts a new relay and two new nodes.
    pub(crate) async fn start_node_pair(&self) -> anyhow::Result<NodePair> {
        NodePair::start(self.program.clone()).await
    }

    /// Starts the reference tools.
    pub(crate) async fn start_reference_tools(&self) -> anyhow::Result<ReferenceTools> {
        ReferenceTools::start(self.directory.path(), self.rage.as_deref()).await
    }

    /// Creates a file of random bytes, always the same for a number.
    pub(crate) fn create_sample(&self, number: u64, bytes: u64) -> anyhow::Result<Sample> {
        let path = self
            .directory
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

    /// Creates as many files as a message may have, each as large as possible.
    pub(crate) fn create_largest_samples(&self) -> anyhow::Result<Vec<Sample>> {
        (0..FILES_PER_MESSAGE_MAX as u64)
            .map(|number| self.create_sample(number, FILE_BYTES_MAX))
            .collect()
    }
}

/// Returns the SHA-256 of a file in hexadecimal.
pub(crate) fn file_digest(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1024 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}
