//! Command-line grammar.

mod backup;
mod hyphen_tip;
mod key;
mod parsers;

pub use backup::{
    BackupArgs, BackupCommand, BackupCreateArgs, BackupSecretArgs, BackupVerifyArgs, RestoreArgs,
};
pub use key::{KeyChangeArgs, KeyCommand, NewSecretArgs, ProtectionArgs, ProtectionKind};

pub use hyphen_tip::add_hyphen_tip;

use super::units::parse_duration;
use crate::{api::model::Deadline, config::Overrides};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint, builder::NonEmptyStringValueParser};
use parsers::{UrlParser, parse_loopback, parse_name, parse_note, parse_secret};
use sealpost_proto::{Origin, WebhookUrl};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// Default number of rows in a list.
pub const LIST_LIMIT_DEFAULT: u32 = 50;

/// Default address of the local API.
const LISTEN_DEFAULT: &str = "127.0.0.1:4680";

/// Encrypted messages and files between businesses.
#[derive(Parser)]
#[command(
    name = "sealpost",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = AFTER_HELP
)]
pub struct Cli {
    /// Directory that holds all data of this node
    #[arg(
        long,
        global = true,
        env = "SEALPOST_DATA",
        value_name = "DIR",
        value_hint = ValueHint::DirPath
    )]
    pub data: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Getting started:
  sealpost init --name \"Acme\" --relay https://relay.example   create a node
  sealpost serve                                              run it
  sealpost invite                                             print an invite link for a partner
  sealpost send --to Bolt -m \"Hello\" -a order.pdf             send a message with a file

Exit codes: 0 success, 1 refused or failed, 2 usage error, 3 daemon not reachable.";

#[derive(Subcommand)]
pub enum Command {
    /// Create a node: its identity and its data directory
    Init(InitArgs),
    /// Run the node until Ctrl-C
    Serve(ServeArgs),
    /// Make or verify a backup of the node, which may be running
    Backup(BackupArgs),
    /// Restore a node from a backup into a new data directory
    Restore(RestoreArgs),
    /// Show or change what protects the data key, which encrypts the secrets of the node
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Show the settings of the daemon
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    #[command(flatten)]
    Api(ApiCommand),
    /// Show all events until Ctrl-C
    Watch(WatchArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
}

/// Commands that call the local API of the running daemon.
#[derive(Subcommand)]
pub enum ApiCommand {
    /// Create an invite, to be given to one partner over a trusted channel
    Invite(InviteArgs),
    /// List or revoke invites
    Invites {
        /// `list` by default.
        #[command(subcommand)]
        command: Option<InvitesCommand>,
    },
    /// Request a connection with an invite
    Connect(ConnectArgs),
    /// List, accept, reject, block or verify connections
    Connections {
        /// `list` by default.
        #[command(subcommand)]
        command: Option<ConnectionsCommand>,
    },
    /// Send a message with up to 5 files to one or more partners
    Send(SendArgs),
    /// List unread messages
    Inbox(InboxArgs),
    /// Show a message
    Show(MessageArgs),
    /// Mark messages, and all earlier ones of their chats, as read, and notify their senders
    Read(ReadArgs),
    /// Show the node and its pending deliveries, or the status of one message
    Status(StatusArgs),
    /// Start new sessions with all partners, for example after a snapshot of the machine was
    /// restored
    Recover(RecoverArgs),
    /// List or close mailboxes at the relay that this node does not know, for example after a
    /// restore
    Mailboxes {
        /// `list` by default.
        #[command(subcommand)]
        command: Option<MailboxesCommand>,
    },
    /// List, download, save or cancel files
    Files {
        /// `list` by default.
        #[command(subcommand)]
        command: Option<FilesCommand>,
    },
}

#[derive(Args)]
pub struct InitArgs {
    /// Name shown to partners, up to 64 bytes
    #[arg(long, allow_hyphen_values = true, value_parser = parse_name)]
    pub name: String,
    /// Home relay, for example https://relay.example
    #[arg(long, value_name = "ORIGIN", value_parser = UrlParser(Origin::parse))]
    pub relay: Origin,
    /// URL at which the relay calls this node; without it the node polls the relay, which works
    /// behind any firewall
    #[arg(
        long,
        value_name = "URL",
        requires = "webhook_listen",
        value_parser = UrlParser(WebhookUrl::parse)
    )]
    pub webhook_url: Option<WebhookUrl>,
    /// Address on which the node accepts the relay's calls
    #[arg(long, value_name = "ADDRESS:PORT", requires = "webhook_url")]
    pub webhook_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub token: RegistrationToken,
    /// Address of the local API; loopback only
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = LISTEN_DEFAULT,
        value_parser = parse_loopback
    )]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub protection: ProtectionArgs,
}

