//! Value parsers of command-line options.

use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};
use sealpost_node_core::name::parse_own_name;
use sealpost_proto::limits;
use std::{ffi::OsStr, fmt::Display, net::SocketAddr};
use zeroize::Zeroizing;

/// Parser of a URL. Its errors do not repeat the text, as those of other parsers do: the text may
/// contain a password.
#[derive(Clone)]
pub(super) struct UrlParser<T, E>(pub(super) fn(&str) -> Result<T, E>);

impl<T, E> TypedValueParser for UrlParser<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Display + Clone + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        text: &OsStr,
    ) -> Result<T, clap::Error> {
        (self.0)(&text.to_string_lossy()).map_err(|error| {
            let name = argument.and_then(Arg::get_long).unwrap_or_default();
            let text = format!("invalid value for '--{name}': {error}");
            command.clone().error(ErrorKind::ValueValidation, text)
        })
    }
}

/// Never fails; the type keeps the token out of logs and clears it from memory.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result")]
pub(super) fn parse_secret(text: &str) -> Result<Zeroizing<String>, String> {
    Ok(Zeroizing::new(text.to_owned()))
}

pub(super) fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected an address such as 127.0.0.1:4680".to_owned())?;
    if address.ip().to_canonical().is_loopback() {
        Ok(address)
    } else {
        Err("the local API can listen on loopback addresses only".to_owned())
    }
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    parse_own_name(text).map_err(|refusal| refusal.to_string())
}

pub(super) fn parse_note(text: &str) -> Result<String, String> {
    if text.len() <= limits::REQUEST_NOTE_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(format!(
        "the note has {} bytes; the limit is {}",
        text.len(),
        limits::REQUEST_NOTE_BYTES_MAX
    ))
}
