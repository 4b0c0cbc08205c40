//! The roles in which this program starts itself again. Each is the very function that the binary of that name calls.

use std::{ffi::OsString, io, process::ExitCode, thread};

/// What a daemon ends with when its parent is gone.
const ORPHANED: i32 = 1;

/// A role, named by the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `sealpost-relay`, ended when whoever started it is gone.
    Relay,
    /// `sealpost`, ended when whoever started it is gone.
    Node,
    /// `sealpost-relay` as a person runs it.
    RelayCommand,
    /// `sealpost` as a person runs it.
    NodeCommand,
}

impl Role {
    const ALL: [Self; 4] = [
        Self::Relay,
        Self::Node,
        Self::RelayCommand,
        Self::NodeCommand,
    ];

    /// The first argument.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "__relay",
            Self::Node => "__node",
            Self::RelayCommand => "sealpost-relay",
            Self::NodeCommand => "sealpost",
        }
    }

    /// The binary that has this role alone.
    #[must_use]
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Relay | Self::RelayCommand => Self::RelayCommand.as_str(),
            Self::Node | Self::NodeCommand => Self::NodeCommand.as_str(),
        }
    }
}

/// Plays the role that the first argument after the program's name asks for; `None` when it asks for none.
#[must_use]
pub fn play(args: &[OsString]) -> Option<ExitCode> {
    let word = args.get(1)?;
    let role = Role::ALL.into_iter().find(|role| word == role.as_str())?;
    let named = |name: &str| {
        std::iter::once(OsString::from(name))
            .chain(args.iter().skip(2).cloned())
            .collect()
    };
    if matches!(role, Role::Relay | Role::Node) {
        thread::spawn(end_with_parent);
    }
    Some(match role {
        Role::Relay | Role::RelayCommand => sealpost_relay::main_with_args(named("sealpost-relay")),
        Role::Node | Role::NodeCommand => sealpost_node::run(named("sealpost")),
    })
}

/// The parent holds the other end of standard input, and the system closes it however the parent ends.
fn end_with_parent() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    std::process::exit(ORPHANED);
}
