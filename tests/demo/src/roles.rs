//! The roles in which this program starts itself as a child process. Each role calls the same
//! function as the binary of that name.

use std::{ffi::OsString, io, process::ExitCode, thread};

/// Exit code of a daemon whose parent has exited.
const EXIT_CODE_ORPHANED: i32 = 1;

/// Role, named by the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `sealpost-relay` that exits when its parent exits.
    Relay,
    /// `sealpost` that exits when its parent exits.
    Node,
    /// `sealpost-relay`, as started from a command line.
    RelayCommand,
    /// `sealpost`, as started from a command line.
    NodeCommand,
}

impl Role {
    const ALL: [Self; 4] = [
        Self::Relay,
        Self::Node,
        Self::RelayCommand,
        Self::NodeCommand,
    ];

    /// Returns the first argument that selects this role.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "__relay",
            Self::Node => "__node",
            Self::RelayCommand => "sealpost-relay",
            Self::NodeCommand => "sealpost",
        }
    }

    /// Returns the name of the binary with this role.
    #[must_use]
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Relay | Self::RelayCommand => Self::RelayCommand.as_str(),
            Self::Node | Self::NodeCommand => Self::NodeCommand.as_str(),
        }
    }
}

/// Runs the role that the first argument after the program's name selects; returns `None` if it
/// selects none.
#[must_use]
pub fn run_role(args: &[OsString]) -> Option<ExitCode> {
    let name = args.get(1)?;
    let role = Role::ALL.into_iter().find(|role| name == role.as_str())?;
    let args_for = |name: &str| {
        std::iter::once(OsString::from(name))
            .chain(args.iter().skip(2).cloned())
            .collect()
    };
    if matches!(role, Role::Relay | Role::Node) {
        thread::spawn(exit_with_parent);
    }
    Some(match role {
        Role::Relay | Role::RelayCommand => {
            sealpost_relay::main_with_args(args_for("sealpost-relay"))
        }
        Role::Node | Role::NodeCommand => sealpost_node::run(args_for("sealpost")),
    })
}

/// Exits when the parent exits. The parent holds the other end of standard input, which the system
/// closes at that time.
fn exit_with_parent() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    std::process::exit(EXIT_CODE_ORPHANED);
}
