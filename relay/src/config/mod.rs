//! The relay's configuration: flags over environment variables over the file over defaults.
//!
//! To add a setting: a field in its section below, whose `id` is `section.name`, with a doc comment and a default;
//! the same key in `relay.example.toml` (a test asks for it). The flag `--section-name` and the variable
//! `SEALPOST_RELAY_SECTION_NAME` follow, and `config show` lists it.

use crate::AdminListen;
use clap::Args;
use sealpost_egress::IpRange;
use sealpost_proto::{Origin, limits, wire::RegistrationPolicy};
use sealpost_relay_core::space::Reserve;
use sealpost_service::{
    config::{self, Settings},
    logs::LogFormat,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// What the command line and the environment say of the configuration.
pub type Told = config::Told<Config>;

/// Everything the relay is told.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(
        id = "listen",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8440"
    )]
    pub listen: SocketAddr,
    /// Folder for everything the relay keeps
    #[arg(id = "data", value_name = "DIR", default_value = "sealpost-relay-data")]
    pub data: PathBuf,
    /// Where nodes find the relay, for example `https://relay.example`; may be left out when it listens on loopback
    #[arg(id = "public_url", value_name = "ORIGIN")]
    pub public_url: Option<Origin>,
    /// Section `admin`.
    #[command(flatten)]
    pub admin: Admin,
    /// Section `listener`.
    #[command(flatten)]
    pub listener: Listener,
    /// Section `tls`.
    #[command(flatten)]
    pub tls: Tls,
    /// Section `acme`.
    #[command(flatten)]
    pub acme: Acme,
    /// Section `egress`.
    #[command(flatten)]
    pub egress: Egress,
    /// Section `registration`.
    #[command(flatten)]
    pub registration: Registration,
    /// Section `log`.
    #[command(flatten)]
    pub log: Log,
    /// Section `quotas`.
    #[command(flatten)]
    pub quotas: Quotas,
    /// Section `rates`.
    #[command(flatten)]
    pub rates: Rates,
    /// Section `storage`.
    #[command(flatten)]
    pub storage: Storage,
}

/// The operator's API and status page.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where the operator's API listens: an address, `unix:PATH`, or off; port 0 takes a free one
    #[arg(id = "admin.listen", value_name = "PLACE", default_value_t)]
    pub listen: AdminListen,
}

/// Who may be connected.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Connections at a time; each long poll needs one
    #[arg(id = "listener.connections", value_name = "COUNT", default_value_t = limits::LISTENER_CONNECTIONS_MAX)]
    pub connections: usize,
    /// Connections at a time from one IPv4 address or IPv6 network of 64 bits; loopback is not counted
    #[arg(
        id = "listener.connections_per_address",
        value_name = "COUNT",
        default_value_t = limits::LISTENER_CONNECTIONS_PER_ADDRESS_MAX
    )]
    pub connections_per_address: usize,
}

/// TLS without a proxy.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File with the certificate and those above it (PEM); empty: no TLS, a proxy speaks it
    #[arg(id = "tls.certificate", value_name = "FILE", default_value = "")]
    pub certificate: String,
    /// File with the certificate's key (PEM)
    #[arg(id = "tls.key", value_name = "FILE", default_value = "")]
    pub key: String,
}

/// A certificate from an authority.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// Directory URL of an authority that gives the certificate (RFC 8555); empty: none is asked
    #[arg(id = "acme.directory", value_name = "URL", default_value = "")]
    pub directory: String,
    /// Mail address that the authority may write to; empty: it gets none
    #[arg(id = "acme.contact", value_name = "ADDRESS", default_value = "")]
    pub contact: String,
    /// `agreed` once you have read the authority's terms of service and agree to them
    #[arg(id = "acme.terms", value_name = "agreed", default_value = "")]
    pub terms: String,
}

/// Where webhooks may be.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Inside address range that webhooks may have, for example 10.0.0.0/8 (can be repeated)
    #[arg(id = "egress.allow", value_name = "CIDR", value_delimiter = ',')]
    pub allow: Vec<IpRange>,
}

/// Who may register.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Who may register: open, token or closed
    #[arg(
        id = "registration.policy",
        long = "registration",
        env = "SEALPOST_RELAY_REGISTRATION",
        value_name = "POLICY",
        value_parser = policy,
        default_value = "closed"
    )]
    pub policy: RegistrationPolicy,
    /// A token that lets a node register (can be repeated)
    #[arg(
        id = "registration.tokens",
        long = "registration-token",
        env = "SEALPOST_RELAY_REGISTRATION_TOKEN",
        value_name = "TOKEN",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub tokens: Vec<String>,
}

