//! Names of files: the one that people see, and the one that a file system takes.
//!
//! A name comes from the other side and is not trusted: [`FileName::from_remote`] makes it visible, and
//! [`FileName::safe_name`] is the only form that may touch a disk.

use crate::text::{is_active, is_invisible, visible};
use sealpost_proto::limits::{FILE_EXTENSION_BYTES_MAX, FILE_NAME_BYTES_MAX};
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

/// The name of what has no name.
const NAMELESS: &str = "file";
/// What stands for a character that is not safe.
const PLACEHOLDER: char = '_';

/// Why a name cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileNameRefusal {
    /// Nothing in it but white space.
    #[error("the file has no name")]
    Empty,
    /// Over the limit.
    #[error("the file name has {actual_bytes} bytes, the limit is {limit_bytes}")]
    TooLong {
        /// Bytes of the name as UTF-8.
        actual_bytes: usize,
        /// [`FILE_NAME_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// `.`, `..`, or with a slash.
    #[error("the file name is a path")]
    Path,
    /// A control character, or one that hides or turns around what follows.
    #[error("the file name has the hidden character U+{code_point:04X}")]
    Hidden {
        /// The character.
        code_point: u32,
    },
}

/// A file's name as people see it: 1 to [`FILE_NAME_BYTES_MAX`] bytes, no path, every character visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName(String);

