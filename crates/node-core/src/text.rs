//! Message texts, and safe display of text from other people.
//!
//! A terminal obeys control characters, and bidirectional controls change the order in which text
//! is read. A peer's text is therefore never printed as it was received: [`visible_line`] and
//! [`visible_block`] replace these characters by visible ones.

use sealpost_proto::limits::MESSAGE_TEXT_BYTES_MAX;
use std::borrow::Cow;

/// Reason why a message text cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextRefusal {
    /// The text is blank, and the message has no file.
    #[error("the message has neither text nor a file")]
    Empty,
    /// The text exceeds the limit.
    #[error("the text has {actual_bytes} bytes, the limit is {limit_bytes}")]
    TooLong {
        /// Length of the text in bytes of UTF-8.
        actual_bytes: usize,
        /// The limit, [`MESSAGE_TEXT_BYTES_MAX`].
        limit_bytes: usize,
    },
}

/// Text of a message: up to [`MESSAGE_TEXT_BYTES_MAX`] bytes, and empty only in a message with a
/// file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    /// Validates a text. Blank text becomes empty; other text is not changed.
    ///
    /// # Errors
    /// [`TextRefusal`] if the text is too long, or if it is blank and the message has no file.
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

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the owned text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether the text has no visible character.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || c.is_control() || is_invisible(c) || is_bidi_control(c))
}

/// Makes text visible on one line, for names, notes and reasons. Control characters, including line
/// breaks and tabs, become visible characters.
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_display_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(visible_char).collect())
}

/// Makes the text of a message visible. Line breaks stay, tabs become spaces, and other characters
/// are treated as by [`visible_line`].
#[must_use]
pub fn visible_block(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_display_control(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => visible.push('\n'),
            '\t' => visible.push_str("    "),
            _ => visible.push(visible_char(c)),
        }
    }
    Cow::Owned(visible)
}

/// Whether a character controls the terminal or the order of the text instead of being displayed.
pub(crate) fn is_display_control(c: char) -> bool {
    c.is_control()
        || is_bidi_control(c)
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Whether a character has no width. Joiners are not included: scripts and emoji need them.
pub(crate) const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'
            ..='\u{2064}' | '\u{feff}'
    )
}

/// Whether a character is an embedding, override or isolate of the Unicode bidirectional algorithm
/// (UAX #9, section 2).
const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the control picture of a C0 control character, and the replacement character for other
/// display controls.
pub(crate) fn visible_char(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => {
            char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        '\u{7f}' => '\u{2421}',
        _ if is_display_control(c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_up_to_the_limit_are_accepted() {
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
    fn empty_text_needs_a_file() {
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
    fn control_characters_become_visible() {
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
    fn languages_and_emoji_are_not_changed() {
        for text in ["Grüße, ‏שלום‎, 你好", "👩‍👩‍👧", "نمی‌خواهم"]
        {
            assert_eq!(visible_line(text), text);
            assert_eq!(visible_block(text), text);
        }
    }

    proptest! {
        #[test]
        fn visible_text_has_no_display_controls(text in any::<String>()) {
            prop_assert!(!visible_line(&text).contains(is_display_control));
            prop_assert!(!visible_block(&text).contains(|c| is_display_control(c) && c != '\n'));
        }
    }
}
