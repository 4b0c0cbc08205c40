//! Invites as people paste them: wrapped by a mail program, encoded for a header, a page or a URL,
//! and surrounded by quotes, brackets or whole sentences.
//!
//! The text is decoded first. Every place that looks like a token is then written as a link or a
//! URI and parsed by [`Invite::parse`], which stays strict. The checksum of the record makes it
//! safe to remove characters that no invite contains.

use super::{FIXED_BYTES, Invite, InviteError, MARKER, SCHEME, VERSION};
use sealpost_proto::b64;
use sealpost_proto::limits::{INVITE_CANDIDATES_MAX, ORIGIN_BYTES_MAX, PASTED_INVITE_BYTES_MAX};
use zeroize::Zeroizing;

/// Encodings that can be nested, such as `&amp;#35;` or `%2523`.
const NESTED_ENCODINGS_MAX: usize = 3;
/// Longest name or number of a character reference.
const REFERENCE_BYTES_MAX: usize = 16;
/// The version, the kind, and the length of the origin: as many bytes as eight characters encode.
const PREFIX_BYTES: usize = 6;
const PREFIX_CHARS: usize = 8;

pub(super) fn parse(text: &str) -> Result<Invite, InviteError> {
    if text.len() > PASTED_INVITE_BYTES_MAX {
        return Err(InviteError::NotAnInvite);
    }
    let mut decoded = Zeroizing::new(text.to_owned());
    for _ in 0..NESTED_ENCODINGS_MAX {
        decoded = decode(&decoded);
    }
    let text = Zeroizing::new(decoded.replace(is_never_in_an_invite, ""));
    let mut first_error = None;
    for candidate in candidates(&text) {
        match Invite::parse(&candidate) {
            Ok(invite) => return Ok(invite),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Invite::parse(text.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '#')),
    }
}

/// Decodes quoted-printable (with its soft line breaks), percent-encoding, character references of
/// HTML and backslashes, as far as they stand for ASCII.
fn decode(text: &str) -> Zeroizing<String> {
    let mut decoded = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        let found = match c {
            '=' => decode_soft_break(tail).or_else(|| decode_hexadecimal(tail)),
            '%' => decode_hexadecimal(tail),
            '&' => decode_reference(tail),
            '\\' => Some((None, tail)),
            _ => None,
        };
        let (c, tail) = found.unwrap_or((Some(c), tail));
        decoded.extend(c);
        rest = tail;
    }
    decoded
}

/// Decoded character, or `None` if there is nothing to write, and the text after it.
type Decoded<'a> = Option<(Option<char>, &'a str)>;

fn decode_soft_break(tail: &str) -> Decoded<'_> {
    let tail = tail.trim_start_matches([' ', '\t', '\r']);
    tail.strip_prefix('\n').map(|tail| (None, tail))
}

fn decode_hexadecimal(tail: &str) -> Decoded<'_> {
    let (code, tail) = tail.split_at_checked(2)?;
    Some((Some(parse_code(code, 16)?), tail))
}

fn decode_reference(tail: &str) -> Decoded<'_> {
    let end = tail
        .bytes()
        .take(REFERENCE_BYTES_MAX)
        .position(|byte| byte == b';')?;
    let (name, tail) = (&tail[..end], &tail[end + 1..]);
    let c = match name.strip_prefix('#') {
        Some(code) => match code.strip_prefix(['x', 'X']) {
            Some(code) => parse_code(code, 16)?,
            None => parse_code(code, 10)?,
        },
        None => match name {
            "amp" => '&',
            "num" => '#',
            "colon" => ':',
            "sol" => '/',
            "period" => '.',
            "lowbar" => '_',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "nbsp" | "shy" | "Tab" | "NewLine" | "ZeroWidthSpace" => ' ',
            _ => return None,
        },
    };
    Some((Some(c), tail))
}

