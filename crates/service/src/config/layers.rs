//! Layers of settings: a flag wins over an environment variable, which wins over the file, which
//! wins over the default.

use super::{ConfigError, explain_toml_error, invalid_at, line_at, names, read_file};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue, Deserializer},
};

const CONFIG_ARG: &str = "config";
const MASK: &str = "********";

/// All settings of a program: a struct with one nested struct per section of the configuration
/// file.
pub trait Settings: Args + Serialize + DeserializeOwned {
    /// Prefix of the program's environment variables, for example `SEALPOST_RELAY_`.
    const PREFIX: &'static str;

    /// Prefixes that begin with [`Self::PREFIX`] but belong to other programs, whose variables are
    /// ignored.
    const IGNORED_PREFIXES: &'static [&'static str] = &[];

    /// Other valid variables with this prefix, such as those of flags that are not settings.
    const OTHER_VARIABLES: &'static [&'static str] = &[];
}

/// Settings from the command line and the environment, which override the configuration file that
/// they name. Flatten it into a clap command.
#[derive(Debug, Clone)]
pub struct Overrides<S> {
    file: Option<PathBuf>,
    values: S,
    sources: BTreeMap<String, SettingSource>,
    unknown_variable: Option<UnknownVariable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UnknownVariable {
    name: String,
    nearest: String,
}

/// Source of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// The default of the program.
    Default,
    /// The configuration file.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Line of the value, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Name of the variable.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// The flag with its dashes.
        flag: String,
    },
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// Effective setting: its value and where the value comes from.
#[derive(Clone)]
pub struct Setting {
    /// Key in the file, with its section, for example `log.format`.
    pub key: String,
    /// Source of the value.
    pub source: SettingSource,
    value: Option<Value>,
    is_secret: bool,
}

impl Setting {
    /// Returns the value, masked if it is secret, or `None` if the setting has neither a default
    /// nor a value.
    #[must_use]
    pub fn display_value(&self) -> Option<Value> {
        let value = self.value.clone();
        if self.is_secret {
            value.map(mask)
        } else {
            value
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {:?} ({})",
            self.key,
            self.display_value(),
            self.source
        )
    }
}

/// Effective configuration, merged from all layers.
#[derive(Debug, Clone)]
pub struct LoadedConfig<S> {
    /// Effective settings as the program's struct.
    pub config: S,
    /// The same settings as a list with their sources, in the order of their declaration.
    pub settings: Vec<Setting>,
}

impl<S> LoadedConfig<S> {
    /// Returns the keys whose values differ in `newer`.
    pub fn changed_keys<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a str> {
        let pairs = self.settings.iter().zip(&newer.settings);
        pairs
            .filter(|(old, new)| old.value != new.value)
            .map(|(old, _)| old.key.as_str())
    }
}

/// Builds the settings from their defaults alone.
///
/// # Errors
/// Returns an error if a required setting has no default, or if a default does not parse.
pub fn load_defaults<S: Settings>() -> Result<S, clap::Error> {
    let arguments = setting_args::<S>().map(|arg| arg.env(None::<&str>));
    let command = Command::new("defaults")
        .no_binary_name(true)
        .args(arguments);
    S::from_arg_matches(&command.try_get_matches_from([""; 0])?)
}

impl<S: Settings> Overrides<S> {
    /// Reads the environment, for commands that have no flags for settings.
    ///
    /// # Errors
    /// A variable has an invalid value.
    pub fn from_environment() -> Result<Self, clap::Error> {
        let command = Self::augment_args(Command::new("environment").no_binary_name(true));
        Self::from_arg_matches(&command.try_get_matches_from([""; 0])?)
    }

    /// Returns the configuration file that the command line or the environment names.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the configuration file, if one is named, and merges the layers.
    ///
    /// # Errors
    /// Returns [`ConfigError`] if the file cannot be read or has a syntax error, if the file or the
    /// environment has an unknown setting, or if a value is missing or invalid.
    pub fn load(&self) -> Result<LoadedConfig<S>, ConfigError> {
        self.load_file(self.file())
    }