#[derive(Args)]
pub struct RegistrationToken {
    /// Registration token from the relay's operator, if the relay requires one. With `serve` it
    /// replaces the one from `init`
    #[arg(
        long,
        value_name = "TOKEN",
        env = "SEALPOST_REGISTRATION_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_parser = parse_secret
    )]
    pub registration_token: Option<Zeroizing<String>>,
}

#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub token: RegistrationToken,
    #[command(flatten)]
    pub overrides: Overrides,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Show all settings in force, in the format of the configuration file
    Show(ConfigShowArgs),
}

#[derive(Args)]
pub struct ConfigShowArgs {
    /// Show where each setting comes from
    #[arg(long)]
    pub origin: bool,
    #[command(flatten)]
    pub overrides: Overrides,
}

#[derive(Args)]
pub struct InviteArgs {
    /// Create a contact address, which any number of people can use until it is revoked
    #[arg(long, conflicts_with = "expires")]
    pub contact: bool,
    /// Lifetime of the invite, for example 12h or 7d (the default); up to 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// Accept all requests made with this invite automatically
    #[arg(long)]
    pub auto_accept: bool,
}

#[derive(Subcommand)]
pub enum InvitesCommand {
    /// List invites
    List,
    /// Revoke an invite
    Revoke {
        /// INV-…
        id: String,
    },
}

#[derive(Args)]
pub struct ConnectArgs {
    /// The invite URL, in quotes
    #[arg(value_name = "URL", allow_hyphen_values = true)]
    pub invite: String,
    /// Note shown to the partner with the request, up to 200 bytes
    #[arg(long, allow_hyphen_values = true, value_parser = parse_note)]
    pub note: Option<String>,
}

#[derive(Subcommand)]
pub enum ConnectionsCommand {
    /// List connections
    List,
    /// Accept a request
    Accept(ConnectionArgs),
    /// Reject a request
    Reject(ConnectionArgs),
    /// Block a partner permanently: its messages are refused and it is not told why
    Block(ConnectionArgs),
    /// Show the safety number, or record that both sides compared it
    Verify(VerifyArgs),
    /// Clear the warning of a connection without comparing the safety number, and resume a
    /// suspended connection with the identity that is already known
    Acknowledge(ConnectionArgs),
}

#[derive(Args)]
pub struct ConnectionArgs {
    /// CON-…, or the partner's name
    #[arg(value_name = "CONNECTION", allow_hyphen_values = true)]
    pub id: String,
}

#[derive(Args)]
pub struct VerifyArgs {
    /// CON-…, or the partner's name
    #[arg(value_name = "CONNECTION", allow_hyphen_values = true)]
    pub id: String,
    /// The 60 digits that the partner read out
    #[arg(long, value_name = "DIGITS", allow_hyphen_values = true)]
    pub number: Option<String>,
    /// Confirm that both sides compared the numbers and that they match
    #[arg(long, conflicts_with = "number")]
    pub same: bool,
}

