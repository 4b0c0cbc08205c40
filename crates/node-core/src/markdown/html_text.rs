//! HTML as text for a terminal.

use super::sanitise_html;
use crate::text::visible_block;
use std::fmt::Write as _;

/// Renders HTML for a terminal: its text, a line for each block, every link's address beside it.
#[must_use]
pub fn html_to_terminal(html: &str) -> String {
    let clean = sanitise_html(html);
    let mut text = String::with_capacity(clean.len());
    let mut address = None;
    for piece in clean.split_inclusive('>') {
        let (words, tag) = piece.split_once('<').unwrap_or((piece, ""));
        text.push_str(&unescaped(words));
        write_tag(&mut text, tag, &mut address);
    }
    tidy(&text)
}

/// Writes what a tag of sanitised HTML (without its `<`) means in plain text.
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
                let _ = write!(text, " <{}>", unescaped(&address));
            }
        }
        _ => {}
    }
}

/// Undoes the escapes that the sanitiser writes, in the order that undoes each once.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&nbsp;", "\u{a0}")
        .replace("&amp;", "&")
}

/// No blank line twice, none at the ends, nothing that acts.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && (tidy.is_empty() || tidy.ends_with("\n\n"))) {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    visible_block(tidy.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_becomes_lines() {
        let html = "<p>Dear <b>Bolt</b>,</p><ul><li>1 &lt; 2<li>a &amp;lt; b</ul><p><a href='https://a.example/?x&y'>l</a></p>";
        assert_eq!(
            html_to_terminal(html),
            "Dear Bolt,\n\n- 1 < 2\n\n- a &lt; b\nl <https://a.example/?x&y>"
        );
    }

    proptest! {
        #[test]
        fn no_escape_of_the_other_side_gets_through(html in "(&#27;|\x1b|&lt;|<a href=|<b>|<li>|\"|>|&amp;| |a){0,60}") {
            let shown = html_to_terminal(&html);
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}
