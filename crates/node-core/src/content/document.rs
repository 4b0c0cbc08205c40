//! Documents as a sequence of elements and text, which readers write and renderers display.

use crate::text::{is_blank, is_blank_char, is_display_control, is_hidden, visible_block};
use sealpost_proto::limits::CONTENT_DEPTH_MAX;
use std::fmt::Write as _;
use url::Url;

/// Element of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Paragraph,
    /// Paragraph whose spaces are significant.
    PlainText,
    /// Heading of the level 1 to 6.
    Heading(u8),
    Quote,
    /// Numbered or bulleted list.
    List {
        is_numbered: bool,
    },
    /// Item of a list, with its marker as written, such as `7.` or `+`.
    Item {
        marker: &'a str,
        is_empty: bool,
    },
    CodeBlock,
    Table,
    TableHead,
    TableRow,
    TableCell,
    Bold,
    Italic,
    Strikethrough,
    Code,
    /// Link to an address from [`link_address`].
    Link(&'a str),
}

impl Element<'_> {
    /// Returns the number of nested elements that it consists of at least.
    const fn height(self) -> usize {
        match self {
            Self::Table => 3,
            Self::TableHead | Self::TableRow | Self::List { .. } => 2,
            _ => 1,
        }
    }

    const fn is_inline(self) -> bool {
        matches!(
            self,
            Self::Bold | Self::Italic | Self::Strikethrough | Self::Code | Self::Link(_)
        )
    }
}

/// Output format of a document. Elements are nested properly, up to [`CONTENT_DEPTH_MAX`] deep. All
/// text is visible and has no line breaks, except in a code block.
pub(super) trait Renderer {
    fn start(&mut self, element: Element<'_>);
    /// Ends the innermost element.
    fn end(&mut self);
    fn text(&mut self, text: &str);
    fn line_break(&mut self);
    fn rule(&mut self);
    /// Returns the result, or `None` if it exceeds the renderer's limit.
    fn finish(self) -> Option<String>
    where
        Self: Sized;
}

/// Writer of a document for a renderer. Makes text visible and limits the depth.
pub(super) struct Document<'r> {
    renderer: &'r mut dyn Renderer,
    open: Vec<Open>,
    /// Number of started elements that are open.
    depth: usize,
    pending_breaks: usize,
    has_text: bool,
}

/// Open element, as far as [`Document`] distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Too deep for the renderer.
    Flattened,
    CodeBlock,
    Other,
}

impl<'r> Document<'r> {
    pub(super) fn new(renderer: &'r mut dyn Renderer) -> Self {
        Self {
            renderer,
            open: Vec::new(),
            depth: 0,
            pending_breaks: 0,
            has_text: false,
        }
    }

    /// Whether the document has any visible text.
    pub(super) const fn has_text(&self) -> bool {
        self.has_text
    }

    /// Starts an element. An element that is too deep is flattened: its content is displayed
    /// without it, on a line of its own.
    pub(super) fn start(&mut self, element: Element<'_>) {
        let is_too_deep = self.depth + element.height() > CONTENT_DEPTH_MAX;
        if is_too_deep || self.open.last() == Some(&Open::Flattened) {
            self.open.push(Open::Flattened);
            self.start_flattened(element);
            return;
        }
        self.open.push(match element {
            Element::CodeBlock => Open::CodeBlock,
            _ => Open::Other,
        });
        self.depth += 1;
        if element.is_inline() {
            self.write_breaks();
        }
        self.pending_breaks = 0;
        self.renderer.start(element);
        if let Element::Item { marker, is_empty } = element {
            self.has_text |= !is_empty && marker.starts_with(|c: char| c.is_ascii_digit());
        }
    }

    fn start_flattened(&mut self, element: Element<'_>) {
        if !element.is_inline() {
            self.pending_breaks = self.pending_breaks.max(1);
        }
        match element {
            Element::Item { marker, .. } => self.text(&format!("{marker} ")),
            Element::Link(address) => self.text(&format!("<{address}> ")),
            _ => {}
        }
    }

    /// Ends the innermost element.
    pub(super) fn end(&mut self) {
        match self.open.pop() {
            Some(Open::CodeBlock | Open::Other) => {
                self.pending_breaks = 0;
                self.depth -= 1;
                self.renderer.end();
            }
            Some(Open::Flattened) | None => {}
        }
    }

    /// Writes text. Outside code blocks its line breaks become elements.
    pub(super) fn text(&mut self, text: &str) {
        let visible = visible_block(text);
        if self.open.last() == Some(&Open::CodeBlock) {
            self.write(&visible);
            return;
        }
        for (index, line) in visible.split('\n').enumerate() {
            if index > 0 {
                self.line_break();
            }
            self.write(line);
        }
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.write_breaks();
        self.has_text = self.has_text || !is_blank(text);
        self.renderer.text(text);
    }

    /// Writes a line break, unless it would end an element.
    pub(super) fn line_break(&mut self) {
        self.pending_breaks += 1;
    }

    fn write_breaks(&mut self) {
        for _ in 0..std::mem::take(&mut self.pending_breaks) {
            self.renderer.line_break();
        }
    }

    pub(super) fn rule(&mut self) {
        self.pending_breaks = 0;
        self.renderer.rule();
    }
}

/// Returns the address of a link that is displayed as one, to a web page or a mail address.
/// Characters that would be invisible are percent-encoded.
pub(super) fn link_address(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    if !matches!(url.scheme(), "http" | "https" | "mailto") {
        return None;
    }
    let mut visible = String::with_capacity(address.len());
    for c in address.trim().chars() {
        if is_display_control(c) || is_hidden(c) || is_blank_char(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a `String` cannot fail.
                let _ = write!(visible, "%{byte:02X}");
            }
        } else {
            visible.push(c);
        }
    }
    Some(visible)
}
