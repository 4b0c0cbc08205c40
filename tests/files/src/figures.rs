//! The figures of a whole run, and how they are drawn from rounds.

use serde::{Serialize, Serializer};

/// The last line of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// The slower of sealing and opening on one core by 1 / (1/cipher + 1/SHA-256).
    pub(crate) seal_vs_bound: Figure,
    /// Rate of seal and upload by that of `rage` piped into a plain upload.
    pub(crate) upload_vs_rage: Figure,
    /// Rate of download, open and verify by that of a plain download piped into `age`.
    pub(crate) download_vs_age: Figure,
    /// 10^6 bytes a second, five files of 100 MB from `send` until the last is ready.
    pub(crate) end_to_end_mb_s: Figure,
    /// The most memory of each process, in MiB.
    pub(crate) vmhwm_mb: Memories,
}

/// The most memory of each process, in MiB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Memories {
    /// The sender's node.
    pub(crate) sender: BySize,
    /// The relay.
    pub(crate) relay: BySize,
    /// The recipient's node.
    pub(crate) recipient: BySize,
}

/// One figure for each size of a message's files, in MB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct BySize {
    /// One file of 1 MB.
    #[serde(rename = "1")]
    pub(crate) mb_1: Figure,
    /// One of 100 MB.
    #[serde(rename = "100")]
    pub(crate) mb_100: Figure,
    /// Five of 100 MB.
    #[serde(rename = "500")]
    pub(crate) mb_500: Figure,
}

/// A number that is printed with three digits behind the point.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figure(pub(crate) f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0 * 1e3).round() / 1e3)
    }
}

/// The middle one; of an even number the lower of the two.
#[must_use]
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([2.0, 1.0]), 1.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn the_line_has_the_agreed_names() {
        let line = serde_json::to_string(&Figures {
            seal_vs_bound: Figure(0.91234),
            ..Figures::default()
        });
        let sizes = r#"{"1":0.0,"100":0.0,"500":0.0}"#;
        let expected = format!(
            r#"{{"seal_vs_bound":0.912,"upload_vs_rage":0.0,"download_vs_age":0.0,"end_to_end_mb_s":0.0,"vmhwm_mb":{{"sender":{sizes},"relay":{sizes},"recipient":{sizes}}}}}"#
        );
        assert_eq!(line.ok(), Some(expected));
    }
}
