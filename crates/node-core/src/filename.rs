//! File names for display and for the file system.
//!
//! The name that a peer sends is not trusted: [`FileName::from_remote`] makes it visible, and only
//! [`FileName::safe_name`] may be used on a disk.

use crate::text::{self, is_blank_symbol, is_display_control, visible_char};
use sealpost_proto::limits::{FILE_EXTENSION_BYTES_MAX, FILE_NAME_BYTES_MAX};
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

/// Name of a file whose own name is unusable.
const DEFAULT_NAME: &str = "file";
/// Replacement for an unsafe character.
const PLACEHOLDER: char = '_';

/// Reason why a file name cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileNameRefusal {
    /// The name has only white space.
    #[error("the file has no name")]
    Empty,
    /// The name exceeds the limit.
    #[error("the file name has {actual_bytes} bytes, the limit is {limit_bytes}")]
    TooLong {
        /// Length of the name in bytes of UTF-8.
        actual_bytes: usize,
        /// The limit, [`FILE_NAME_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// The name is `.` or `..`, or it contains a slash.
    #[error("the file name is a path")]
    Path,
    /// The name has a control character, an invisible one, or one that changes the reading order.
    #[error("the file name has the hidden character U+{code_point:04X}")]
    Hidden {
        /// Code point of the character.
        code_point: u32,
    },
}

/// Name of a file as people see it: 1 to [`FILE_NAME_BYTES_MAX`] bytes, no path, all characters
/// visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName(String);

