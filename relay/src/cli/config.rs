//! `sealpost-relay config show`: the settings in force and where each comes from.

use crate::config::Overrides;
use clap::{Args, Subcommand};
use sealpost_service::config::{format_json, format_toml};
use std::io::{Write as _, stdout};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show all settings in force, in the format of the configuration file
    Show(Box<ShowArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Show where each setting comes from
    #[arg(long)]
    origin: bool,
    /// Print values and origins as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(ConfigCommand::Show(args): &ConfigCommand) -> anyhow::Result<()> {
    let settings = args.overrides.load()?.settings;
    let text = if args.json {
        format_json(&settings)?
    } else {
        format_toml(&settings, args.origin)
    };
    Ok(stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use sealpost_service::config::Setting;

    fn settings(args: &[&str]) -> Vec<Setting> {
        let cli =
            Cli::try_parse_from(["sealpost-relay", "config", "show"].iter().chain(args)).unwrap();
        let Command::Config(ConfigCommand::Show(args)) = cli.command else {
            panic!("not `config show`")
        };
        args.overrides.load().unwrap().settings
    }

    #[test]
    fn output_is_an_equivalent_configuration_file() {
        let changed = [
            "--quotas-blob-bytes",
            "5",
            "--egress-allow",
            "10.0.0.0/8",
            "--public-url",
            "https://r.example",
        ];
        let before = settings(&changed);
        for with_origin in [false, true] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(format_toml(&before, with_origin).as_bytes())
                .unwrap();
            let after = settings(&["--config", file.path().to_str().unwrap()]);
            let values = |settings: &[Setting]| {
                settings
                    .iter()
                    .map(Setting::display_value)
                    .collect::<Vec<_>>()
            };
            assert_eq!(values(&after), values(&before));
        }
    }

    #[test]
    fn origins_are_shown_without_secrets() {
        let settings = settings(&["--registration-token", "open-sesame", "--log", "json"]);
        for text in [
            format_toml(&settings, true),
            format_json(&settings).unwrap(),
        ] {
            assert!(
                !text.contains("open-sesame") && text.contains("********"),
                "{text}"
            );
            assert!(
                text.contains("flag --log") && text.contains("default"),
                "{text}"
            );
        }
    }
}
