//! The status of a file, and its legal changes.

use sealpost_proto::string_enum;

string_enum! {
    /// Transfer status of a file. Outgoing files go from `staged` to `released` or `cancelled`,
    /// incoming ones start as `offered` or `waiting`; both can fail.
    ///
    /// | outgoing | becomes |
    /// |---|---|
    /// | `staged` | `uploading` when a message uses it |
    /// | `uploading` | `uploaded`, `failed`, `cancelled`; `released` if uploaded before |
    /// | `uploaded` | `released`, `cancelled`; `uploading` when the relay has lost it |
    /// | `released` | `uploading` when its message is sent again, or a recipient asks for it |
    ///
    /// | incoming | becomes |
    /// |---|---|
    /// | `offered`, `failed` | `waiting` when a user requests the download |
    /// | `waiting` | `downloading`, `failed`; `offered` when a user stops the download |
    /// | `downloading` | `ready`, `failed`; `offered` when a user stops the download |
    pub enum FileStatus {
        /// Sealed on this node's disk, used by no message.
        Staged = "staged",
        /// Being uploaded to the relay, or waiting for it.
        Uploading = "uploading",
        /// Complete at the relay.
        Uploaded = "uploaded",
        /// On the nodes of all recipients; deleted at the relay, and later on this node.
        Released = "released",
        /// Stopped before the message was sent.
        Cancelled = "cancelled",
        /// At the relay, downloaded on request.
        Offered = "offered",
        /// Queued for download.
        Waiting = "waiting",
        /// Being downloaded from the relay.
        Downloading = "downloading",
        /// On this node's disk, verified.
        Ready = "ready",
        /// Failed permanently.
        Failed = "failed",
    }
}

impl FileStatus {
    /// Returns whether the change is legal.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        use FileStatus::{
            Cancelled, Downloading, Failed, Offered, Ready, Released, Staged, Uploaded, Uploading,
            Waiting,
        };
        match self {
            Staged => matches!(next, Uploading),
            Uploading => matches!(next, Uploaded | Failed | Cancelled | Released),
            Uploaded => matches!(next, Released | Cancelled | Uploading),
            Offered | Failed => matches!(next, Waiting),
            Waiting => matches!(next, Downloading | Offered | Failed),
            Downloading => matches!(next, Ready | Offered | Failed),
            Released => matches!(next, Uploading),
            Cancelled | Ready => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_changes_are_legal() {
        use FileStatus::{
            Cancelled, Downloading, Failed, Offered, Ready, Released, Staged, Uploaded, Uploading,
            Waiting,
        };
        let legal = [
            (Staged, Uploading),
            (Uploading, Uploaded),
            (Uploading, Cancelled),
            (Uploading, Failed),
            (Uploading, Released),
            (Uploaded, Uploading),
            (Uploaded, Released),
            (Uploaded, Cancelled),
            (Released, Uploading),
            (Offered, Waiting),
            (Waiting, Offered),
            (Waiting, Downloading),
            (Waiting, Failed),
            (Downloading, Offered),
            (Downloading, Ready),
            (Downloading, Failed),
            (Failed, Waiting),
        ];
        for from in FileStatus::ALL {
            for to in FileStatus::ALL {
                let is_legal = legal.contains(&(*from, *to));
                assert_eq!(from.can_become(*to), is_legal, "{from} to {to}");
            }
        }
    }
}
