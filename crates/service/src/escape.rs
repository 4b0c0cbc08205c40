//! Text of other parties, made harmless before it reaches a terminal or a log.

use std::fmt::Write as _;

/// Whether a character acts on a terminal, changes the order in which text is read, or has no
/// width, so that it can disguise the text around it.
#[must_use]
pub fn is_display_control(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Escapes display controls except line breaks, in a text of several lines or in a JSON document. In
/// JSON they occur only in strings, where an escape has the same meaning.
#[must_use]
pub fn escape_block(text: &str) -> String {
    escape(text, |c| c != '\n' && is_display_control(c))
}

/// Escapes display controls including line breaks, so that the text stays on its line.
#[must_use]
pub fn escape_line(text: &str) -> String {
    escape(text, is_display_control)
}

/// Writes the characters that `must_escape` selects as `\n`, `\u001b`, `\u202e`, as in JSON.
fn escape(text: &str, must_escape: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if !must_escape(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a `String` cannot fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_has_the_same_meaning() {
        let text = "a\u{9b}31m\u{202e}é\u{200b}\u{e0001}\u{7f}\n";
        let json = escape_block(&serde_json::to_string_pretty(&[text]).unwrap());
        assert_eq!(
            json,
            "[\n  \"a\\u009b31m\\u202eé\\u200b\\udb40\\udc01\\u007f\\n\"\n]"
        );
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }

    #[test]
    fn escaped_text_stays_on_its_line() {
        assert_eq!(
            escape_line("a\u{1b}[2J\r\n\tb\u{2028}ü 世"),
            "a\\u001b[2J\\u000d\\n\\tb\\u2028ü 世"
        );
    }
}
