//! Layers of settings: a flag wins over an environment variable, which wins over the file, which
//! wins over the default.

use super::{ConfigError, explain, invalid, line_of, names, read};
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

const FILE: &str = "config";
const MASK: &str = "********";

/// All settings of a program: one struct with a field of another struct for each section of the
/// file.
pub trait Settings: Args + Serialize + DeserializeOwned {
    /// Prefix of the program's environment variables, for example `SEALPOST_RELAY_`.
    const PREFIX: &'static str;

    /// Prefixes that begin with [`Self::PREFIX`] but belong to other programs, whose variables are
    /// ignored.
    const IGNORED_PREFIXES: &'static [&'static str] = &[];

    /// Variables with the prefix that are no settings but are valid all the same, for example those
    /// of other flags.
    const OTHER_VARIABLES: &'static [&'static str] = &[];
}

/// Settings from the command line and the environment, and the configuration file that they name.
/// Flatten it into a clap command.
#[derive(Debug, Clone)]
pub struct Overrides<S> {
    file: Option<PathBuf>,
    values: S,
    origins: BTreeMap<String, Origin>,
    unknown_variable: Option<UnknownVariable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UnknownVariable {
    name: String,
    nearest: String,
}

/// Source of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// One setting in force.
#[derive(Clone)]
pub struct Setting {
    /// Key in the file, with its section, for example `log.format`.
    pub key: String,
    /// Source of the value.
    pub origin: Origin,
    value: Option<Value>,
    is_secret: bool,
}

impl Setting {
    /// Returns the value, masked when it is secret. `None` when the setting has neither a default
    /// nor a value.
    #[must_use]
    pub fn display_value(&self) -> Option<Value> {
        let value = self.value.clone();
        if self.is_secret {
            value.map(masked)
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
            self.origin
        )
    }
}

/// Merged settings of all layers.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The settings in force.
    pub config: S,
    /// The same settings as a list, in the order of their declaration.
    pub settings: Vec<Setting>,
}

impl<S> Loaded<S> {
    /// Returns the keys whose values differ in `newer`.
    pub fn changed_keys<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a str> {
        let pairs = self.settings.iter().zip(&newer.settings);
        pairs
            .filter(|(old, new)| old.value != new.value)
            .map(|(old, _)| old.key.as_str())
    }
}

/// Returns the defaults of all settings.
///
/// # Errors
/// When a setting without a default is required, or its default does not parse.
pub fn defaults<S: Settings>() -> Result<S, clap::Error> {
    let arguments = declared::<S>().map(|arg| arg.env(None::<&str>));
    let command = Command::new("defaults")
        .no_binary_name(true)
        .args(arguments);
    S::from_arg_matches(&command.try_get_matches_from([""; 0])?)
}

impl<S: Settings> Overrides<S> {
    /// Returns the configuration file that the command line or the environment names.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the configuration file, if one is named, and merges the layers.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the line, or the variable, and the next step.
    pub fn load(&self) -> Result<Loaded<S>, ConfigError> {
        self.load_file(self.file())
    }

    /// As [`Self::load`], but reads `default_file`, if it exists, when no file is named.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_or(&self, default_file: &Path) -> Result<Loaded<S>, ConfigError> {
        let default_file = default_file.exists().then_some(default_file);
        self.load_file(self.file().or(default_file))
    }

    fn load_file(&self, path: Option<&Path>) -> Result<Loaded<S>, ConfigError> {
        if let Some(UnknownVariable { name, nearest }) = self.unknown_variable.clone() {
            return Err(ConfigError::UnknownVariable { name, nearest });
        }
        let text = path.map(read).transpose()?.unwrap_or_default();
        let path = path.unwrap_or(Path::new(FILE));
        let fail = |error: &toml::de::Error| explain(path, &text, error);
        let incomplete = |error: toml::ser::Error| ConfigError::Incomplete {
            reason: error.to_string(),
        };
        let overrides = toml::to_string(&self.values).map_err(incomplete)?;
        let overrides = DeTable::parse(&overrides)
            .map_err(|error| fail(&error))?
            .into_inner();
        let file = DeTable::parse(&text).map_err(|error| fail(&error))?;
        refuse_unknown_keys::<S>(path, &text, file.get_ref())?;
        let span = file.span();
        let mut merged = file.into_inner();
        let origins: Vec<_> = declared::<S>()
            .map(|arg| {
                let origin = merge(
                    &mut merged,
                    &overrides,
                    arg.get_id().as_str(),
                    &self.origins,
                );
                origin.unwrap_or_else(|start| Origin::File {
                    path: path.to_owned(),
                    line: line_of(&text, start),
                })
            })
            .collect();
        let merged = Deserializer::from(Spanned::new(span, merged));
        let config = S::deserialize(merged).map_err(|error| fail(&error))?;
        let values = Table::try_from(&config).map_err(incomplete)?;
        let settings = declared::<S>()
            .zip(origins)
            .map(|(arg, origin)| setting(&values, &arg, origin))
            .collect();
        Ok(Loaded { config, settings })
    }
}

