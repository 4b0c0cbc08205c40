//! Commands, one file each.

pub mod backup;
pub mod completions;
pub mod config;
pub mod connect;
pub mod connections;
pub mod files;
pub mod inbox;
pub mod init;
pub mod invite;
pub mod invites;
pub mod key;
pub mod mailboxes;
pub mod read;
pub mod recover;
pub mod restore;
pub mod send;
pub mod serve;
pub mod show;
pub mod status;
pub mod watch;
