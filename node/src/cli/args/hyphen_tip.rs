//! Tip for values that start with a hyphen.

use super::Cli;
use clap::{
    Arg, Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::ffi::OsString;

/// Adds a tip to a usage error that comes from a value that starts with a hyphen, such as `-Bolt`
/// in `--to -Bolt`: clap takes it for another option, and an option that takes several values
/// cannot accept all of them.
pub fn add_hyphen_tip(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    if !matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue
    ) {
        return error;
    }
    let Some(ContextValue::String(culprit)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let pair = args.windows(2).find_map(|pair| {
        let (option, value) = (pair[0].to_str()?, pair[1].to_str()?);
        let is_culprit = match error.kind() {
            ErrorKind::UnknownArgument => value.starts_with(culprit.as_str()),
            _ => culprit.split(' ').next() == Some(option),
        };
        (is_culprit && value.starts_with('-')).then_some((option, value))
    });
    let Some((option, value)) = pair.filter(|(option, _)| takes_value(&Cli::command(), option))
    else {
        return error;
    };
    let tip = format!("a value that starts with a hyphen follows an equals sign: {option}={value}");
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

fn takes_value(command: &Command, option: &str) -> bool {
    let is_named = |arg: &Arg| match option.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg
            .get_short()
            .is_some_and(|short| option == format!("-{short}")),
    };
    let mut named = command.get_arguments().filter(|arg| is_named(arg));
    named.any(|arg| arg.get_action().takes_values())
        || command
            .get_subcommands()
            .any(|subcommand| takes_value(subcommand, option))
}
