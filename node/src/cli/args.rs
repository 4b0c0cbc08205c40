//! The grammar of the command line.

use super::units::{When, parse_life, parse_when};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use sealpost_node_core::text::visible_line;
use sealpost_proto::{Origin, limits};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// Files of a list when nobody asks for a number.
pub const LISTED_DEFAULT: u32 = 50;

/// Where the local API listens when nobody says otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:4680";

/// Encrypted messages and files between businesses.
#[derive(Parser)]
#[command(name = "sealpost", version, max_term_width = 100, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub struct Cli {
    /// Folder with everything this node stores
    #[arg(long, global = true, env = "SEALPOST_DATA", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// Print JSON in place of text
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "First steps:
  sealpost init --name \"Acme\" --relay https://relay.example   make a node
  sealpost serve                                              run it
  sealpost invite                                             give the printed link to a partner
  sealpost send --to Bolt -m \"Hello\" -a order.pdf             write to the partner

Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 the daemon does not answer.";

/// Every command.
#[derive(Subcommand)]
pub enum Command {
    /// Make a node: its identity and its data folder
    Init(InitArgs),
    /// Run the node until Ctrl-C
    Serve,
    /// One that asks the running daemon.
    #[command(flatten)]
    Ask(Ask),
    /// Show everything that happens until Ctrl-C
    Watch(WatchArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
}

/// The commands that are a question to the running daemon.
#[derive(Subcommand)]
pub enum Ask {
    /// Make an invite, to be given to one partner on a road you trust
    Invite(InviteArgs),
    /// List or revoke invites
    Invites {
        /// `list` when nothing is said.
        #[command(subcommand)]
        command: Option<InvitesCommand>,
    },
    /// Ask for a connection with an invite
    Connect(ConnectArgs),
    /// List, accept, reject, block or verify connections
    Connections {
        /// `list` when nothing is said.
        #[command(subcommand)]
        command: Option<ConnectionsCommand>,
    },
    /// Send a message with up to 5 files to one or several partners
    Send(SendArgs),
    /// List unread messages
    Inbox(InboxArgs),
    /// Show a message
    Show(MessageArgs),
    /// Mark messages as read, and tell their senders
    Read(ReadArgs),
    /// Show the node and what is on its way, or how far one message is
    Status(StatusArgs),
    /// List, fetch, save or cancel files
    Files {
        /// `list` when nothing is said.
        #[command(subcommand)]
        command: Option<FilesCommand>,
    },
}

/// What [`crate::daemon::init`] needs.
#[derive(Args)]
pub struct InitArgs {
    /// The data folder: set from `--data`, not from the command line of `init`.
    #[arg(skip)]
    pub data: PathBuf,
    /// Name that partners see, at most 64 bytes
    #[arg(long, value_parser = parse_name)]
    pub name: String,
    /// Home relay, as in https://relay.example
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    pub relay: Origin,
    /// Address of this node that the relay calls; without it the node asks the relay, which works behind any firewall
    #[arg(long, value_name = "URL", requires = "webhook_listen")]
    pub webhook_url: Option<Url>,
    /// Where to listen for these calls
    #[arg(long, value_name = "ADDR", requires = "webhook_url")]
    pub webhook_listen: Option<SocketAddr>,
    /// Token of the relay's operator, where the relay asks for one
    #[arg(long, value_name = "TOKEN", env = "SEALPOST_REGISTRATION_TOKEN", hide_env_values = true, value_parser = parse_secret)]
    pub registration_token: Option<Zeroizing<String>>,
    /// Where the local API listens; loopback only
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, value_parser = parse_loopback)]
    pub listen: SocketAddr,
}

/// What [`crate::daemon::serve`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeArgs {
    /// The data folder.
    pub data: PathBuf,
}

/// `invite`
#[derive(Args)]
pub struct InviteArgs {
    /// Make a contact address: anybody who has it may ask, any number of times, until it is revoked
    #[arg(long, conflicts_with = "expires")]
    pub contact: bool,
    /// How long it works, as in 12h or 7d (the default); at most 30d
    #[arg(long, value_name = "LIFE", value_parser = parse_life)]
    pub expires: Option<Duration>,
    /// Accept whoever connects with it without asking
    #[arg(long)]
    pub auto_accept: bool,
}

