//! Configuration of the relay. Flags take precedence over environment variables, which take
//! precedence over the file, then the defaults.
//!
//! To add a setting, add a field with a doc comment and a default to its section below, with
//! `section.name` as its `id`, and add the key to `relay.example.toml`, which a test requires. The
//! flag `--section-name`, the variable `SEALPOST_RELAY_SECTION_NAME` and the output of
//! `config show` follow from the field, unless the field sets `long` or `env`.

mod admin_listen;

pub use admin_listen::{AdminListen, ParseAdminListenError};

use clap::Args;
use sealpost_egress::IpRange;
use sealpost_proto::{Origin, limits, wire::RegistrationPolicy};
use sealpost_relay_core::space::Reserve;
use sealpost_service::{
    config::{self, ByteSize, Settings},
    logs::LogFormat,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// Settings from the command line and the environment.
pub type Overrides = config::Overrides<Config>;

/// All settings of the relay.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 selects a free port
    #[arg(
        id = "listen",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8440"
    )]
    pub listen: SocketAddr,
    /// Data directory
    #[arg(id = "data", value_name = "DIR", default_value = "sealpost-relay-data")]
    pub data: PathBuf,
    /// Public URL that nodes use, for example `https://relay.example`; required unless the relay
    /// listens on loopback
    #[arg(id = "public_url", value_name = "ORIGIN")]
    pub public_url: Option<Origin>,
    /// Page from which your partners can get Sealpost; the invite page links to it. May be empty
    #[arg(id = "download_url", value_name = "URL", default_value = "")]
    pub download_url: String,
    #[command(flatten)]
    pub admin: Admin,
    #[command(flatten)]
    pub listener: Listener,
    #[command(flatten)]
    pub tls: Tls,
    #[command(flatten)]
    pub acme: Acme,
    #[command(flatten)]
    pub egress: Egress,
    #[command(flatten)]
    pub registration: Registration,
    #[command(flatten)]
    pub log: Log,
    #[command(flatten)]
    pub quotas: Quotas,
    #[command(flatten)]
    pub rates: Rates,
    #[command(flatten)]
    pub storage: Storage,
}

/// Admin API and status page.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address of the admin API, `unix:PATH`, or `off`; port 0 selects a free port
    #[arg(
        id = "admin.listen",
        value_name = "ADDRESS:PORT|unix:PATH|off",
        default_value_t
    )]
    pub listen: AdminListen,
}

/// Limits of the public listener.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Maximum number of open connections; each long poll uses one
    #[arg(
        id = "listener.connections",
        value_name = "COUNT",
        default_value_t = limits::LISTENER_CONNECTIONS_MAX
    )]
    pub connections: usize,
    /// Maximum number of open connections from one IPv4 address or IPv6 /64; loopback is
    /// not limited
    #[arg(
        id = "listener.connections_per_address",
        value_name = "COUNT",
        default_value_t = limits::LISTENER_CONNECTIONS_PER_ADDRESS_MAX
    )]
    pub connections_per_address: usize,
}

/// TLS termination in the relay.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain in PEM format; empty if a proxy terminates TLS
    #[arg(id = "tls.certificate", value_name = "FILE", default_value = "")]
    pub certificate: String,
    /// Private key of the certificate in PEM format
    #[arg(id = "tls.key", value_name = "FILE", default_value = "")]
    pub key: String,
}

/// Certificate from a certificate authority (ACME).
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// ACME directory URL of the certificate authority (RFC 8555); empty to disable ACME
    #[arg(id = "acme.directory", value_name = "URL", default_value = "")]
    pub directory: String,
    /// Email address for notices from the certificate authority; may be empty
    #[arg(id = "acme.contact", value_name = "EMAIL", default_value = "")]
    pub contact: String,
    /// Set to `agreed` to accept the authority's terms of service
    #[arg(id = "acme.terms", value_name = "agreed", default_value = "")]
    pub terms: String,
}

/// Webhook calls.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Private address range that webhooks may use, for example 10.0.0.0/8 (can be repeated)
    #[arg(id = "egress.allow", value_name = "CIDR", value_delimiter = ',')]
    pub allow: Vec<IpRange>,
    /// Private certificate authorities in PEM format that webhooks may use, besides the public ones
    #[arg(id = "egress.ca_file", value_name = "FILE", default_value = "")]
    pub ca_file: String,
}

