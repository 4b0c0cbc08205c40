//! Which files a node downloads_automatically by itself.

use std::str::FromStr;

/// Which files a node downloads as soon as their message arrives. The others are downloaded on
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DownloadPolicy {
    /// All files.
    #[default]
    Always,
    /// Files of up to this number of bytes.
    UpTo(u64),
    /// No files.
    OnDemand,
}

/// Error for text that is not a [`DownloadPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a download policy: expected \"always\", \"on_demand\" or, for example, \"up_to 20 MB\""
)]
pub struct ParseDownloadPolicyError {
    text: String,
}

impl DownloadPolicy {
    /// Whether a file of this size is downloaded automatically.
    #[must_use]
    pub const fn downloads_automatically(self, file_bytes: u64) -> bool {
        match self {
            Self::Always => true,
            Self::UpTo(limit_bytes) => file_bytes <= limit_bytes,
            Self::OnDemand => false,
        }
    }
}

impl FromStr for DownloadPolicy {
    type Err = ParseDownloadPolicyError;

    /// Parses `always`, `on_demand`, or `up_to` and a size: a number followed by `kB`, `MB` or
    /// nothing for bytes.
    fn from_str(text: &str) -> Result<Self, ParseDownloadPolicyError> {
        match text.trim() {
            "always" => Ok(Self::Always),
            "on_demand" => Ok(Self::OnDemand),
            other => {
                let size = other.strip_prefix("up_to ").and_then(bytes);
                size.map(Self::UpTo)
                    .ok_or_else(|| ParseDownloadPolicyError {
                        text: text.to_owned(),
                    })
            }
        }
    }
}

fn bytes(size: &str) -> Option<u64> {
    let size = size.trim();
    let unit_at = size
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(size.len());
    let (number, unit) = size.split_at(unit_at);
    let factor = match unit.trim() {
        "" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_parse() {
        for (text, policy) in [
            ("always", Some(DownloadPolicy::Always)),
            ("on_demand", Some(DownloadPolicy::OnDemand)),
            ("up_to 1500", Some(DownloadPolicy::UpTo(1_500))),
            ("up_to 0", Some(DownloadPolicy::UpTo(0))),
            ("up_to 20 MB", Some(DownloadPolicy::UpTo(20_000_000))),
            ("up_to 20kB", Some(DownloadPolicy::UpTo(20_000))),
            ("up_to", None),
            ("up_to MB", None),
            ("up_to 20 MiB", None),
            ("up_to -1", None),
            ("up_to 99999999999999999999", None),
            ("up_to 99999999999999999 MB", None),
            ("Always", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), policy, "{text:?}");
        }
    }

    #[test]
    fn limit_is_inclusive() {
        let decisions =
            |policy: DownloadPolicy| [0, 10, 11].map(|bytes| policy.downloads_automatically(bytes));
        assert_eq!(decisions(DownloadPolicy::UpTo(10)), [true, true, false]);
        assert_eq!(
            (
                decisions(DownloadPolicy::Always),
                decisions(DownloadPolicy::OnDemand)
            ),
            ([true; 3], [false; 3])
        );
    }
}
