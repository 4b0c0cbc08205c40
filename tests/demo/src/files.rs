//! The files that scenarios send.

use crate::api::digest;
use std::io::Write as _;

const README: &[u8] = include_bytes!("../../../README.md");
const PICTURE: &[u8] = include_bytes!("../assets/seal.png");
/// Size of the generated file.
const MEASUREMENTS_BYTES: usize = 20_000_000;
/// Text that occurs in the generated file and nowhere else.
pub const CANARY: &str = "canary 7c0e1d5a93b24f68";

/// File to send.
#[derive(Debug, Clone)]
pub struct Sample {
    /// File name.
    pub name: String,
    /// Contents.
    pub content: Vec<u8>,
}

impl Sample {
    /// Creates a file.
    #[must_use]
    pub fn new(name: &str, content: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            content: content.into(),
        }
    }

    /// Returns the SHA-256 in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.content)
    }

    /// Returns bytes from the middle, enough to be unique.
    #[must_use]
    pub fn excerpt(&self) -> &[u8] {
        let middle = self.content.len() / 2;
        &self.content[middle..(middle + 48).min(self.content.len())]
    }
}

/// Returns the three files of the demo: a text, a picture and 20 MB of measurements.
#[must_use]
pub fn samples() -> [Sample; 3] {
    [
        Sample::new("README-4711.md", README),
        Sample::new("seal-4711.png", PICTURE),
        Sample::new(
            "measurements-4711.csv",
            generate_measurements(MEASUREMENTS_BYTES),
        ),
    ]
}

/// Generates lines of measurements, always the same, with the canary in the first line.
#[must_use]
pub fn generate_measurements(bytes: usize) -> Vec<u8> {
    let mut text = format!("housing,millimetres,{CANARY}\n").into_bytes();
    text.reserve(bytes);
    let mut state = 4711_u32;
    while text.len() < bytes {
        // A linear congruential generator (Numerical Recipes) is good enough here.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Writing to a Vec cannot fail.
        let _ = writeln!(
            text,
            "{:05},{}.{:04}",
            state >> 16,
            20 + (state >> 12) % 10,
            state % 10_000
        );
    }
    text.truncate(bytes);
    text
}