/// What is written to standard error.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Form of the log lines: human or json
    #[arg(
        id = "log.format",
        long = "log",
        env = "SEALPOST_RELAY_LOG",
        value_name = "FORMAT",
        default_value = "human"
    )]
    pub format: LogFormat,
    /// Level of the log lines, for example info,sealpost_relay=debug
    #[arg(id = "log.filter", value_name = "FILTER", default_value = "info")]
    pub filter: String,
}

/// How much one account or mailbox may hold.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Envelopes that may wait in one mailbox
    #[arg(id = "quotas.mailbox_envelopes", value_name = "COUNT", default_value_t = limits::MAILBOX_ENVELOPES_MAX)]
    pub mailbox_envelopes: u64,
    /// Bytes of envelopes that may wait in one mailbox
    #[arg(id = "quotas.mailbox_bytes", value_name = "BYTES", default_value_t = limits::MAILBOX_BYTES_MAX)]
    pub mailbox_bytes: u64,
    /// Envelopes that may wait in all mailboxes of one account
    #[arg(id = "quotas.account_envelopes", value_name = "COUNT", default_value_t = limits::ACCOUNT_ENVELOPES_MAX)]
    pub account_envelopes: u64,
    /// Bytes of envelopes that may wait in all mailboxes of one account
    #[arg(id = "quotas.account_bytes", value_name = "BYTES", default_value_t = limits::ACCOUNT_BYTES_MAX)]
    pub account_bytes: u64,
    /// Open mailboxes of one account
    #[arg(id = "quotas.account_mailboxes", value_name = "COUNT", default_value_t = limits::ACCOUNT_MAILBOXES_MAX)]
    pub account_mailboxes: u64,
    /// Blobs of one account
    #[arg(id = "quotas.account_blobs", value_name = "COUNT", default_value_t = limits::ACCOUNT_BLOBS_MAX)]
    pub account_blobs: u64,
    /// Bytes of all blobs of one account, announced sizes included
    #[arg(id = "quotas.account_blob_bytes", value_name = "BYTES", default_value_t = limits::ACCOUNT_BLOB_BYTES_MAX)]
    pub account_blob_bytes: u64,
    /// Bytes of one blob
    #[arg(id = "quotas.blob_bytes", value_name = "BYTES", default_value_t = limits::BLOB_BYTES_MAX)]
    pub blob_bytes: u64,
}

/// How often the relay may be asked; a rate of 0 is none.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Requests of one account in a second, over time; 0 for as many as it likes
    #[arg(id = "rates.requests_per_second", value_name = "COUNT", default_value_t = limits::REQUESTS_PER_SECOND_MAX)]
    pub requests_per_second: u32,
    /// Requests of one account at once
    #[arg(id = "rates.requests_burst", value_name = "COUNT", default_value_t = limits::REQUESTS_BURST_MAX)]
    pub requests_burst: u32,
    /// Envelopes of one account in a minute; 0 for as many as it likes
    #[arg(id = "rates.envelopes_per_minute", value_name = "COUNT", default_value_t = limits::ENVELOPES_PER_MINUTE_MAX)]
    pub envelopes_per_minute: u32,
    /// Bytes of parts of blobs that one account uploads in a day; 0 for as many as it likes
    #[arg(id = "rates.blob_bytes_per_day", value_name = "BYTES", default_value_t = limits::BLOB_BYTES_PER_DAY_MAX)]
    pub blob_bytes_per_day: u64,
    /// Requests in a minute from one address that has no session; 0 for as many as it likes
    #[arg(
        id = "rates.address_requests_per_minute",
        value_name = "COUNT",
        default_value_t = limits::ADDRESS_REQUESTS_PER_MINUTE_MAX
    )]
    pub address_requests_per_minute: u32,
    /// Range of proxies whose X-Forwarded-For is believed (can be repeated)
    #[arg(
        id = "rates.trusted_proxies",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    pub trusted_proxies: Vec<IpRange>,
}

/// What of the disk is kept for finishing what was accepted.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Bytes of the disk that are kept for finishing what was accepted
    #[arg(id = "storage.reserve_bytes", value_name = "BYTES", default_value_t = limits::STORAGE_RESERVE_BYTES)]
    pub reserve_bytes: u64,
    /// Percent of the disk that those bytes are at most
    #[arg(id = "storage.reserve_percent", value_name = "PERCENT", default_value_t = limits::STORAGE_RESERVE_PERCENT)]
    pub reserve_percent: u8,
}

