//! Texts that are expensive to parse, to nest or to format, each as long as a message may be.

use sealpost_proto::limits::MESSAGE_TEXT_BYTES_MAX;

/// Beginning, repeated piece and end of each text.
const PATTERNS: [(&str, &str, &str); 14] = [
    // Open formatting elements, which an HTML parser opens again in each paragraph.
    ("", "<p><b x=0><i><u><s>", ""),
    ("<p><b x=0><b x=1><b x=2><b x=3>", "<p>a</p>", ""),
    ("", "<a href=x><b y=1></p><p>", ""),
    ("", "<font color=red><p>", ""),
    // Deep nesting.
    ("", "<div><span>", ""),
    ("", "<table><tr><td>", ""),
    ("", "> ", "a"),
    ("", "* a\n  ", ""),
    ("", "[![", ""),
    // Delimiters without an end.
    ("", "*a **b __c ~~d ", ""),
    ("", "`a ``b ", ""),
    ("", "<!--<![CDATA[<?", ""),
    // Wide tables and references.
    ("|a|\n|-|\n", "|a", ""),
    ("[a]: x\n", "[a][a]![a] &amp;&#x202e;", ""),
];

/// Formatting elements of different kinds, which an HTML parser cannot merge.
fn distinct_elements() -> String {
    let opened: String = (0..300).map(|number| format!("<b x={number}>")).collect();
    fill(&format!("<p>{opened}</p>"), "<p>a</p>", "")
}

/// Returns all texts.
pub(crate) fn hostile_texts() -> Vec<String> {
    let patterns = PATTERNS.map(|(begin, piece, end)| fill(begin, piece, end));
    patterns.into_iter().chain([distinct_elements()]).collect()
}

/// Repeats a piece until the text has the largest size of a message.
fn fill(begin: &str, piece: &str, end: &str) -> String {
    let free = MESSAGE_TEXT_BYTES_MAX - begin.len() - end.len();
    [begin, &piece.repeat(free / piece.len()), end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_are_full_messages() {
        for text in hostile_texts() {
            assert!(
                text.len() > MESSAGE_TEXT_BYTES_MAX - 40 && text.len() <= MESSAGE_TEXT_BYTES_MAX
            );
        }
    }
}