impl FileName {
    /// Validates the name of a file to send.
    ///
    /// # Errors
    /// [`FileNameRefusal`] if people would not see the name as it is; the sender can rename the
    /// file.
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
        match name
            .chars()
            .find(|&c| is_display_control(c) || is_always_hidden(c))
        {
            Some(c) => Err(FileNameRefusal::Hidden {
                code_point: u32::from(c),
            }),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// Accepts any name from a peer. Hidden characters become visible, and a long name is truncated
    /// before its extension.
    #[must_use]
    pub fn from_remote(name: &str) -> Self {
        let mut previous = None;
        let visible: String = name
            .chars()
            .map(|c| {
                let shown = visible_name_char(previous, c);
                previous = Some(shown);
                shown
            })
            .collect();
        let visible = if visible.trim().is_empty() || visible == "." || visible == ".." {
            DEFAULT_NAME.to_owned()
        } else {
            visible
        };
        Self(truncate_name(&visible).into_owned())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name for the file system: see [`safe_name`].
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

/// Returns a name that Linux, macOS and Windows all accept as one ordinary file in a directory.
///
/// The name is NFC and 1 to 255 bytes long, truncated before its extension. It has no separator, no
/// character that Windows forbids, none that a shell would interpret and no hidden one. Its white
/// space is ordinary spaces. It does not start with a dot, dash, tilde or space, does not end with a
/// dot or space, and is no Windows device (`CON`, `LPT1.txt`).
#[must_use]
pub fn safe_name(name: &str) -> String {
    let replaced: String = name.nfc().map(safe_char).collect();
    let mut safe = truncate_name(trim_name(&replaced)).into_owned();
    safe.truncate(trim_name(&safe).len());
    if is_windows_device(&safe) {
        safe.insert(0, PLACEHOLDER);
        safe = truncate_name(&safe).into_owned();
    }
    if safe.is_empty() {
        DEFAULT_NAME.to_owned()
    } else {
        safe
    }
}

/// Whether a character has no place in the name of a file. Other characters that may be hidden occur
/// in emoji and in some scripts, and recipients see where they do not belong.
const fn is_always_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'
            ..='\u{2064}' | '\u{feff}'
    )
}

/// Whether people would not see a character: a control, a joiner or selector where none belongs, or
/// a symbol that looks like a space.
fn is_hidden(previous: Option<char>, c: char) -> bool {
    is_display_control(c)
        || is_blank_symbol(c)
        || (text::is_hidden(c) && !(is_joiner(c) && joins_with(previous, c)))
}

/// Whether a character joins or selects the forms of others, as some scripts and emoji need.
const fn is_joiner(c: char) -> bool {
    matches!(
        c,
        '\u{200c}' | '\u{200d}' | '\u{180b}'..='\u{180d}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Whether a joiner belongs after a character: after none of ASCII, except in a keycap emoji.
fn joins_with(previous: Option<char>, joiner: char) -> bool {
    match previous {
        None => false,
        Some('0'..='9' | '#' | '*') => matches!(joiner, '\u{fe0e}' | '\u{fe0f}'),
        Some(previous) => !previous.is_ascii() && previous != joiner,
    }
}

fn visible_name_char(previous: Option<char>, c: char) -> char {
    if c == '/' {
        '\u{2215}'
    } else if is_display_control(c) {
        visible_char(c)
    } else if is_hidden(previous, c) {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// Whether a character has a meaning for a file system or a shell, or is invisible.
fn is_unsafe(c: char) -> bool {
    is_display_control(c)
        || is_blank_symbol(c)
        || (text::is_hidden(c) && !is_joiner(c))
        || matches!(
            c,
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | char::REPLACEMENT_CHARACTER
        )
        || matches!(
            c,
            '$' | '(' | ')' | '`' | ';' | '&' | '\'' | '!' | '%' | '^'
        )
}

fn safe_char(c: char) -> char {
    match c {
        _ if is_unsafe(c) => PLACEHOLDER,
        _ if c.is_whitespace() => ' ',
        _ => c,
    }
}

fn trim_name(name: &str) -> &str {
    let head = name.trim_start_matches(|c: char| matches!(c, '.' | '-' | '~') || c.is_whitespace());
    head.trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// Whether Windows opens a device by this name. It ignores everything after the first dot.
fn is_windows_device(name: &str) -> bool {
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
            .is_some_and(is_device_number),
    }
}

fn is_device_number(number: &str) -> bool {
    let mut chars = number.chars();
    matches!(
        (chars.next(), chars.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    )
}

/// Truncates a name to [`FILE_NAME_BYTES_MAX`] bytes, between characters and before its extension.
fn truncate_name(name: &str) -> std::borrow::Cow<'_, str> {
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
    fn unusable_names_are_refused() {
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
        for name in [
            "Grüße (1).pdf",
            "Screenshot 3.45\u{202f}PM.png",
            "👩‍👩‍👧 1\u{fe0f}\u{20e3} ❤\u{fe0f}‍🔥.png",
            "نمی‌خواهم",
            "資料\u{3000}1.pdf",
        ] {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
            assert_eq!(FileName::from_remote(name).as_str(), name);
        }
    }

    #[test]
    fn remote_names_become_visible() {
        for (name, visible) in [
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("\u{1b}[31m", "␛[31m"),
            ("../../etc/passwd", "..∕..∕etc∕passwd"),
            ("..", "file"),
            ("\n", "␊"),
            ("a\u{3164}\u{2800}.pdf", "a\u{fffd}\u{fffd}.pdf"),
            ("a\u{200d}b\u{fe0f}", "a\u{fffd}b\u{fffd}"),
            ("", "file"),
        ] {
            assert_eq!(FileName::from_remote(name).as_str(), visible);
        }
        let long = FileName::from_remote(&("é".repeat(300) + ".tar.gz"));
        assert_eq!(long.as_str().len(), 255);
        assert!(long.as_str().ends_with("é.gz"));
    }

    #[test]
    fn safe_names_are_ordinary_files_everywhere() {
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
            ("$(reboot).pdf", "__reboot_.pdf"),
            ("a`id`;b&'c'!%PATH%^.txt", "a_id__b__c___PATH__.txt"),
            ("~a", "a"),
            ("a\u{3000}b\u{2800}", "a b_"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn safe_names_are_safe_and_stable(
            name in "\\PC{0,40}|(CON|nul|\\.|/|\\\\| |-|e\u{301}|\u{202e}|x){0,300}"
        ) {
            let safe = safe_name(&name);
            prop_assert!((1..=FILE_NAME_BYTES_MAX).contains(&safe.len()));
            prop_assert!(!safe.contains(is_unsafe) && !is_windows_device(&safe));
            prop_assert_eq!(trim_name(&safe), &safe);
            prop_assert_eq!(&safe_name(&safe), &safe);
        }

        #[test]
        fn remote_names_can_be_forwarded(name in any::<String>()) {
            let visible = FileName::from_remote(&name);
            prop_assert_eq!(FileName::parse(visible.as_str()), Ok(visible));
        }
    }
}
