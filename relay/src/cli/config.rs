//! `config show`: every setting as it is in force, and where it comes from.

use crate::config::Told;
use clap::{Args, Subcommand};
use sealpost_service::config::Setting;
use std::{
    fmt::Write as _,
    io::{Write as _, stdout},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting as it is in force, in the form of the configuration file
    Show(Box<Show>),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Say where each setting comes from
    #[arg(long)]
    origin: bool,
    /// Show values and origins as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    told: Told,
}

pub(super) fn run(ConfigCommand::Show(show): &ConfigCommand) -> anyhow::Result<()> {
    let settings = show.told.load()?.settings;
    let text = if show.json {
        json(&settings)?
    } else {
        toml(&settings, show.origin)
    };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// Settings outside of sections are declared first, so this is a file that says the same.
fn toml(settings: &[Setting], with_origin: bool) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in settings {
        let Setting { key, origin, .. } = setting;
        let (of, name) = key.split_once('.').unwrap_or(("", key));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{section}]\n");
        }
        let line = match setting.shown() {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        };
        let _ = if with_origin {
            writeln!(text, "{line:<50} # {origin}")
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}

fn json(settings: &[Setting]) -> anyhow::Result<String> {
    let entry = |setting: &Setting| {
        let told =
            serde_json::json!({ "value": setting.shown(), "origin": setting.origin.to_string() });
        (setting.key.clone(), told)
    };
    let settings: serde_json::Map<_, _> = settings.iter().map(entry).collect();
    Ok(format!("{}\n", serde_json::to_string_pretty(&settings)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn settings(args: &[&str]) -> Vec<Setting> {
        let cli =
            Cli::try_parse_from(["sealpost-relay", "config", "show"].iter().chain(args)).unwrap();
        let Command::Config(ConfigCommand::Show(show)) = cli.command else {
            panic!("config show was asked for")
        };
        show.told.load().unwrap().settings
    }

    #[test]
    fn what_is_shown_is_a_file_that_says_the_same() {
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
            file.write_all(toml(&before, with_origin).as_bytes())
                .unwrap();
            let after = settings(&["--config", file.path().to_str().unwrap()]);
            let values =
                |settings: &[Setting]| settings.iter().map(Setting::shown).collect::<Vec<_>>();
            assert_eq!(values(&after), values(&before));
        }
    }

    #[test]
    fn secrets_are_masked_and_origins_named() {
        let settings = settings(&["--registration-token", "open-sesame", "--log", "json"]);
        for text in [toml(&settings, true), json(&settings).unwrap()] {
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
