//! A recipient stanza of a header: its arguments and its body.

use crate::primitive::{decode_base64, encode_base64};

/// Start of a stanza's first line.
pub(crate) const STANZA_PREFIX: &str = "-> ";
/// Columns of every line of a body but the last, which is shorter.
const BODY_COLUMNS: usize = 64;

/// Recipient stanza of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stanza {
    /// At least one; the first is the type.
    pub(crate) arguments: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Stanza {
    /// Parses a stanza from the rest of its first line and the lines that follow. `lines` then
    /// continues behind the stanza.
    pub(crate) fn parse<'a>(
        arguments: &[u8],
        lines: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let arguments = arguments
            .split(|&byte| byte == b' ')
            .map(parse_argument)
            .collect::<Option<_>>()?;
        let mut body = Vec::new();
        loop {
            let line = lines.next()?;
            body.extend_from_slice(line);
            if line.len() > BODY_COLUMNS {
                return None;
            } else if line.len() < BODY_COLUMNS {
                break;
            }
        }
        let body = decode_base64(&body)?;
        Some(Self { arguments, body })
    }

    /// Returns the type of the recipient.
    pub(crate) fn recipient_type(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// Appends the stanza's lines to a header.
    pub(crate) fn encode(&self, header: &mut String) {
        header.push_str(STANZA_PREFIX);
        header.push_str(&self.arguments.join(" "));
        header.push('\n');
        let body = encode_base64(&self.body);
        let mut rest = body.as_str();
        while let Some((line, after)) = rest.split_at_checked(BODY_COLUMNS) {
            header.push_str(line);
            header.push('\n');
            rest = after;
        }
        // The last line is shorter than a full one, and therefore empty behind a full one.
        header.push_str(rest);
        header.push('\n');
    }
}

/// Parses one or more visible ASCII characters.
fn parse_argument(argument: &[u8]) -> Option<String> {
    let is_visible = !argument.is_empty() && argument.iter().all(u8::is_ascii_graphic);
    let text = is_visible.then(|| argument.to_vec())?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_wrap_at_64_columns() {
        for bytes in [0, 1, 47, 48, 49, 95, 96, 97] {
            let stanza = Stanza {
                arguments: vec!["type".to_owned(), "argument".to_owned()],
                body: vec![7; bytes],
            };
            let mut text = String::new();
            stanza.encode(&mut text);
            let mut lines = text.strip_suffix('\n').unwrap().split('\n');
            assert_eq!(lines.next(), Some("-> type argument"));
            assert_eq!(lines.clone().count(), bytes / 48 + 1);
            let mut lines = lines.map(str::as_bytes);
            let parsed = Stanza::parse(b"type argument", &mut lines);
            assert_eq!((parsed, lines.next()), (Some(stanza), None));
        }
    }

    #[test]
    fn arguments_are_visible_ascii() {
        let parse = |arguments: &[u8]| Stanza::parse(arguments, &mut [b"".as_slice()].into_iter());
        for byte in 0..=u8::MAX {
            let parsed = parse(&[b'a', byte, b'b']);
            let expected = byte.is_ascii_graphic() || byte == b' ';
            assert_eq!(parsed.is_some(), expected, "{byte}");
        }
        for refused in ["", " a", "a ", "a  b"] {
            assert_eq!(parse(refused.as_bytes()), None, "{refused:?}");
        }
    }
}
