//! Names of tags and what they stand for.

use crate::content::document::Element;

/// Styles of text, in the order in which they are nested.
pub(super) const STYLES: [Element<'static>; 4] = [
    Element::Bold,
    Element::Italic,
    Element::Strikethrough,
    Element::Code,
];

/// Returns the index in [`STYLES`] of the style that a tag stands for.
pub(super) fn style_of(name: &str) -> Option<usize> {
    match name {
        "b" | "strong" => Some(0),
        "i" | "em" | "dfn" | "var" => Some(1),
        "s" | "del" | "strike" => Some(2),
        "code" | "tt" | "kbd" | "samp" => Some(3),
        _ => None,
    }
}

pub(super) fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

/// Whether a tag without a meaning here occurs within a line of text.
pub(super) fn is_inline(name: &str) -> bool {
    const INLINE: [&str; 31] = [
        "abbr", "acronym", "bdi", "bdo", "big", "cite", "data", "font", "ins", "label", "link",
        "mark", "meta", "nobr", "q", "rp", "rt", "ruby", "script", "small", "span", "style", "sub",
        "sup", "time", "u", "wbr", "base", "blink", "input", "o:p",
    ];
    INLINE.contains(&name)
}
