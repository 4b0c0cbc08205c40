//! Plain text as a document.

use super::document::{Document, Element};

/// Writes a text as one block.
pub(super) fn read(text: &str, document: &mut Document<'_>) {
    if !text.is_empty() {
        document.start(Element::PlainText);
        document.text(text);
        document.end();
    }
}
