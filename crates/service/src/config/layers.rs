//! Settings in layers: a flag wins over an environment variable, over the file, over the default.
//!
//! A setting is declared once, as a field of a clap `Args` struct that also has serde's two derives. Its `id` is its dotted
//! key in the file, its doc comment the help, `default_value` the default, `hide_env_values` says that it is a secret. Flag
//! and variable follow from the key unless they are given.

use super::{ConfigError, explain, line_of, read};
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

/// All settings of a program, as one struct with a struct for each section of the file.
pub trait Settings: Args + Serialize + DeserializeOwned {
    /// What the program's environment variables begin with, for example `SEALPOST_RELAY_`.
    const PREFIX: &'static str;
}

/// What the command line and the environment say, and which file they name. Flatten it into a clap command.
#[derive(Debug, Clone)]
pub struct Told<S> {
    file: Option<PathBuf>,
    values: S,
    origins: BTreeMap<String, Origin>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The command line.
    Flag {
        /// With its dashes.
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

/// One setting as it is in force.
#[derive(Clone)]
pub struct Setting {
    /// Dotted, as in the file.
    pub key: String,
    /// Where it comes from.
    pub origin: Origin,
    value: Option<Value>,
    is_secret: bool,
}

impl Setting {
    /// The value, a secret one masked. Absent when there is no default and nobody said anything.
    #[must_use]
    pub fn shown(&self) -> Option<Value> {
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
        write!(f, "{} = {:?} ({})", self.key, self.shown(), self.origin)
    }
}

/// All layers put together.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The settings in force.
    pub config: S,
    /// The same one by one, in the order of their declaration.
    pub settings: Vec<Setting>,
}

impl<S> Loaded<S> {
    /// The keys whose values are others in `newer`.
    pub fn changed<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a str> {
        let pairs = self.settings.iter().zip(&newer.settings);
        pairs
            .filter(|(old, new)| old.value != new.value)
            .map(|(old, _)| old.key.as_str())
    }
}

/// The settings of somebody who says nothing.
///
/// # Errors
/// When a declared default does not parse.
pub fn defaults<S: Settings>() -> Result<S, clap::Error> {
    let arguments = declared::<S>().map(|arg| arg.env(None::<&str>));
    let command = Command::new("defaults")
        .no_binary_name(true)
        .args(arguments);
    S::from_arg_matches(&command.try_get_matches_from([""; 0])?)
}

impl<S: Settings> Told<S> {
    /// The file that is named.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Puts the layers together, reading the file anew.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and what to do.
    pub fn load(&self) -> Result<Loaded<S>, ConfigError> {
        let path = self.file.as_deref();
        let text = path.map(read).transpose()?.unwrap_or_default();
        let path = path.unwrap_or(Path::new(FILE));
        let fail = |error: &toml::de::Error| explain(path, &text, error);
        let odd = |error: toml::ser::Error| ConfigError::Incomplete {
            reason: error.to_string(),
        };
        let told = toml::to_string(&self.values).map_err(odd)?;
        let told = DeTable::parse(&told)
            .map_err(|error| fail(&error))?
            .into_inner();
        let file = DeTable::parse(&text).map_err(|error| fail(&error))?;
        let span = file.span();
        let mut merged = file.into_inner();
        let origins: Vec<_> = declared::<S>()
            .map(|arg| {
                let origin = lay(&mut merged, &told, arg.get_id().as_str(), &self.origins);
                origin.unwrap_or_else(|start| Origin::File {
                    path: path.to_owned(),
                    line: line_of(&text, start),
                })
            })
            .collect();
        let merged = Deserializer::from(Spanned::new(span, merged));
        let config = S::deserialize(merged).map_err(|error| fail(&error))?;
        let values = Table::try_from(&config).map_err(odd)?;
        let settings = declared::<S>()
            .zip(origins)
            .map(|(arg, origin)| setting(&values, &arg, origin))
            .collect();
        Ok(Loaded { config, settings })
    }
}

/// Lays one setting of the command line, the environment or the defaults over the file, unless the file is to win: then
/// gives the place where it stands there.
fn lay<'i>(
    file: &mut DeTable<'i>,
    told: &DeTable<'i>,
    key: &str,
    origins: &BTreeMap<String, Origin>,
) -> Result<Origin, usize> {
    let origin = origins.get(key).unwrap_or(&Origin::Default);
    if let (Origin::Default, Some(value)) = (origin, find(file, key)) {
        return Err(value.span().start);
    }
    if let Some(value) = find(told, key) {
        put(file, key, value.clone());
    }
    Ok(origin.clone())
}

fn find<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.get_ref().as_table()?, rest),
    }
}

fn put<'i>(table: &mut DeTable<'i>, key: &str, value: Spanned<DeValue<'i>>) {
    let name = |text: &str| Spanned::new(0..0, text.to_owned().into());
    let Some((section, rest)) = key.split_once('.') else {
        table.insert(name(key), value);
        return;
    };
    let empty = || Spanned::new(0..0, DeValue::Table(DeTable::new()));
    // A section that is no table is refused later, where it stands.
    if let DeValue::Table(section) = table.entry(name(section)).or_insert_with(empty).get_mut() {
        put(section, rest, value);
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

/// The settings as clap knows them, each with its flag and its variable.
fn declared<S: Settings>() -> impl Iterator<Item = Arg> {
    let command = S::augment_args(Command::new("settings"));
    command
        .get_arguments()
        .cloned()
        .map(named::<S>)
        .collect::<Vec<_>>()
        .into_iter()
}

fn named<S: Settings>(arg: Arg) -> Arg {
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

impl<S: Settings> Args for Told<S> {
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

impl<S: Settings> FromArgMatches for Told<S> {
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
