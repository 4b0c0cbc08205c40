//! Text of people: what a message may hold, and how text that somebody else wrote is shown without letting it act.
//!
//! A terminal obeys control characters, and a reader trusts the order of what is read. So text of the other side is
//! never printed as it came: [`visible_line`] and [`visible_block`] put a visible character in the place of every
//! control character and of everything that turns the direction of writing around.

use sealpost_proto::limits::MESSAGE_TEXT_BYTES_MAX;
use std::borrow::Cow;

/// Why a text cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextRefusal {
    /// Nothing to see in it, and no file with it.
    #[error("the message has neither text nor a file")]
    Empty,
    /// Over the limit.
    #[error("the text has {actual_bytes} bytes, the limit is {limit_bytes}")]
    TooLong {
        /// Bytes of the text as UTF-8.
        actual_bytes: usize,
        /// [`MESSAGE_TEXT_BYTES_MAX`].
        limit_bytes: usize,
    },
}

/// The text of a message: at most [`MESSAGE_TEXT_BYTES_MAX`] bytes, and empty only beside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    /// Takes the text as it was written. A text of nothing but white space becomes the empty one.
    ///
    /// # Errors
    /// [`TextRefusal`] when it is too long, or when there is nothing to see in it and no file goes with it.
    pub fn parse(text: String, has_files: bool) -> Result<Self, TextRefusal> {
        if text.len() > MESSAGE_TEXT_BYTES_MAX {
            return Err(TextRefusal::TooLong {
                actual_bytes: text.len(),
                limit_bytes: MESSAGE_TEXT_BYTES_MAX,
            });
        }
        match (is_blank(&text), has_files) {
            (false, _) => Ok(Self(text)),
            (true, true) => Ok(Self(String::new())),
            (true, false) => Err(TextRefusal::Empty),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether a reader would see nothing at all.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || c.is_control() || is_invisible(c) || turns_direction(c))
}

/// For names, notes and reasons: one line in which every character shows, line breaks and tabs as well.
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(visible).collect())
}

/// For the text of a message: lines stay lines, a tab becomes spaces, everything else as in [`visible_line`].
#[must_use]
pub fn visible_block(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_active(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => shown.push('\n'),
            '\t' => shown.push_str("    "),
            _ => shown.push(visible(c)),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character acts on the terminal or on the order of reading in place of being seen.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || turns_direction(c)
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character takes no room though it is there. Joiners are not meant: scripts and emoji need them.
pub(crate) const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'
            ..='\u{2064}' | '\u{feff}'
    )
}

/// The embeddings, overrides and isolates of the Unicode bidirectional algorithm (UAX #9 section 2).
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The picture of a control character, or the replacement character.
pub(crate) fn visible(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => {
            char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        '\u{7f}' => '\u{2421}',
        _ if is_active(c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_up_to_the_limit_is_taken() {
        let longest = "x".repeat(MESSAGE_TEXT_BYTES_MAX);
        assert_eq!(
            MessageText::parse(longest.clone(), false).unwrap().as_str(),
            longest
        );
        let refusal = MessageText::parse(longest + "x", true).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the text has 65537 bytes, the limit is 65536"
        );
    }

    #[test]
    fn an_empty_text_needs_a_file() {
        for blank in ["", " \r\n\t", "\u{3000}\u{200b}", "\u{0}\u{202e}"] {
            assert_eq!(
                MessageText::parse(blank.into(), false),
                Err(TextRefusal::Empty),
                "{blank:?}"
            );
            assert_eq!(MessageText::parse(blank.into(), true).unwrap().as_str(), "");
        }
        assert_eq!(
            MessageText::parse(" x ".into(), false)
                .unwrap()
                .into_string(),
            " x "
        );
    }

    #[test]
    fn escapes_and_overrides_become_visible() {
        assert_eq!(
            visible_line("\u{1b}[2Jhi\n\u{7f}\u{9b}31m"),
            "␛[2Jhi␊␡\u{fffd}31m"
        );
        assert_eq!(
            visible_line("invoice\u{202e}fdp.exe"),
            "invoice\u{fffd}fdp.exe"
        );
        assert_eq!(visible_block("a\r\nb\tc\rd\u{2066}"), "a\nb    c␍d\u{fffd}");
    }

    #[test]
    fn languages_and_emoji_stay_as_they_are() {
        for text in ["Grüße, ‏שלום‎, 你好", "👩‍👩‍👧", "نمی‌خواهم"]
        {
            assert_eq!(visible_line(text), text);
            assert_eq!(visible_block(text), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_active_is_left(text in any::<String>()) {
            prop_assert!(!visible_line(&text).contains(is_active));
            prop_assert!(!visible_block(&text).contains(|c| is_active(c) && c != '\n'));
        }
    }
}
