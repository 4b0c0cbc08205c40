//! The figures of a full run.

use sealpost_bench_support::Figure;
use serde::Serialize;

/// Figures in the last line of output.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// The slower of sealing and opening on one core, divided by 1 / (1/cipher + 1/SHA-256).
    pub(crate) seal_vs_bound: Figure,
    /// Rate of seal and upload, divided by that of `rage` piped into a plain upload.
    pub(crate) upload_vs_rage: Figure,
    /// Rate of download, open and verify, divided by that of a plain download piped into `age`.
    pub(crate) download_vs_age: Figure,
    /// 10^6 bytes per second for five files of 100 MB, from `send` until the last one is ready.
    pub(crate) end_to_end_mb_s: Figure,
    /// Peak memory of each process in MiB.
    pub(crate) vmhwm_mb: Memories,
}

/// Peak memory of each process in MiB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Memories {
    /// The sender's node.
    pub(crate) sender: BySize,
    /// The relay.
    pub(crate) relay: BySize,
    /// The recipient's node.
    pub(crate) recipient: BySize,
}

/// One figure for each total size of a message's files in MB.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct BySize {
    /// One file of 1 MB.
    #[serde(rename = "1")]
    pub(crate) mb_1: Figure,
    /// One file of 100 MB.
    #[serde(rename = "100")]
    pub(crate) mb_100: Figure,
    /// Five files of 100 MB.
    #[serde(rename = "500")]
    pub(crate) mb_500: Figure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_json_names() {
        let line = serde_json::to_string(&Figures {
            seal_vs_bound: Figure(0.91234),
            ..Figures::default()
        });
        let sizes = r#"{"1":0.0,"100":0.0,"500":0.0}"#;
        let expected = format!(
            concat!(
                r#"{{"seal_vs_bound":0.912,"upload_vs_rage":0.0,"download_vs_age":0.0,"#,
                r#""end_to_end_mb_s":0.0,"vmhwm_mb":{{"sender":{sizes},"relay":{sizes},"#,
                r#""recipient":{sizes}}}}}"#
            ),
            sizes = sizes
        );
        assert_eq!(line.ok(), Some(expected));
    }
}
