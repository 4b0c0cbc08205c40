//! Rendering of a message's text as inert HTML, as text for a terminal, or as one line.
//!
//! A reader turns the text into a document according to its content type, and a renderer writes the
//! document in one of the three formats. Recipients render for themselves; a peer's rendering is
//! never used. Nothing is loaded automatically: images become links. Links lead to web pages and
//! mail addresses only.
//!
//! Every letter and digit of a Markdown text is displayed, and everything in an HTML text except
//! tags, scripts, style sheets and comments. If the rendering has no visible text, or is too long,
//! the text is displayed as plain text.

mod document;
mod html;
mod html_writer;
mod line;
mod markdown;
mod plain;
mod table;
mod terminal;

pub use terminal::TextStyle;

use crate::{
    model::ContentType,
    text::{unify_line_breaks, visible_block},
};
use document::{Document, Renderer};
use html_writer::HtmlWriter;
use line::LineWriter;
use sealpost_proto::limits::RENDERED_TEXT_BYTES_MAX;
use std::borrow::Cow;
use terminal::TerminalWriter;

/// Renders a text as HTML without scripts, styles, images or forms.
///
/// Up to [`RENDERED_TEXT_BYTES_MAX`] bytes: a longer rendering is replaced by the text as plain
/// text, which is longer only if the escapes of its characters are.
#[must_use]
pub fn to_html(content: &str, content_type: ContentType) -> String {
    render(content, content_type, || {
        HtmlWriter::new(RENDERED_TEXT_BYTES_MAX)
    })
    .unwrap_or_else(|| html_writer::preformatted(&visible_block(content)))
}

/// Renders a text for a terminal. The result ends without a line break.
#[must_use]
pub fn to_terminal(content: &str, content_type: ContentType, text_style: TextStyle) -> String {
    render(content, content_type, || {
        TerminalWriter::new(text_style, RENDERED_TEXT_BYTES_MAX)
    })
    .unwrap_or_else(|| visible_block(content).into_owned())
}

/// Renders the beginning of a text as one line without markup, for lists. An ellipsis follows the
/// given number of characters.
#[must_use]
pub fn to_line(content: &str, content_type: ContentType, chars_max: usize) -> String {
    render(content, content_type, || LineWriter::new(chars_max)).unwrap_or_default()
}

/// Renders a text according to its type, and as plain text if that rendering has no visible text or
/// is too long. Returns `None` if both are too long.
fn render<R: Renderer>(
    content: &str,
    content_type: ContentType,
    new_renderer: impl Fn() -> R,
) -> Option<String> {
    let text = normalise(content);
    [content_type, ContentType::Plain]
        .into_iter()
        .find_map(|content_type| {
            let mut renderer = new_renderer();
            let mut document = Document::new(&mut renderer);
            match content_type {
                ContentType::Markdown => markdown::read(&text, &mut document),
                ContentType::Html => html::read(&text, &mut document),
                ContentType::Plain => plain::read(&text, &mut document),
            }
            let is_visible = document.has_text() || content_type == ContentType::Plain;
            renderer.finish().filter(|_| is_visible)
        })
}

/// Removes a byte order mark, and unifies line breaks, so that the first line and the last are read
/// like all others.
fn normalise(content: &str) -> Cow<'_, str> {
    unify_line_breaks(content.strip_prefix('\u{feff}').unwrap_or(content))
}

#[cfg(test)]
mod tests;
