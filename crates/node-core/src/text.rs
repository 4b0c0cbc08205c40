//! Message texts, and safe display of text from other people.
//!
//! A terminal obeys control characters, and bidirectional controls change the order in which text
//! is read. A peer's text is therefore never printed as it was received: [`visible_line`] and
//! [`visible_block`] replace these characters by visible ones.

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
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
        .all(|c| is_blank_char(c) || is_hidden(c) || c.is_control() || is_display_control(c))
}

/// Makes text visible on one line, for notes and reasons. Control characters, including line breaks
/// and tabs, become visible characters.
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_display_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(make_visible(text, |c, visible| {
        visible.push(visible_char(c))
    }))
}

/// Makes the text of a message visible. Line breaks of all systems become `\n`, tabs become spaces,
/// and other characters are treated as by [`visible_line`].
#[must_use]
pub fn visible_block(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_display_control(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(make_visible(
        &unify_line_breaks(text),
        |c, visible| match c {
            '\n' => visible.push('\n'),
            '\t' => visible.push_str("    "),
            _ => visible.push(visible_char(c)),
        },
    ))
}

/// Replaces the line breaks of all systems by `\n`: CR LF, a lone CR, and the line and page breaks of
/// word processors and of Unicode.
pub(crate) fn unify_line_breaks(text: &str) -> Cow<'_, str> {
    const OTHERS: [char; 6] = ['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    if !text.contains(OTHERS) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace(OTHERS, "\n"))
}

/// Copies a text. Flags that consist of tags are copied unchanged, and `write` writes every other
/// character.
fn make_visible(text: &str, write: impl Fn(char, &mut String)) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (done, after) = rest.split_at(tagged_flag_length(rest).unwrap_or(c.len_utf8()));
        if done.len() > c.len_utf8() {
            visible.push_str(done);
        } else {
            write(c, &mut visible);
        }
        rest = after;
    }
    visible
}

/// Returns the length in bytes of the flag of a region (UTS #51, emoji tag sequence) at the start of
/// the text: a black flag, the tags of the region, such as `gbeng`, and the end tag. Tags elsewhere
/// are a way to hide text.
fn tagged_flag_length(text: &str) -> Option<usize> {
    const REGION_LENGTHS: std::ops::RangeInclusive<usize> = 3..=6;
    const TAG_BYTES: usize = 4;
    let tags = text.strip_prefix('\u{1f3f4}')?;
    let region = tags
        .chars()
        .take_while(|c| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}'))
        .take(REGION_LENGTHS.end() + 1)
        .count();
    let is_flag = REGION_LENGTHS.contains(&region)
        && tags.get(region * TAG_BYTES..)?.starts_with('\u{e007f}');
    is_flag.then_some('\u{1f3f4}'.len_utf8() + (region + 1) * TAG_BYTES)
}

/// Whether a character controls the terminal or the order of the text instead of being displayed.
pub(crate) fn is_display_control(c: char) -> bool {
    c.is_control()
        || is_bidi_control(c)
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Whether a character is not displayed (Unicode's `Default_Ignorable_Code_Point`): joiners,
/// variation selectors, fillers and marks of direction. Scripts and emoji need some of them in
/// running text.
pub(crate) fn is_hidden(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character is displayed as a blank.
pub(crate) fn is_blank_char(c: char) -> bool {
    c.is_whitespace() || is_blank_symbol(c)
}

/// Whether a character is displayed as a blank but is not white space: blank patterns, notes,
/// fillers and hieroglyphs.
pub(crate) const fn is_blank_symbol(c: char) -> bool {
    matches!(
        c,
        '\u{115f}'
            | '\u{1160}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{13441}'
            | '\u{13442}'
            | '\u{16fe4}'
            | '\u{1d159}'
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
        for blank in [
            "",
            " \r\n\t",
            "\u{3000}\u{200b}",
            "\u{0}\u{202e}",
            "\u{2800}\u{3164}",
        ] {
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
        assert_eq!(
            visible_block("a\r\nb\tc\rd\u{2066}"),
            "a\nb    c\nd\u{fffd}"
        );
    }

    #[test]
    fn languages_and_emoji_are_not_changed() {
        for text in [
            "Grüße, ‏שלום‎, 你好",
            "👩‍👩‍👧",
            "نمی‌خواهم",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}!",
        ] {
            assert_eq!(visible_line(text), text);
            assert_eq!(visible_block(text), text);
        }
    }

    #[test]
    fn tags_outside_flags_become_visible() {
        for hidden in [
            "\u{e0067}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}",
            "🏴\u{e0041}\u{e0042}\u{e0043}\u{e007f}",
            &format!("🏴{}\u{e007f}", "\u{e0061}".repeat(7)),
        ] {
            assert!(
                !visible_line(hidden).contains('\u{e007f}')
                    && visible_block(hidden).contains('\u{fffd}'),
                "{hidden:?}"
            );
        }
    }

    #[test]
    fn line_breaks_of_all_systems_are_kept() {
        assert_eq!(
            visible_block("1\r2\r\n3\n4\u{2028}5\u{2029}6\u{85}7\u{b}8\u{c}9"),
            "1\n2\n3\n4\n5\n6\n7\n8\n9"
        );
    }

    proptest! {
        #[test]
        fn visible_text_has_no_display_controls(text in any::<String>()) {
            let is_tag = |c: char| ('\u{e0000}'..='\u{e007f}').contains(&c);
            let is_control = |c: char| is_display_control(c) && !is_tag(c);
            prop_assert!(!visible_line(&text).contains(is_control));
            prop_assert!(!visible_block(&text).contains(|c| is_control(c) && c != '\n'));
        }
    }
}
