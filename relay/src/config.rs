//! The relay's configuration: flags over environment over file over defaults.

use clap::{Args, Parser, Subcommand};
use sealpost_egress::IpRange;
use sealpost_proto::{Origin, wire::RegistrationPolicy};
use sealpost_relay_core::Quotas;
use sealpost_service::{config, logs::LogFormat};
use serde::Deserialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

const PORT: u16 = 8440;
const DATA: &str = "sealpost-relay-data";
const FILTER: &str = "info";

/// The relay between Sealpost nodes: it stores sealed envelopes and hands them over, and can read none of them.
#[derive(Debug, Parser)]
#[command(name = "sealpost-relay", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay until Ctrl-C
    Serve(Box<ServeArgs>),
}

/// What can be said on the command line or in the environment.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML); see relay.example.toml
    #[arg(long, env = "SEALPOST_RELAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "SEALPOST_RELAY_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Folder for everything the relay keeps
    #[arg(long, env = "SEALPOST_RELAY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where nodes find the relay, for example `https://relay.example`
    #[arg(long, env = "SEALPOST_RELAY_PUBLIC_URL", value_name = "ORIGIN")]
    pub public_url: Option<Origin>,
    /// Inside address range that webhooks may have, for example 10.0.0.0/8 (can be repeated)
    #[arg(long, env = "SEALPOST_RELAY_EGRESS_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub egress_allow: Vec<IpRange>,
    /// Who may register: open, token or closed
    #[arg(long, env = "SEALPOST_RELAY_REGISTRATION", value_name = "POLICY", value_parser = policy)]
    pub registration: Option<RegistrationPolicy>,
    /// A token that lets a node register (can be repeated)
    #[arg(
        long = "registration-token",
        env = "SEALPOST_RELAY_REGISTRATION_TOKEN",
        value_name = "TOKEN",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub registration_tokens: Vec<String>,
    /// Form of the log lines: human or json
    #[arg(long, env = "SEALPOST_RELAY_LOG", value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// Level of the log lines, for example info,sealpost_relay=debug
    #[arg(long, env = "SEALPOST_RELAY_LOG_FILTER", value_name = "FILTER")]
    pub log_filter: Option<String>,
}

fn policy(text: &str) -> Result<RegistrationPolicy, String> {
    match text {
        "open" => Ok(RegistrationPolicy::Open),
        "token" => Ok(RegistrationPolicy::Token),
        "closed" => Ok(RegistrationPolicy::Closed),
        _ => Err("the policy is open, token or closed".to_owned()),
    }
}

/// The configuration file. Everything in it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    data: Option<PathBuf>,
    public_url: Option<Origin>,
    egress: EgressSection,
    registration: RegistrationSection,
    log: LogSection,
    quotas: Quotas,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EgressSection {
    allow: Vec<IpRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RegistrationSection {
    policy: Option<RegistrationPolicy>,
    tokens: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LogSection {
    format: Option<LogFormat>,
    filter: Option<String>,
}

/// Everything the relay is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Folder for everything it keeps.
    pub data: PathBuf,
    /// Where nodes find it; absent: `http://` and the address it listens on, which must then be a loopback one.
    pub public_url: Option<Origin>,
    /// Inside addresses that webhooks may have.
    pub egress_allow: Vec<IpRange>,
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// The tokens that let a node register.
    pub registration_tokens: Vec<String>,
    /// Form of the log lines.
    pub log: LogFormat,
    /// Level of the log lines.
    pub log_filter: String,
    /// How much one account or mailbox may hold.
    pub quotas: Quotas,
}

impl Default for Config {
    fn default() -> Self {
        Self::over(File::default(), ServeArgs::default())
    }
}

impl Config {
    /// Puts file and command line together.
    ///
    /// # Errors
    /// [`config::ConfigError`] when the file cannot be used.
    pub fn load(args: ServeArgs) -> Result<Self, config::ConfigError> {
        Ok(Self::over(config::load(args.config.as_deref())?, args))
    }

    fn over(file: File, args: ServeArgs) -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        Self {
            listen: args.listen.or(file.listen).unwrap_or(loopback),
            data: args.data.or(file.data).unwrap_or_else(|| DATA.into()),
            public_url: args.public_url.or(file.public_url),
            egress_allow: either(args.egress_allow, file.egress.allow),
            registration: args.registration.or(file.registration.policy).unwrap_or(RegistrationPolicy::Closed),
            registration_tokens: either(args.registration_tokens, file.registration.tokens),
            log: args.log.or(file.log.format).unwrap_or_default(),
            log_filter: args.log_filter.or(file.log.filter).unwrap_or_else(|| FILTER.to_owned()),
            quotas: file.quotas,
        }
    }
}

fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_and_the_command_line_wins() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
        let cli = Cli::try_parse_from([
            "sealpost-relay",
            "serve",
            "--config",
            path,
            "--listen",
            "127.0.0.1:0",
            "--egress-allow",
            "127.0.0.0/8",
            "--registration",
            "open",
        ]);
        let Command::Serve(args) = cli.unwrap().command;
        let config = Config::load(*args).unwrap();
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.registration, RegistrationPolicy::Open);
        assert_eq!(config.egress_allow, ["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(config.public_url.unwrap().as_str(), "https://relay.example");
        assert_eq!(config.quotas, Quotas::default());
    }

    #[test]
    fn nobody_may_register_unless_the_operator_says_so() {
        assert_eq!(Config::default().registration, RegistrationPolicy::Closed);
    }
}
