//! Errors of `init`, `serve` and `backup` that have a next step of their own.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Reason why a data directory or an address of the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("there is no node in {}", directory.display())]
    NoNode { directory: PathBuf },
    #[error("{} holds a node already", directory.display())]
    NodeExists { directory: PathBuf },
    /// A setting is invalid by itself or together with others.
    #[error("{error:#}")]
    Setting { error: anyhow::Error },
    /// The addresses of a node are fixed since `init`.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
}

impl DaemonError {
    pub(super) fn no_node(directory: &Path) -> Self {
        Self::NoNode {
            directory: directory.to_owned(),
        }
    }

    /// Returns the next step for the user.
    pub(super) fn next(&self) -> &'static str {
        match self {
            Self::NoNode { .. } => {
                "choose the data directory of the node with --data, or create a node: sealpost \
                 init"
            }
            Self::NodeExists { .. } => {
                "start it: sealpost serve. For another node, choose another directory with --data"
            }
            Self::Setting { .. } => "correct the setting, then start the node again",
            Self::Listen { error, .. } => match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "stop the program that uses the port, which `ss -ltnp` shows, then start the \
                     node again"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "give this machine the address, then start the node again"
                }
                io::ErrorKind::PermissionDenied => {
                    "permit the user of the node to open the port, then start the node again"
                }
                _ => "see the log of the node",
            },
        }
    }
}