/// Registration of accounts.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Registration policy: open, token or closed
    #[arg(
        id = "registration.policy",
        long = "registration",
        env = "SEALPOST_RELAY_REGISTRATION",
        value_name = "POLICY",
        value_parser = parse_policy,
        default_value = "closed"
    )]
    pub policy: RegistrationPolicy,
    /// Registration token (can be repeated)
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

/// Log output on standard error.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Log format: human or json
    #[arg(
        id = "log.format",
        long = "log",
        env = "SEALPOST_RELAY_LOG",
        value_name = "FORMAT",
        default_value = "human"
    )]
    pub format: LogFormat,
    /// Log levels, for example info,sealpost_relay=debug
    #[arg(id = "log.filter", value_name = "FILTER", default_value = "info")]
    pub filter: String,
}

/// Storage quotas of accounts and mailboxes.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Maximum number of envelopes queued in one mailbox
    #[arg(
        id = "quotas.mailbox_envelopes",
        value_name = "COUNT",
        default_value_t = limits::MAILBOX_ENVELOPES_MAX
    )]
    pub mailbox_envelopes: u64,
    /// Maximum size of the envelopes queued in one mailbox
    #[arg(
        id = "quotas.mailbox_bytes",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::MAILBOX_BYTES_MAX)
    )]
    pub mailbox_bytes: ByteSize,
    /// Maximum number of envelopes queued in all mailboxes of one account
    #[arg(
        id = "quotas.account_envelopes",
        value_name = "COUNT",
        default_value_t = limits::ACCOUNT_ENVELOPES_MAX
    )]
    pub account_envelopes: u64,
    /// Maximum size of the envelopes queued in all mailboxes of one account
    #[arg(
        id = "quotas.account_bytes",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::ACCOUNT_BYTES_MAX)
    )]
    pub account_bytes: ByteSize,
    /// Maximum number of open mailboxes of one account
    #[arg(
        id = "quotas.account_mailboxes",
        value_name = "COUNT",
        default_value_t = limits::ACCOUNT_MAILBOXES_MAX
    )]
    pub account_mailboxes: u64,
    /// Maximum number of blobs of one account
    #[arg(
        id = "quotas.account_blobs",
        value_name = "COUNT",
        default_value_t = limits::ACCOUNT_BLOBS_MAX
    )]
    pub account_blobs: u64,
    /// Maximum size of all blobs of one account, including unfinished uploads
    #[arg(
        id = "quotas.account_blob_bytes",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::ACCOUNT_BLOB_BYTES_MAX)
    )]
    pub account_blob_bytes: ByteSize,
    /// Maximum size of one blob
    #[arg(
        id = "quotas.blob_bytes",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::BLOB_BYTES_MAX)
    )]
    pub blob_bytes: ByteSize,
}

/// Rate limits; 0 disables a limit.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Average number of requests per second by one account; 0 for no limit
    #[arg(
        id = "rates.requests_per_second",
        value_name = "COUNT",
        default_value_t = limits::REQUESTS_PER_SECOND_MAX
    )]
    pub requests_per_second: u32,
    /// Maximum burst of requests by one account
    #[arg(
        id = "rates.requests_burst",
        value_name = "COUNT",
        default_value_t = limits::REQUESTS_BURST_MAX
    )]
    pub requests_burst: u32,
    /// Envelopes per minute submitted by one account; 0 for no limit
    #[arg(
        id = "rates.envelopes_per_minute",
        value_name = "COUNT",
        default_value_t = limits::ENVELOPES_PER_MINUTE_MAX
    )]
    pub envelopes_per_minute: u32,
    /// Size of the blob parts uploaded per day by one account; 0 for no limit
    #[arg(
        id = "rates.blob_bytes_per_day",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::BLOB_BYTES_PER_DAY_MAX)
    )]
    pub blob_bytes_per_day: ByteSize,
    /// Requests without a session per minute from one IP address; 0 for no limit
    #[arg(
        id = "rates.address_requests_per_minute",
        value_name = "COUNT",
        default_value_t = limits::ADDRESS_REQUESTS_PER_MINUTE_MAX
    )]
    pub address_requests_per_minute: u32,
    /// Address range of proxies whose X-Forwarded-For header is trusted (can be repeated)
    #[arg(
        id = "rates.trusted_proxies",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    pub trusted_proxies: Vec<IpRange>,
}