fn parse_code(code: &str, radix: u32) -> Option<char> {
    let is_number = code.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = u8::from_str_radix(code, radix).ok()?;
    (is_number && byte.is_ascii()).then_some(char::from(byte))
}

/// White space, characters without width, and the quotation marks of replies (`> `).
fn is_never_in_an_invite(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '>' | '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// Returns the places that look like an invite, each as a link or as a URI.
fn candidates(text: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let lower_case = Zeroizing::new(text.to_ascii_lowercase());
    let markers = text.match_indices(MARKER).take(INVITE_CANDIDATES_MAX);
    markers.map(move |(at, _)| {
        let token = cut_token(&text[at + MARKER.len()..]);
        let Some(page) = lower_case[..at].strip_suffix('#') else {
            return Zeroizing::new(format!("{SCHEME}{MARKER}{token}"));
        };
        let start = page.rfind("https://").max(page.rfind("http://"));
        let page = &text[start.unwrap_or_default()..page.len()];
        Zeroizing::new(format!("{page}#{MARKER}{token}"))
    })
}

/// Returns the characters of base64url at the beginning, without those that follow the record. The
/// record states its own length.
fn cut_token(text: &str) -> &str {
    let is_other = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_';
    let token = text.split(is_other).next().unwrap_or_default();
    let cut = record_chars(token).and_then(|chars| token.get(..chars));
    cut.unwrap_or(token)
}

fn record_chars(token: &str) -> Option<usize> {
    let prefix = b64::parse_array::<PREFIX_BYTES>(token.get(..PREFIX_CHARS)?).ok()?;
    let [VERSION, _kind, length @ ..] = prefix else {
        return None;
    };
    let origin = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let is_possible = origin <= ORIGIN_BYTES_MAX;
    is_possible.then(|| ((FIXED_BYTES + origin) * 4).div_ceil(3))
}

#[cfg(test)]
mod tests {
    use super::super::{InviteKind, PAGE};
    use super::*;
    use crate::keys::Fingerprint;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use sealpost_proto::{MailboxId, MailboxRef, Origin, Timestamp};

    fn invite(relay: &str) -> Invite {
        let mailbox = MailboxRef {
            relay: Origin::parse(relay).unwrap(),
            id: MailboxId::from_bytes([4; 16]),
        };
        let expires = Timestamp::from_millis(1_800_000_000_000);
        let kind = InviteKind::SingleUse { expires };
        let rng = &mut ChaCha20Rng::from_seed([6; 32]);
        Invite::generate(kind, mailbox, Fingerprint::from_bytes([5; 32]), rng)
    }

    /// Inserts a separator after each `chars` characters.
    fn wrapped(text: &str, chars: usize, separator: &str) -> String {
        let bytes: Vec<_> = text.as_bytes().chunks(chars).collect();
        let lines: Vec<_> = bytes
            .iter()
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        lines.join(separator)
    }

    fn assert_found(text: &str, expected: &Invite) {
        let found = parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(found.encode_link(), expected.encode_link(), "{text}");
    }

    #[test]
    fn wrapped_invites_are_found() {
        for relay in ["https://relay.example", "http://127.0.0.1:8440"] {
            let invite = invite(relay);
            for form in [invite.encode_link(), invite.encode_uri()] {
                for separator in [
                    "\n", "\r\n", " ", "\t", "\r\n    ", "\n> ", "\n> > ", "=\n", "=\r\n", "= \n",
                    "\u{a0}", "\u{200b}", "\u{ad}", "\u{feff}", "&nbsp;", "\\\n",
                ] {
                    for chars in [10, 64, 75, 76, 100] {
                        assert_found(&wrapped(&form, chars, separator), &invite);
                    }
                }
            }
        }
    }

    #[test]
    fn surrounded_invites_are_found() {
        let invite = invite("https://relay.example:8443");
        for form in [invite.encode_link(), invite.encode_uri()] {
            for (before, after) in [
                ("", "."),
                ("", ","),
                ("", ">"),
                ("", ")."),
                ("", "!?;:"),
                ("<", ">"),
                ("\"", "\""),
                ("'", "'"),
                ("`", "`"),
                ("“", "”"),
                ("„", "“"),
                ("«", "»"),
                ("[our invite](", ")"),
                ("Hello,\n\nplease use ", " and tell me.\n\nAnna"),
                (
                    "Use https://other.example/i or ",
                    "\nhttps://other.example/",
                ),
                ("<a href=\"", "\">invite</a>"),
                ("{\"url\":\"", "\"}"),
                ("Link:", "Regards"),
            ] {
                assert_found(&format!("{before}{}{after}", form.as_str()), &invite);
            }
            assert_found(&format!("{0}<{0}>", form.as_str()), &invite);
            assert_found(&format!("{}… {}", &form[..150], form.as_str()), &invite);
        }
    }

    #[test]
    fn encoded_invites_are_found() {
        let invite = invite("https://relay.example");
        let link = invite.encode_link();
        let encoded = |pairs: &[(&str, &str)]| {
            let replace = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
            pairs.iter().fold(link.to_string(), replace)
        };
        let url_encoded = encoded(&[(":", "%3A"), ("/", "%2F"), ("#", "%23")]);
        for text in [
            encoded(&[("#", "%23")]),
            encoded(&[("#", "%2523")]),
            encoded(&[("#", "&#35;")]),
            encoded(&[("#", "&#x23;")]),
            encoded(&[("#", "&amp;#35;")]),
            encoded(&[("#", "&num;"), ("/", "&#x2F;"), (":", "&#58;")]),
            encoded(&[("#", "=23")]),
            encoded(&[("/", "\\/")]),
            encoded(&[("_", "\\_")]),
            encoded(&[("https", "HTTPS"), ("relay", "Relay")]),
            format!("https://safe.example/?url={url_encoded}&data=05%7C02"),
            format!("&lt;{}&gt;", link.as_str()),
            format!("&quot;{}&quot;", link.as_str()),
        ] {
            assert_found(&text, &invite);
        }
    }

    #[test]
    fn errors_stay_those_of_the_invite() {
        let invite = invite("https://relay.example");
        let link = invite.encode_link();
        let foreign = link.replace("relay.example", "evil.example");
        assert!(matches!(
            parse(&foreign),
            Err(InviteError::ForeignOrigin { .. })
        ));
        for damaged in [
            link[..link.len() - 1].to_owned(),
            format!("{}.", &link[..200]),
            link.replacen("sp1.A", "sp1.B", 1),
            format!("\"https://relay.example{PAGE}#\""),
            format!("<https://relay.example{PAGE}>"),
        ] {
            assert_eq!(
                parse(&damaged).unwrap_err(),
                InviteError::Damaged,
                "{damaged}"
            );
        }
        assert_eq!(
            parse("https://relay.example/i#sp2.AAAA.").unwrap_err(),
            InviteError::UnknownVersion { version: 2 }
        );
        for other in [
            "",
            "hello",
            "https://relay.example/other#sp1.AAAA",
            "%",
            "&",
            "=",
            "\\",
        ] {
            assert_eq!(
                parse(other).unwrap_err(),
                InviteError::NotAnInvite,
                "{other}"
            );
        }
        let long = format!("{}{}", " ".repeat(PASTED_INVITE_BYTES_MAX), link.as_str());
        assert_eq!(parse(&long).unwrap_err(), InviteError::NotAnInvite);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in ".{0,200}", bytes in "[=%&#;x0-9a-f\\\\sp1. \n]{0,200}") {
            let _ = parse(&text);
            let _ = parse(&bytes);
            let link = invite("https://relay.example").encode_link();
            let _ = parse(&format!("{text}{}{bytes}", link.as_str()));
        }
    }
}