impl Storage {
    /// The reserve.
    #[must_use]
    pub const fn reserve(&self) -> Reserve {
        Reserve {
            bytes: self.reserve_bytes,
            percent: self.reserve_percent,
        }
    }
}

impl Settings for Config {
    const PREFIX: &'static str = "SEALPOST_RELAY_";
}

impl Default for Config {
    #[expect(
        clippy::expect_used,
        reason = "a test parses the defaults, which are constants"
    )]
    fn default() -> Self {
        config::defaults().expect("the defaults parse")
    }
}

impl From<&Quotas> for sealpost_relay_core::Quotas {
    fn from(quotas: &Quotas) -> Self {
        let Quotas {
            mailbox_envelopes,
            mailbox_bytes,
            account_envelopes,
            account_bytes,
            account_mailboxes,
            account_blobs,
            account_blob_bytes,
            blob_bytes,
        } = *quotas;
        Self {
            mailbox_envelopes,
            mailbox_bytes,
            account_envelopes,
            account_bytes,
            account_mailboxes,
            account_blobs,
            account_blob_bytes,
            blob_bytes,
        }
    }
}

impl From<&Rates> for sealpost_relay_core::rates::Rates {
    fn from(rates: &Rates) -> Self {
        let Rates {
            requests_per_second,
            requests_burst,
            envelopes_per_minute,
            blob_bytes_per_day,
            address_requests_per_minute,
            trusted_proxies: _,
        } = *rates;
        Self {
            requests_per_second,
            requests_burst,
            envelopes_per_minute,
            blob_bytes_per_day,
            address_requests_per_minute,
        }
    }
}

fn policy(text: &str) -> Result<RegistrationPolicy, String> {
    match text {
        "open" => Ok(RegistrationPolicy::Open),
        "token" => Ok(RegistrationPolicy::Token),
        "closed" => Ok(RegistrationPolicy::Closed),
        _ => Err("the policy is open, token or closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::{CommandFactory as _, Parser as _};
    use sealpost_service::config::{Loaded, Setting};

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
    /// What the example sets to something else than the default, because the default is no example.
    const EXAMPLES: [&str; 4] = [
        "data",
        "public_url",
        "registration.policy",
        "registration.tokens",
    ];

    fn loaded(args: &[&str]) -> Loaded<Config> {
        let cli = Cli::try_parse_from(["sealpost-relay", "serve"].iter().chain(args)).unwrap();
        let Command::Serve(told) = cli.command else {
            panic!("serve was asked for")
        };
        told.load().unwrap()
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let allow = ["--egress-allow", "127.0.0.0/8", "--quotas-blob-bytes", "7"];
        let args = [
            &[
                "--config",
                EXAMPLE,
                "--listen",
                "127.0.0.1:0",
                "--registration",
                "open",
            ],
            &allow[..],
        ]
        .concat();
        let config = loaded(&args).config;
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.registration.policy, RegistrationPolicy::Open);
        assert_eq!(config.egress.allow, ["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(config.quotas.blob_bytes, 7);
        assert_eq!(config.public_url.unwrap().as_str(), "https://relay.example");
    }

    #[test]
    fn the_example_shows_every_setting_with_its_default_or_an_example() {
        let defaults = loaded(&[]).settings;
        for (setting, default) in loaded(&["--config", EXAMPLE])
            .settings
            .iter()
            .zip(&defaults)
        {
            let Setting { key, origin, .. } = setting;
            assert!(
                matches!(origin, config::Origin::File { .. }),
                "{key} is missing in relay.example.toml"
            );
            assert_eq!(
                setting.shown() == default.shown(),
                !EXAMPLES.contains(&key.as_str()),
                "{setting:?}"
            );
        }
    }

    #[test]
    fn nobody_may_register_unless_the_operator_says_so() {
        assert_eq!(
            Config::default().registration.policy,
            RegistrationPolicy::Closed
        );
        assert_eq!(
            sealpost_relay_core::Quotas::from(&Config::default().quotas),
            sealpost_relay_core::Quotas::default()
        );
        let rates = sealpost_relay_core::rates::Rates::from(&Config::default().rates);
        assert_eq!(rates, sealpost_relay_core::rates::Rates::default());
        assert_eq!(Config::default().storage.reserve(), Reserve::default());
    }
}
