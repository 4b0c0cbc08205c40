//! Rendering of HTML as text for a terminal.

use super::sanitise_html;
use crate::text::visible_block;
use std::fmt::Write as _;

/// Renders HTML as text with one line per block, and each link followed by its address.
#[must_use]
pub fn html_to_terminal(html: &str) -> String {
    let clean = sanitise_html(html);
    let mut text = String::with_capacity(clean.len());
    let mut address = None;
    for piece in clean.split_inclusive('>') {
        let (content, tag) = piece.split_once('<').unwrap_or((piece, ""));
        text.push_str(&unescape(content));
        write_tag(&mut text, tag, &mut address);
    }
    normalise_lines(&text)
}

/// Writes the plain text for a tag of sanitised HTML (without its `<`).
fn write_tag(text: &mut String, tag: &str, address: &mut Option<String>) {
    let name = tag.split([' ', '>']).next().unwrap_or_default();
    match name {
        "li" => text.push_str("\n- "),
        "br" | "/p" | "/li" | "/tr" | "/pre" | "/blockquote" | "/h1" | "/h2" | "/h3" | "/h4"
        | "/h5" | "/h6" => {
            text.push('\n');
        }
        "/td" | "/th" => text.push_str("  "),
        "a" => {
            *address = tag
                .split_once("href=\"")
                .and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
        }
        "/a" => {
            if let Some(address) = address.take() {
                // Writing to a `String` cannot fail.
                let _ = write!(text, " <{}>", unescape(&address));
            }
        }
        _ => {}
    }
}

/// Replaces the escapes that the sanitiser writes. `&amp;` comes last, so that nothing is unescaped
/// twice.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&nbsp;", "\u{a0}")
        .replace("&amp;", "&")
}

/// Collapses blank lines, removes them at both ends, and makes control characters visible.
fn normalise_lines(text: &str) -> String {
    let mut normalised = String::with_capacity(text.len());
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && (normalised.is_empty() || normalised.ends_with("\n\n"))) {
            normalised.push_str(line);
            normalised.push('\n');
        }
    }
    visible_block(normalised.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_becomes_lines() {
        let html = "<p>Dear <b>Bolt</b>,</p><ul><li>1 &lt; 2<li>a &amp;lt; b</ul>\
                    <p><a href='https://a.example/?x&y'>l</a></p>";
        assert_eq!(
            html_to_terminal(html),
            "Dear Bolt,\n\n- 1 < 2\n\n- a &lt; b\nl <https://a.example/?x&y>"
        );
    }

    proptest! {
        #[test]
        fn control_characters_are_removed(
            html in "(&#27;|\x1b|&lt;|<a href=|<b>|<li>|\"|>|&amp;| |a){0,60}"
        ) {
            let rendered = html_to_terminal(&html);
            prop_assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{rendered:?}");
        }
    }
}