#[derive(Args)]
pub struct SendArgs {
    /// Names or ids of the recipients
    #[arg(long, required = true, num_args = 1.., value_name = "CONNECTION")]
    pub to: Vec<String>,
    /// Message text in Markdown, or with --plain as it is
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "text_file"
    )]
    pub message: Option<String>,
    /// File with the message text, or `-` for standard input, which is also read if there is
    /// neither text nor a file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text_file: Option<PathBuf>,
    /// Send the text as plain text instead of Markdown
    #[arg(long)]
    pub plain: bool,
    /// Files to attach, up to 5
    #[arg(short, long, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attach: Vec<PathBuf>,
    /// Message that this one replies to
    #[arg(long, value_name = "MESSAGE")]
    pub reply_to: Option<String>,
    /// Mark the message as requiring action by the recipient
    #[arg(long)]
    pub action_required: bool,
    /// Deadline for delivery, for example 2h or 2026-11-20T14:00:00Z; both sides see it, and it is
    /// not enforced
    #[arg(long, value_name = "TIME")]
    pub deliver_by: Option<Deadline>,
    /// Deadline for reading
    #[arg(long, value_name = "TIME")]
    pub read_by: Option<Deadline>,
    /// Idempotency key: repeating a send with the same id sends nothing twice
    #[arg(
        long,
        value_name = "ID",
        allow_hyphen_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub client_id: Option<String>,
    /// Wait until the message is delivered to, or read by, every recipient
    #[arg(long, value_enum, value_name = "STATUS")]
    pub wait: Option<WaitFor>,
    /// Stop waiting after this time, for example 30s; delivery continues
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// Status for which `send --wait` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// The recipient's node has stored the message
    Delivered,
    /// Someone has read the message
    Read,
}

#[derive(Args)]
pub struct InboxArgs {
    /// Include messages that were read
    #[arg(long)]
    pub all: bool,
    /// Number of messages, newest first
    #[arg(
        long,
        default_value_t = LIST_LIMIT_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    pub limit: u32,
}

#[derive(Args)]
pub struct MessageArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE")]
    pub id: String,
}

#[derive(Args)]
pub struct ReadArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE", required = true)]
    pub ids: Vec<String>,
}

#[derive(Args)]
pub struct StatusArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE")]
    pub id: Option<String>,
    /// Clear the warnings about this node
    #[arg(long, conflicts_with = "id")]
    pub acknowledge: bool,
}

#[derive(Args)]
pub struct RecoverArgs {
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Subcommand)]
pub enum MailboxesCommand {
    /// List the mailboxes that this node does not know
    List,
    /// Close such mailboxes permanently
    Close(CloseMailboxesArgs),
}

#[derive(Args)]
pub struct CloseMailboxesArgs {
    /// Mailboxes from the list
    #[arg(value_name = "MAILBOX", required = true)]
    pub ids: Vec<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args)]
pub struct WatchArgs {
    /// Continue after the event with this id (shown in JSON output)
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
}

#[derive(Subcommand)]
pub enum FilesCommand {
    /// List files, newest first
    List(FilesArgs),
    /// Download the files of a message, or one file, that were not downloaded automatically
    Fetch(FetchArgs),
    /// Save the files of a message, or one file, under a safe name
    Save(SaveArgs),
    /// Cancel the transfer of a file
    Cancel(FileArgs),
}

#[derive(Args)]
pub struct FilesArgs {
    /// Number of files, newest first
    #[arg(
        long,
        default_value_t = LIST_LIMIT_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    pub limit: u32,
}

#[derive(Args)]
pub struct FileArgs {
    /// ATC-…
    #[arg(value_name = "FILE")]
    pub id: String,
}

#[derive(Args)]
pub struct FetchArgs {
    /// CMG-… for all files of a message, ATC-… for one file
    #[arg(value_name = "MESSAGE_OR_FILE")]
    pub id: String,
    /// Do not wait for the download to finish
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Args)]
pub struct SaveArgs {
    /// CMG-… for all files of a message, ATC-… for one file
    #[arg(value_name = "MESSAGE_OR_FILE")]
    pub id: String,
    /// Target directory
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub to: PathBuf,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Do not wait for files that are still downloading
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
pub use tests::parse_overrides;

#[cfg(test)]
mod tests;