/// Disk space that is reserved for finishing accepted work.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Disk space that is reserved for finishing accepted work; below it the relay refuses new data
    #[arg(
        id = "storage.reserve_bytes",
        value_name = "SIZE",
        default_value_t = ByteSize::from_bytes(limits::STORAGE_RESERVE_BYTES)
    )]
    pub reserve_bytes: ByteSize,
    /// Maximum of the reserve as a percentage of the disk
    #[arg(
        id = "storage.reserve_percent",
        value_name = "PERCENT",
        default_value_t = limits::STORAGE_RESERVE_PERCENT
    )]
    pub reserve_percent: u8,
}

impl Storage {
    pub(crate) const fn reserve(&self) -> Reserve {
        Reserve {
            bytes: self.reserve_bytes.bytes(),
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
        reason = "the defaults are constants, and a test parses them"
    )]
    fn default() -> Self {
        config::load_defaults().expect("the defaults parse")
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
            mailbox_bytes: mailbox_bytes.bytes(),
            account_envelopes,
            account_bytes: account_bytes.bytes(),
            account_mailboxes,
            account_blobs,
            account_blob_bytes: account_blob_bytes.bytes(),
            blob_bytes: blob_bytes.bytes(),
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
            blob_bytes_per_day: blob_bytes_per_day.bytes(),
            address_requests_per_minute,
        }
    }
}

fn parse_policy(text: &str) -> Result<RegistrationPolicy, String> {
    match text {
        "open" => Ok(RegistrationPolicy::Open),
        "token" => Ok(RegistrationPolicy::Token),
        "closed" => Ok(RegistrationPolicy::Closed),
        _ => Err("expected open, token or closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::{CommandFactory as _, Parser as _};
    use sealpost_service::config::{LoadedConfig, Setting};
    use std::io::Write as _;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
    /// Settings that differ from their defaults in the example file.
    const EXAMPLES: [&str; 4] = [
        "data",
        "public_url",
        "registration.policy",
        "registration.tokens",
    ];

    fn loaded(args: &[&str]) -> LoadedConfig<Config> {
        let cli = Cli::try_parse_from(["sealpost-relay", "serve"].iter().chain(args)).unwrap();
        let Command::Serve(overrides) = cli.command else {
            panic!("not `serve`")
        };
        overrides.load().unwrap()
    }

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_the_file() {
        let allow = [
            "--egress-allow",
            "127.0.0.0/8",
            "--quotas-blob-bytes",
            "7 MB",
        ];
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
        assert_eq!(config.quotas.blob_bytes, ByteSize::from_bytes(7_000_000));
        assert_eq!(config.public_url.unwrap().as_str(), "https://relay.example");
    }

    #[test]
    fn example_file_contains_all_settings() {
        let defaults = loaded(&[]).settings;
        for (setting, default) in loaded(&["--config", EXAMPLE])
            .settings
            .iter()
            .zip(&defaults)
        {
            let Setting { key, source, .. } = setting;
            assert!(
                matches!(source, config::SettingSource::File { .. }),
                "{key} is missing from relay.example.toml"
            );
            assert_eq!(
                setting.display_value() == default.display_value(),
                !EXAMPLES.contains(&key.as_str()),
                "{setting:?}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[quotas]\nblob_bites = \"8 MB\"\n")
            .unwrap();
        let path = file.path().to_str().unwrap();
        let cli = Cli::try_parse_from(["sealpost-relay", "serve", "--config", path]).unwrap();
        let Command::Serve(overrides) = cli.command else {
            panic!("not `serve`")
        };
        let error = overrides.load().unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("quotas.blob_bytes"),
            "{error}"
        );
    }

    #[test]
    fn registration_is_closed_by_default() {
        assert_eq!(
            Config::default().registration.policy,
            RegistrationPolicy::Closed
        );
    }

    #[test]
    fn defaults_equal_those_of_relay_core() {
        assert_eq!(
            sealpost_relay_core::Quotas::from(&Config::default().quotas),
            sealpost_relay_core::Quotas::default()
        );
        let rates = sealpost_relay_core::rates::Rates::from(&Config::default().rates);
        assert_eq!(rates, sealpost_relay_core::rates::Rates::default());
        assert_eq!(Config::default().storage.reserve(), Reserve::default());
    }
}
