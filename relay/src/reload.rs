//! Reload of the configuration while the relay runs: settings that can change take effect, others
//! are reported.

use crate::{
    config::{Config, Overrides},
    listener::Certificates,
    settings::{LiveSettings, Settings},
};
use sealpost_service::{config::LoadedConfig, logs::Logs};

/// Settings, or sections of them, that take effect without a restart.
const RELOADABLE: [&str; 6] = [
    "download_url",
    "egress",
    "log.filter",
    "quotas",
    "rates",
    "registration",
];

/// Reloader of the configuration.
pub(crate) struct Reloader {
    /// Command line and environment, with the path of the file.
    pub(crate) overrides: Overrides,
    /// Configuration that the relay was started with.
    pub(crate) loaded: LoadedConfig<Config>,
    pub(crate) logs: Logs,
    pub(crate) settings: LiveSettings,
    pub(crate) certificates: Option<Certificates>,
}

impl Reloader {
    /// Reloads the configuration. If any of it is invalid, all current settings stay in force.
    pub(crate) fn reload(&mut self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        match self.try_reload() {
            Ok(pending) if pending.is_empty() => tracing::info!("the configuration was reloaded"),
            Ok(pending) => {
                tracing::warn!(
                    settings = pending.join(", "),
                    "the configuration was reloaded; these settings need a restart"
                );
            }
            Err(error) => {
                tracing::error!(%error, "the new configuration is invalid, the current one stays \
                    in force");
            }
        }
    }

    /// Returns the changed settings that need a restart. Each reload reports them again until then.
    fn try_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let new = self.overrides.load()?;
        let settings = Settings::new(&new.config)?;
        self.logs.set_filter(&new.config.log.filter)?;
        self.settings.replace(settings);
        let changed = self.loaded.changed_keys(&new).map(str::to_owned);
        Ok(changed.filter(|key| !is_reloadable(key)).collect())
    }
}

fn is_reloadable(key: &str) -> bool {
    RELOADABLE.iter().any(|prefix| {
        key.strip_prefix(prefix)
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
        config::load_defaults,
        logs::{self, LogFormat},
    };
    use std::{fs, sync::Arc, time::Duration};

    #[tokio::test]
    async fn only_valid_changes_are_applied() {
        let directory = crate::data_layout::temporary_data_directory();
        let file = directory.path().join("relay.toml");
        let (path, data) = (file.to_str().unwrap(), directory.path().to_str().unwrap());
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
        let Command::Serve(overrides) = Cli::try_parse_from(args).unwrap().command else {
            panic!("not `serve`")
        };
        let loaded = overrides.load().unwrap();
        let shutdown = Shutdown::new();
        let running = start(
            loaded.config.clone(),
            Arc::new(SystemClock),
            shutdown.clone(),
        )
        .await
        .unwrap();
        let logs = logs::init(LogFormat::Human, "off").unwrap();
        let mut reloader = Reloader {
            overrides: *overrides,
            loaded,
            logs,
            settings: running.settings(),
            certificates: None,
        };

        fs::write(
            &file,
            "[registration]\npolicy = \"open\"\n[quotas]\nblob_bytes = \
            7\n[log]\nformat = \"json\"\n",
        )
        .unwrap();
        assert_eq!(reloader.try_reload().unwrap(), ["log.format"]);
        let settings = running.settings();
        let in_force = || {
            (
                settings.load().registration.policy,
                settings.load().quotas.blob_bytes,
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
            running.liveness().is_alive(Duration::from_secs(3_600))
                && !running.liveness().is_alive(Duration::ZERO)
        );
        shutdown.trigger();
        assert!(
            running.liveness().is_alive(Duration::ZERO),
            "a relay that shuts down is not stuck"
        );
        running.ended().await;
    }

    #[test]
    fn reloadable_keys_exist() {
        let keys = toml::Table::try_from(load_defaults::<Config>().unwrap()).unwrap();
        for name in RELOADABLE {
            let found = name
                .split('.')
                .try_fold(toml::Value::Table(keys.clone()), |at, part| {
                    at.get(part).cloned()
                });
            assert!(found.is_some(), "{name}");
        }
        assert!(is_reloadable("quotas.blob_bytes") && is_reloadable("log.filter"));
        assert!(!is_reloadable("log.format") && !is_reloadable("quotas_of_others"));
    }
}
