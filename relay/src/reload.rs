//! New settings while the relay runs: the file is read again, what can change does so at once, the rest is named.

use crate::{
    config::{Config, Told},
    relay::Relay,
    rules::Rules,
};
use sealpost_service::{config::Loaded, logs::Logs};
use std::sync::Arc;

/// Settings, or sections of them, that take effect without a restart.
const AT_ONCE: [&str; 5] = [
    "egress.allow",
    "log.filter",
    "quotas",
    "rates",
    "registration",
];

/// Knows what is in force, and where news of it come from.
pub(crate) struct Reloader {
    /// What the command line and the environment say, and the file.
    pub(crate) told: Told,
    /// What is in force.
    pub(crate) loaded: Loaded<Config>,
    /// The level of the logs can change.
    pub(crate) logs: Logs,
    /// Its rules can change.
    pub(crate) relay: Arc<Relay>,
}

impl Reloader {
    /// Reads the settings again. When something is wrong with them, the old ones stay, all of them.
    pub(crate) fn reload(&mut self) {
        if let Some(certificates) = &self.relay.certificates {
            certificates.reload();
        }
        match self.try_reload() {
            Ok(later) if later.is_empty() => tracing::info!("the settings were read again"),
            Ok(later) => {
                tracing::warn!(
                    settings = later.join(", "),
                    "the settings were read again; these need a restart"
                );
            }
            Err(error) => {
                tracing::error!(%error, "the new settings are refused, the old ones stay")
            }
        }
    }

    /// Gives the settings that changed and need a restart. They are named each time, for they are not in force.
    fn try_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let new = self.told.load()?;
        let rules = Rules::new(&new.config)?;
        self.logs.refilter(&new.config.log.filter)?;
        self.relay.rules.store(Arc::new(rules));
        let changed = self.loaded.changed(&new).map(str::to_owned);
        Ok(changed.filter(|key| !takes_effect_at_once(key)).collect())
    }
}

fn takes_effect_at_once(key: &str) -> bool {
    AT_ONCE.iter().any(|one| {
        key.strip_prefix(one)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        serve::start,
    };
    use clap::Parser as _;
    use sealpost_proto::wire::RegistrationPolicy;
    use sealpost_service::{
        Shutdown, SystemClock,
        config::defaults,
        logs::{self, LogFormat},
    };
    use std::{fs, time::Duration};

    #[tokio::test]
    async fn what_can_change_does_so_and_a_mistake_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relay.toml");
        let (path, data) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
        fs::write(&file, "[registration]\npolicy = \"closed\"\n").unwrap();
        let args = [
            "sealpost-relay",
            "serve",
            "--config",
            path,
            "--data",
            data,
            "--listen",
            "127.0.0.1:0",
        ];
        let Command::Serve(told) = Cli::try_parse_from(args).unwrap().command else {
            panic!("serve was asked for")
        };
        let loaded = told.load().unwrap();
        let shutdown = Shutdown::new();
        let running = start(
            loaded.config.clone(),
            Arc::new(SystemClock),
            shutdown.clone(),
        )
        .await
        .unwrap();
        let relay = running.relay();
        let logs = logs::init(LogFormat::Human, "off").unwrap();
        let mut reloader = Reloader {
            told: *told,
            loaded,
            logs,
            relay: Arc::clone(&relay),
        };

        fs::write(&file, "[registration]\npolicy = \"open\"\n[quotas]\nblob_bytes = 7\n[log]\nformat = \"json\"\n")
            .unwrap();
        assert_eq!(reloader.try_reload().unwrap(), ["log.format"]);
        let in_force = || {
            (
                relay.rules().registration.policy,
                relay.rules().quotas.blob_bytes,
            )
        };
        assert_eq!(in_force(), (RegistrationPolicy::Open, 7));
        for (mistake, word) in [
            ("[registration]\npolicy = \"opne\"\n", "line 2"),
            ("[quotas]\nblob_bites = 8\n", "blob_bites"),
            (
                "[log]\nfilter = \"a=b=c\"\n[quotas]\nblob_bytes = 8\n",
                "a=b=c",
            ),
        ] {
            fs::write(&file, mistake).unwrap();
            let error = reloader.try_reload().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(in_force(), (RegistrationPolicy::Open, 7));
        }
        assert!(
            relay.moves_within(Duration::from_secs(3_600)) && !relay.moves_within(Duration::ZERO)
        );
        shutdown.trigger();
        assert!(
            relay.moves_within(Duration::ZERO),
            "one that stops is not stuck"
        );
        running.ended().await;
    }

    #[test]
    fn every_name_is_one_of_a_setting_or_a_section() {
        let keys = toml::Table::try_from(defaults::<Config>().unwrap()).unwrap();
        for name in AT_ONCE {
            let found = name
                .split('.')
                .try_fold(toml::Value::Table(keys.clone()), |at, part| {
                    at.get(part).cloned()
                });
            assert!(found.is_some(), "{name}");
        }
        assert!(takes_effect_at_once("quotas.blob_bytes") && takes_effect_at_once("log.filter"));
        assert!(!takes_effect_at_once("log.format") && !takes_effect_at_once("quotas_of_others"));
    }
}