/// `invites …`
#[derive(Subcommand)]
pub enum InvitesCommand {
    /// List them
    List,
    /// Take one back
    Revoke {
        /// INV-…
        id: String,
    },
}

/// `connect`
#[derive(Args)]
pub struct ConnectArgs {
    /// The invite, in quotes
    #[arg(value_name = "URL")]
    pub invite: String,
    /// Shown to the other side with the request, at most 200 bytes
    #[arg(long, value_parser = parse_note)]
    pub note: Option<String>,
}

/// `connections …`
#[derive(Subcommand)]
pub enum ConnectionsCommand {
    /// List them
    List,
    /// Say yes to a request
    Accept(ConnectionArgs),
    /// Say no to a request
    Reject(ConnectionArgs),
    /// Close one for good
    Block(ConnectionArgs),
    /// Show the safety number, and remember that both sides compared it
    Verify(VerifyArgs),
}

/// One connection.
#[derive(Args)]
pub struct ConnectionArgs {
    /// CON-…, or the partner's name
    #[arg(value_name = "CONNECTION")]
    pub id: String,
}

/// `connections verify`
#[derive(Args)]
pub struct VerifyArgs {
    /// CON-…, or the partner's name
    #[arg(value_name = "CONNECTION")]
    pub id: String,
    /// The 60 digits that the other side reads out
    #[arg(long, value_name = "DIGITS")]
    pub number: Option<String>,
    /// Both sides have compared the numbers, and they are the same
    #[arg(long, conflicts_with = "number")]
    pub same: bool,
}

/// `send`
#[derive(Args)]
pub struct SendArgs {
    /// Names or ids of the recipients
    #[arg(long, required = true, num_args = 1.., value_name = "CONNECTION")]
    pub to: Vec<String>,
    /// The text, in Markdown
    #[arg(short, long, value_name = "TEXT", conflicts_with = "text_file")]
    pub message: Option<String>,
    /// A file with the text; `-` is standard input, which is also read when there is neither text nor file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text_file: Option<PathBuf>,
    /// Files to send with it, at most 5
    #[arg(short, long, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attach: Vec<PathBuf>,
    /// The message that this one answers
    #[arg(long, value_name = "MESSAGE")]
    pub reply_to: Option<String>,
    /// Ask the recipient to do something
    #[arg(long)]
    pub action_required: bool,
    /// Wanted delivered by then, as in 2h or 2026-11-20T14:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub deliver_by: Option<When>,
    /// Wanted read by then
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub read_by: Option<When>,
    /// Your own id for this send: the same again sends nothing twice
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Stay until every recipient's node has it, or until it is read there
    #[arg(long, value_enum, value_name = "STATUS")]
    pub wait: Option<WaitFor>,
    /// Stop waiting after this time, as in 30s; the message goes on
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_life)]
    pub timeout: Option<Duration>,
}

/// What `send --wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// The recipient's node stored it.
    Delivered,
    /// Somebody read it.
    Read,
}

/// `inbox`
#[derive(Args)]
pub struct InboxArgs {
    /// Also those that were read
    #[arg(long)]
    pub all: bool,
    /// How many, the newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// One message.
#[derive(Args)]
pub struct MessageArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE")]
    pub id: String,
}

/// `read`
#[derive(Args)]
pub struct ReadArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE", required = true)]
    pub ids: Vec<String>,
}

/// `status`
#[derive(Args)]
pub struct StatusArgs {
    /// CMG-…
    #[arg(value_name = "MESSAGE")]
    pub id: Option<String>,
}

/// `watch`
#[derive(Args)]
pub struct WatchArgs {
    /// Continue after this event, as the JSON output numbers them
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
}