    /// Like [`Self::load`], but falls back to `default_file` if no file is named and `default_file`
    /// exists.
    ///
    /// # Errors
    /// Like [`Self::load`].
    pub fn load_or_default_file(
        &self,
        default_file: &Path,
    ) -> Result<LoadedConfig<S>, ConfigError> {
        let default_file = default_file.exists().then_some(default_file);
        self.load_file(self.file().or(default_file))
    }

    fn load_file(&self, path: Option<&Path>) -> Result<LoadedConfig<S>, ConfigError> {
        if let Some(UnknownVariable { name, nearest }) = self.unknown_variable.clone() {
            return Err(ConfigError::UnknownVariable { name, nearest });
        }
        let text = path.map(read_file).transpose()?.unwrap_or_default();
        let path = path.unwrap_or(Path::new(CONFIG_ARG));
        let fail = |error: &toml::de::Error| explain_toml_error(path, &text, error);
        let not_serializable = |error: toml::ser::Error| ConfigError::NotSerializable {
            reason: error.to_string(),
        };
        let overrides = toml::to_string(&self.values).map_err(not_serializable)?;
        let overrides = DeTable::parse(&overrides)
            .map_err(|error| fail(&error))?
            .into_inner();
        let file = DeTable::parse(&text).map_err(|error| fail(&error))?;
        reject_unknown_keys::<S>(path, &text, file.get_ref())?;
        let span = file.span();
        let mut merged = file.into_inner();
        let sources: Vec<_> = setting_args::<S>()
            .map(|arg| {
                let key = arg.get_id().as_str();
                match merge_setting(&mut merged, &overrides, key, &self.sources) {
                    Winner::Override(source) => source,
                    Winner::File { offset } => SettingSource::File {
                        path: path.to_owned(),
                        line: line_at(&text, offset),
                    },
                }
            })
            .collect();
        let merged = Deserializer::from(Spanned::new(span, merged));
        let config = S::deserialize(merged).map_err(|error| fail(&error))?;
        let values = Table::try_from(&config).map_err(not_serializable)?;
        let settings = setting_args::<S>()
            .zip(sources)
            .map(|(arg, source)| build_setting(&values, &arg, source))
            .collect();
        Ok(LoadedConfig { config, settings })
    }
}

fn reject_unknown_keys<S: Settings>(
    path: &Path,
    text: &str,
    file: &DeTable<'_>,
) -> Result<(), ConfigError> {
    let known: Vec<_> = setting_args::<S>()
        .map(|arg| arg.get_id().to_string())
        .collect();
    let Some(unknown) = names::find_unknown_key(file, &known) else {
        return Ok(());
    };
    let mut reason = format!("{:?} is not a setting", unknown.key);
    if let Some(nearest) = unknown.nearest {
        reason += &format!(" (did you mean {nearest:?}?)");
    }
    Err(invalid_at(path, text, unknown.start, reason))
}

/// Rejects unknown variables with the program's prefix. [`Overrides::load`] does the same; this
/// function is for commands that use no settings.
///
/// # Errors
/// Returns [`ConfigError::UnknownVariable`] for the first such variable.
pub fn reject_unknown_variables<S: Settings>() -> Result<(), ConfigError> {
    match find_unknown_variable::<S>(list_variables()) {
        Some(UnknownVariable { name, nearest }) => {
            Err(ConfigError::UnknownVariable { name, nearest })
        }
        None => Ok(()),
    }
}

/// Lists the names of the environment variables. Names that are not UTF-8 are never settings.
fn list_variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Finds the first variable with the program's prefix that matches no setting.
fn find_unknown_variable<S: Settings>(
    variables: impl Iterator<Item = String>,
) -> Option<UnknownVariable> {
    let known: Vec<String> = setting_args::<S>()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .chain([variable_name::<S>(CONFIG_ARG)])
        .chain(S::OTHER_VARIABLES.iter().map(|&name| name.to_owned()))
        .collect();
    let has_ignored_prefix = |name: &str| {
        let mut prefixes = S::IGNORED_PREFIXES.iter();
        prefixes.any(|prefix| name.starts_with(prefix))
    };
    let name = variables
        .filter(|name| name.starts_with(S::PREFIX) && !has_ignored_prefix(name))
        .find(|name| !known.contains(name))?;
    let nearest = names::nearest(&name, known.iter().map(String::as_str))?.to_owned();
    Some(UnknownVariable { name, nearest })
}

