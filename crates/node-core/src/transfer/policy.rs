//! Automatic download of received files.

/// Which files a node downloads as soon as their message arrives. The others are downloaded on
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DownloadPolicy {
    /// Downloads all files.
    #[default]
    Always,
    /// Files of up to this number of bytes.
    UpTo(u64),
    /// Downloads no files.
    OnDemand,
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

#[cfg(test)]
mod tests {
    use super::*;

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