impl FileName {
    /// Takes the name of a file that is to be sent.
    ///
    /// # Errors
    /// [`FileNameRefusal`]: the sender can still rename it.
    pub fn parse(name: &str) -> Result<Self, FileNameRefusal> {
        if name.trim().is_empty() {
            return Err(FileNameRefusal::Empty);
        }
        if name.len() > FILE_NAME_BYTES_MAX {
            return Err(FileNameRefusal::TooLong {
                actual_bytes: name.len(),
                limit_bytes: FILE_NAME_BYTES_MAX,
            });
        }
        if name == "." || name == ".." || name.contains('/') {
            return Err(FileNameRefusal::Path);
        }
        match name.chars().find(|&c| is_hidden(c)) {
            Some(c) => Err(FileNameRefusal::Hidden {
                code_point: u32::from(c),
            }),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// Takes a name that the other side sent, whatever it is: what is hidden becomes visible, what is too long is cut
    /// before its extension.
    #[must_use]
    pub fn from_remote(name: &str) -> Self {
        let visible: String = name
            .chars()
            .map(|c| {
                if c == '/' {
                    '\u{2215}'
                } else {
                    visible_char(c)
                }
            })
            .collect();
        let visible = if visible.trim().is_empty() || visible == "." || visible == ".." {
            NAMELESS.to_owned()
        } else {
            visible
        };
        Self(cut(&visible).into_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which a file system may keep the file: see [`safe_name`].
    #[must_use]
    pub fn safe_name(&self) -> String {
        safe_name(&self.0)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that Linux, macOS and Windows all take as one ordinary file in the directory it is put in.
///
/// NFC; no separator, no character that Windows forbids, nothing hidden; does not begin with a dot, a dash or a space,
/// does not end with a dot or a space; no device of Windows (`CON`, `LPT1.txt`); 1 to 255 bytes, cut before the extension.
#[must_use]
pub fn safe_name(name: &str) -> String {
    let replaced: String = name
        .nfc()
        .map(|c| if is_unsafe(c) { PLACEHOLDER } else { c })
        .collect();
    let mut safe = cut(trim(&replaced)).into_owned();
    safe.truncate(trim(&safe).len());
    if is_device(&safe) {
        safe.insert(0, PLACEHOLDER);
        safe = cut(&safe).into_owned();
    }
    if safe.is_empty() {
        NAMELESS.to_owned()
    } else {
        safe
    }
}

fn is_hidden(c: char) -> bool {
    is_active(c) || is_invisible(c)
}

fn visible_char(c: char) -> char {
    if is_invisible(c) {
        char::REPLACEMENT_CHARACTER
    } else {
        visible(c)
    }
}

fn is_unsafe(c: char) -> bool {
    is_hidden(c)
        || matches!(
            c,
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | char::REPLACEMENT_CHARACTER
        )
}

fn trim(name: &str) -> &str {
    let head = name.trim_start_matches(|c: char| c == '.' || c == '-' || c.is_whitespace());
    head.trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// Windows takes these for devices, whatever follows the first dot.
fn is_device(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$" => true,
        _ => stem
            .strip_prefix("COM")
            .or_else(|| stem.strip_prefix("LPT"))
            .is_some_and(is_port),
    }
}

fn is_port(number: &str) -> bool {
    let mut chars = number.chars();
    matches!(
        (chars.next(), chars.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    )
}

/// At most [`FILE_NAME_BYTES_MAX`] bytes, cut between characters and before the extension.
fn cut(name: &str) -> std::borrow::Cow<'_, str> {
    if name.len() <= FILE_NAME_BYTES_MAX {
        return name.into();
    }
    let extension = match name.rfind('.') {
        Some(dot) if name.len() - dot <= FILE_EXTENSION_BYTES_MAX => &name[dot..],
        _ => "",
    };
    let stem = &name[..name.floor_char_boundary(FILE_NAME_BYTES_MAX - extension.len())];
    format!("{stem}{extension}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_hides_something_is_refused_with_the_character() {
        for (bad, refusal) in [
            ("", FileNameRefusal::Empty),
            (" ", FileNameRefusal::Empty),
            ("..", FileNameRefusal::Path),
            ("a/b", FileNameRefusal::Path),
            ("a\0b", FileNameRefusal::Hidden { code_point: 0 }),
            (
                "invoice\u{202e}fdp.exe",
                FileNameRefusal::Hidden { code_point: 0x202e },
            ),
            (
                "a\u{200b}.pdf",
                FileNameRefusal::Hidden { code_point: 0x200b },
            ),
        ] {
            assert_eq!(FileName::parse(bad), Err(refusal), "{bad:?}");
        }
        let refusal = FileName::parse(&"x".repeat(300)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the file name has 300 bytes, the limit is 255"
        );
        assert_eq!(
            FileName::parse("Grüße (1).pdf").unwrap().as_str(),
            "Grüße (1).pdf"
        );
    }

    #[test]
    fn a_remote_name_is_made_visible() {
        for (name, visible) in [
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("\u{1b}[31m", "␛[31m"),
            ("../../etc/passwd", "..∕..∕etc∕passwd"),
            ("..", "file"),
            ("\n", "␊"),
            ("", "file"),
        ] {
            assert_eq!(FileName::from_remote(name).as_str(), visible);
        }
        let long = FileName::from_remote(&("é".repeat(300) + ".tar.gz"));
        assert_eq!(long.as_str().len(), 255);
        assert!(long.as_str().ends_with("é.gz"));
    }

    #[test]
    fn a_safe_name_is_one_ordinary_file_everywhere() {
        for (name, safe) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..\\..\\x", "_.._x"),
            ("..", "file"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("a. . ", "a"),
            ("CON", "_CON"),
            ("com1.txt", "_com1.txt"),
            ("LPT¹", "_LPT¹"),
            ("nul .tar.gz", "_nul .tar.gz"),
            ("COM10", "COM10"),
            ("C:\\x", "C__x"),
            ("e\u{301}.txt", "é.txt"),
            ("a\u{202e}b", "a_b"),
            ("\u{fffd}", "_"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn safe_names_hold_their_promise(name in "\\PC{0,40}|(CON|nul|\\.|/|\\\\| |-|e\u{301}|\u{202e}|x){0,300}") {
            let safe = safe_name(&name);
            prop_assert!((1..=FILE_NAME_BYTES_MAX).contains(&safe.len()));
            prop_assert!(!safe.contains(is_unsafe) && !is_device(&safe));
            prop_assert_eq!(trim(&safe), &safe);
            prop_assert_eq!(&safe_name(&safe), &safe);
        }

        #[test]
        fn every_remote_name_could_be_sent_on(name in any::<String>()) {
            let visible = FileName::from_remote(&name);
            prop_assert_eq!(FileName::parse(visible.as_str()), Ok(visible));
        }
    }
}