/// Layer whose value of a setting wins.
enum Winner {
    /// The command line, the environment or the default.
    Override(SettingSource),
    /// The configuration file, which has the value at this byte offset.
    File { offset: usize },
}

/// Merges one setting of the command line, the environment or the defaults into the file's table,
/// unless the file wins.
fn merge_setting<'i>(
    file: &mut DeTable<'i>,
    overrides: &DeTable<'i>,
    key: &str,
    sources: &BTreeMap<String, SettingSource>,
) -> Winner {
    let source = sources.get(key).unwrap_or(&SettingSource::Default);
    if let (SettingSource::Default, Some(value)) = (source, find(file, key)) {
        return Winner::File {
            offset: value.span().start,
        };
    }
    if let Some(value) = find(overrides, key) {
        insert(file, key, value.clone());
    }
    Winner::Override(source.clone())
}

fn find<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.get_ref().as_table()?, rest),
    }
}

fn insert<'i>(table: &mut DeTable<'i>, key: &str, value: Spanned<DeValue<'i>>) {
    let name = |text: &str| Spanned::new(0..0, text.to_owned().into());
    let Some((section, rest)) = key.split_once('.') else {
        table.insert(name(key), value);
        return;
    };
    let empty = || Spanned::new(0..0, DeValue::Table(DeTable::new()));
    // A section that is not a table is rejected later, during deserialization.
    if let DeValue::Table(section) = table.entry(name(section)).or_insert_with(empty).get_mut() {
        insert(section, rest, value);
    }
}

fn build_setting(values: &Table, arg: &Arg, source: SettingSource) -> Setting {
    let key = arg.get_id().to_string();
    let (first, rest) = key
        .split_once('.')
        .map_or((key.as_str(), None), |(first, rest)| (first, Some(rest)));
    let value = values
        .get(first)
        .and_then(|value| rest.map_or(Some(value), |rest| value.get(rest)))
        .cloned();
    Setting {
        key,
        source,
        value,
        // A value that clap must not print in the help text is a secret here too.
        is_secret: arg.is_hide_env_values_set(),
    }
}

fn mask(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(mask).collect()),
        _ => Value::from(MASK),
    }
}

/// Returns the settings as clap arguments, each with its flag and its variable.
fn setting_args<S: Settings>() -> impl Iterator<Item = Arg> {
    let command = S::augment_args(Command::new("settings"));
    command
        .get_arguments()
        .cloned()
        .map(with_flag_and_variable::<S>)
        .collect::<Vec<_>>()
        .into_iter()
}

fn with_flag_and_variable<S: Settings>(arg: Arg) -> Arg {
    let key = arg.get_id().to_string();
    let arg = match arg.get_long() {
        Some(_) => arg,
        None => arg.long(key.replace(['.', '_'], "-")).num_args(1),
    };
    match arg.get_env() {
        Some(_) => arg,
        None => arg.env(variable_name::<S>(&key)),
    }
}

fn variable_name<S: Settings>(key: &str) -> String {
    format!("{}{}", S::PREFIX, key.replace('.', "_").to_uppercase())
}

impl<S: Settings> Args for Overrides<S> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG_ARG)
            .long(CONFIG_ARG)
            .env(variable_name::<S>(CONFIG_ARG))
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .action(ArgAction::Set)
            .help("Configuration file (TOML)");
        command.arg(file).args(setting_args::<S>())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Settings> FromArgMatches for Overrides<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let sources = setting_args::<S>().filter_map(|arg| {
            let key = arg.get_id().to_string();
            let source = match matches.value_source(&key)? {
                ValueSource::CommandLine => SettingSource::Flag {
                    flag: format!("--{}", arg.get_long()?),
                },
                ValueSource::EnvVariable => SettingSource::Environment {
                    variable: arg.get_env()?.to_string_lossy().into_owned(),
                },
                _ => return None,
            };
            Some((key, source))
        });
        Ok(Self {
            file: matches.get_one(CONFIG_ARG).cloned(),
            sources: sources.collect(),
            unknown_variable: find_unknown_variable::<S>(list_variables()),
            values: S::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