fn refuse_unknown_keys<S: Settings>(
    path: &Path,
    text: &str,
    file: &DeTable<'_>,
) -> Result<(), ConfigError> {
    let known: Vec<_> = declared::<S>()
        .map(|arg| arg.get_id().to_string())
        .collect();
    let Some(unknown) = names::find_unknown_key(file, &known) else {
        return Ok(());
    };
    let mut reason = format!("{:?} is not a setting", unknown.key);
    if let Some(nearest) = unknown.nearest {
        reason += &format!(", the nearest is {nearest:?}");
    }
    Err(invalid(path, text, unknown.start, reason))
}

/// Refuses variables with the program's prefix that set nothing. [`Overrides::load`] does the same;
/// this function is for commands that use no settings.
///
/// # Errors
/// [`ConfigError::UnknownVariable`]
pub fn check_variables<S: Settings>() -> Result<(), ConfigError> {
    match find_unknown_variable::<S>(variable_names()) {
        Some(UnknownVariable { name, nearest }) => {
            Err(ConfigError::UnknownVariable { name, nearest })
        }
        None => Ok(()),
    }
}

/// Lists the variables of the environment. A name that is not UTF-8 is no setting.
fn variable_names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Finds the first variable with the program's prefix that sets nothing.
fn find_unknown_variable<S: Settings>(
    variables: impl Iterator<Item = String>,
) -> Option<UnknownVariable> {
    let known: Vec<String> = declared::<S>()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .chain([variable::<S>(FILE)])
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

/// Merges one setting of the command line, the environment or the defaults into the file. When the
/// file wins, returns the byte offset of the value there as the error.
fn merge<'i>(
    file: &mut DeTable<'i>,
    overrides: &DeTable<'i>,
    key: &str,
    origins: &BTreeMap<String, Origin>,
) -> Result<Origin, usize> {
    let origin = origins.get(key).unwrap_or(&Origin::Default);
    if let (Origin::Default, Some(value)) = (origin, find(file, key)) {
        return Err(value.span().start);
    }
    if let Some(value) = find(overrides, key) {
        insert(file, key, value.clone());
    }
    Ok(origin.clone())
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
    // A section that is no table is refused later, by its type.
    if let DeValue::Table(section) = table.entry(name(section)).or_insert_with(empty).get_mut() {
        insert(section, rest, value);
    }
}

fn setting(values: &Table, arg: &Arg, origin: Origin) -> Setting {
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
        origin,
        value,
        is_secret: arg.is_hide_env_values_set(),
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(masked).collect()),
        _ => Value::from(MASK),
    }
}

/// Returns the settings as clap arguments, each with its flag and its variable.
fn declared<S: Settings>() -> impl Iterator<Item = Arg> {
    let command = S::augment_args(Command::new("settings"));
    command
        .get_arguments()
        .cloned()
        .map(with_names::<S>)
        .collect::<Vec<_>>()
        .into_iter()
}

fn with_names<S: Settings>(arg: Arg) -> Arg {
    let key = arg.get_id().to_string();
    let arg = match arg.get_long() {
        Some(_) => arg,
        None => arg.long(key.replace(['.', '_'], "-")).num_args(1),
    };
    match arg.get_env() {
        Some(_) => arg,
        None => arg.env(variable::<S>(&key)),
    }
}

fn variable<S: Settings>(key: &str) -> String {
    format!("{}{}", S::PREFIX, key.replace('.', "_").to_uppercase())
}

impl<S: Settings> Args for Overrides<S> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .env(variable::<S>(FILE))
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .action(ArgAction::Set)
            .help("Configuration file (TOML)");
        command.arg(file).args(declared::<S>())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Settings> FromArgMatches for Overrides<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let origins = declared::<S>().filter_map(|arg| {
            let key = arg.get_id().to_string();
            let origin = match matches.value_source(&key)? {
                ValueSource::CommandLine => Origin::Flag {
                    flag: format!("--{}", arg.get_long()?),
                },
                ValueSource::EnvVariable => Origin::Environment {
                    variable: arg.get_env()?.to_string_lossy().into_owned(),
                },
                _ => return None,
            };
            Some((key, origin))
        });
        Ok(Self {
            file: matches.get_one(FILE).cloned(),
            origins: origins.collect(),
            unknown_variable: find_unknown_variable::<S>(variable_names()),
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