/// `files …`
#[derive(Subcommand)]
pub enum FilesCommand {
    /// List them, the newest first
    List(FilesArgs),
    /// Fetch the files of a message, or one file, that did not come by themselves
    Fetch(FetchArgs),
    /// Save the files of a message, or one file, under a safe name
    Save(SaveArgs),
    /// Stop a file that is on its way
    Cancel(FileArgs),
}

/// `files list`
#[derive(Args)]
pub struct FilesArgs {
    /// How many, the newest first
    #[arg(long, default_value_t = LISTED_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// One file.
#[derive(Args)]
pub struct FileArgs {
    /// ATC-…
    #[arg(value_name = "FILE")]
    pub id: String,
}

/// `files fetch`
#[derive(Args)]
pub struct FetchArgs {
    /// CMG-… for all its files, ATC-… for one
    #[arg(value_name = "MESSAGE_OR_FILE")]
    pub id: String,
    /// Do not stay until they are here
    #[arg(long)]
    pub no_wait: bool,
}

/// `files save`
#[derive(Args)]
pub struct SaveArgs {
    /// CMG-… for all its files, ATC-… for one
    #[arg(value_name = "MESSAGE_OR_FILE")]
    pub id: String,
    /// The folder
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub to: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    /// Do not wait for files that are still on their way
    #[arg(long)]
    pub no_wait: bool,
}

/// `completions`
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| error.to_string())
}

/// Never fails: only the type keeps the token out of logs and clears it.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result")]
fn parse_secret(text: &str) -> Result<Zeroizing<String>, String> {
    Ok(Zeroizing::new(text.to_owned()))
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "not an address like 127.0.0.1:4680".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the local API listens on loopback only".to_owned())
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match name.len() {
        0 => Err("it is empty".to_owned()),
        _ if visible_line(name) != name => Err("it has control characters".to_owned()),
        1..=limits::CARD_NAME_BYTES_MAX => Ok(name.to_owned()),
        length => Err(format!(
            "it has {length} bytes, the limit is {}",
            limits::CARD_NAME_BYTES_MAX
        )),
    }
}

fn parse_note(text: &str) -> Result<String, String> {
    if text.len() <= limits::REQUEST_NOTE_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(format!(
        "it has {} bytes, the limit is {}",
        text.len(),
        limits::REQUEST_NOTE_BYTES_MAX
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["sealpost"], line].concat())
    }

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn several_recipients_and_files() {
        let line = [
            "send", "--to", "Bolt", "Cargo", "--to", "Dock", "-m", "hi", "-a", "a.pdf", "b.png",
            "--json",
        ];
        let Command::Ask(Ask::Send(send)) = parsed(&line).unwrap().command else {
            panic!()
        };
        assert_eq!((send.to.len(), send.attach.len()), (3, 2));
        assert_eq!(send.message.as_deref(), Some("hi"));
    }

    #[test]
    fn lists_are_the_default() {
        for (line, lists) in [
            (vec!["connections"], true),
            (vec!["connections", "accept", "Bolt"], false),
        ] {
            let Command::Ask(Ask::Connections { command }) = parsed(&line).unwrap().command else {
                panic!()
            };
            assert_eq!(command.is_none(), lists);
        }
    }

    #[test]
    fn wrong_use_is_refused() {
        for line in [
            vec!["send", "-m", "hi"],
            vec!["send", "--to", "Bolt", "-m", "hi", "-t", "x"],
            vec!["send", "--to", "Bolt", "-m", "hi", "--timeout", "3s"],
            vec!["invite", "--contact", "--expires", "7d"],
            vec!["init", "--name", "A", "--relay", "relay.example"],
            vec![
                "init",
                "--name",
                "A",
                "--relay",
                "https://r.example",
                "--listen",
                "0.0.0.0:4680",
            ],
            vec![
                "init",
                "--name",
                "A",
                "--relay",
                "https://r.example",
                "--webhook-url",
                "https://a.example",
            ],
            vec!["inbox", "--limit", "501"],
        ] {
            assert_eq!(
                parsed(&line).err().map(|error| error.exit_code()),
                Some(2),
                "{line:?}"
            );
        }
    }
}
