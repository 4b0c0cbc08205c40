//! Value parsers of command-line options.

use sealpost_node_core::text::visible_line;
use sealpost_proto::{Origin, limits};
use std::net::SocketAddr;
use zeroize::Zeroizing;

pub(super) fn parse_origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| error.to_string())
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
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the local API can listen on loopback addresses only".to_owned())
    }
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match name.len() {
        0 => Err("the name is empty".to_owned()),
        _ if visible_line(name) != name => Err("the name contains control characters".to_owned()),
        1..=limits::CARD_NAME_BYTES_MAX => Ok(name.to_owned()),
        length => Err(format!(
            "the name has {length} bytes; the limit is {}",
            limits::CARD_NAME_BYTES_MAX
        )),
    }
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
