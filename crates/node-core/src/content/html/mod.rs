//! HTML as a document. Formatting, lists, links and tables are kept, scripts, style sheets and
//! comments are dropped, and of everything else the text is kept.

mod containers;
mod tag_names;
mod tokens;

use super::document::{Document, Element, link_address};
use containers::Container;
use htmlize::unescape;
use tag_names::{STYLES, heading_level, is_inline, style_of};
use tokens::{Attributes, Token, Tokens};

/// Writes an HTML text.
pub(super) fn read(source: &str, document: &mut Document<'_>) {
    let mut reader = Reader::new(document);
    for token in Tokens::new(source) {
        match token {
            Token::Text(text) => reader.read_text(&unescape(text)),
            Token::StartTag { name, attributes } => {
                reader.start_tag(&name.to_ascii_lowercase(), attributes);
            }
            Token::EndTag(name) => reader.end_tag(&name.to_ascii_lowercase()),
        }
    }
    reader.end_link();
    reader.end_containers(0);
}

/// What text is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    /// An item or cell itself.
    Container,
    /// A paragraph or heading.
    Element,
}

struct Reader<'d, 'r> {
    document: &'d mut Document<'r>,
    containers: Vec<Container>,
    /// Numbers of the next items of the open lists; `None` for a bulleted list.
    numbers: Vec<Option<u64>>,
    block: Block,
    /// Whether the innermost container is still empty.
    is_fresh: bool,
    /// Whether the innermost table has a row.
    has_rows: bool,
    /// Level of the heading that the next text starts.
    heading: Option<u8>,
    /// Number of open tags of each style.
    styles: [usize; STYLES.len()],
    /// Styles that the document has started.
    open_styles: [bool; STYLES.len()],
    /// Address of a link whose text has not started.
    pending_link: Option<String>,
    is_link_open: bool,
    has_pending_space: bool,
}

impl<'d, 'r> Reader<'d, 'r> {
    const fn new(document: &'d mut Document<'r>) -> Self {
        Self {
            document,
            containers: Vec::new(),
            numbers: Vec::new(),
            block: Block::None,
            is_fresh: true,
            has_rows: false,
            heading: None,
            styles: [0; STYLES.len()],
            open_styles: [false; STYLES.len()],
            pending_link: None,
            is_link_open: false,
            has_pending_space: false,
        }
    }

    fn start_tag(&mut self, name: &str, attributes: Attributes<'_>) {
        if self.innermost() == Some(Container::CodeBlock) && name != "br" {
            return;
        }
        match name {
            "a" => {
                self.end_link();
                self.pending_link = attributes.find("href").and_then(|href| link_address(&href));
            }
            "img" => self.write_image(attributes),
            "br" => self.write_line_break(),
            "hr" => self.write_rule(),
            "blockquote" => self.start_container(Container::Quote, Element::Quote),
            "pre" => self.start_container(Container::CodeBlock, Element::CodeBlock),
            "ol" => self.start_list(attributes.find("start").or_else(|| Some("1".to_owned()))),
            "ul" => self.start_list(None),
            "li" => self.start_item(attributes),
            "table" => self.start_container(Container::Table, Element::Table),
            "tr" => self.end_row(),
            "td" | "th" => self.start_cell(name == "th"),
            _ => match style_of(name) {
                Some(style) => self.styles[style] += 1,
                None if is_inline(name) => {}
                None => {
                    self.end_block();
                    self.heading = heading_level(name);
                }
            },
        }
    }

    fn end_tag(&mut self, name: &str) {
        match name {
            "a" => self.end_link(),
            "blockquote" => self.end_container(Container::Quote),
            "pre" => self.end_container(Container::CodeBlock),
            "ol" | "ul" => self.end_container(Container::List),
            "li" => self.end_container(Container::Item),
            "table" => self.end_container(Container::Table),
            "tr" => self.end_container(Container::Row),
            "td" | "th" => self.end_container(Container::Cell),
            _ => match style_of(name) {
                Some(style) => self.styles[style] = self.styles[style].saturating_sub(1),
                None if is_inline(name) => {}
                None => self.end_block(),
            },
        }
    }

    /// Ends a paragraph. In a cell, which has none, the next text starts a line.
    fn end_block(&mut self) {
        self.end_styles();
        if std::mem::take(&mut self.is_link_open) {
            self.document.end();
        }
        match std::mem::replace(&mut self.block, Block::None) {
            Block::Element => self.document.end(),
            Block::Container if self.innermost() == Some(Container::Cell) => {
                self.document.line_break();
            }
            Block::Container | Block::None => {}
        }
        self.heading = None;
        self.has_pending_space = false;
    }

    /// Starts a paragraph or heading, unless one is open. An item begins without one.
    fn start_block(&mut self) {
        if self.block != Block::None {
            return;
        }
        self.enter_item_or_cell();
        let is_direct = match self.innermost() {
            Some(Container::Cell | Container::CodeBlock) => true,
            Some(Container::Item) => self.is_fresh && self.heading.is_none(),
            _ => false,
        };
        self.block = if is_direct {
            Block::Container
        } else {
            let heading = self.heading.map(Element::Heading);
            self.document.start(heading.unwrap_or(Element::Paragraph));
            Block::Element
        };
        self.is_fresh = false;
    }

    fn read_text(&mut self, text: &str) {
        if self.innermost() == Some(Container::CodeBlock) {
            let is_first = std::mem::take(&mut self.is_fresh);
            let text = text.strip_prefix('\n').filter(|_| is_first).unwrap_or(text);
            self.document.text(text);
            return;
        }
        let starts_with_space = text.starts_with(|c: char| c.is_ascii_whitespace());
        self.has_pending_space |= starts_with_space && self.block != Block::None;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() {
            return;
        }
        self.start_block();
        self.start_styles();
        self.document.text(&words.join(" "));
        self.has_pending_space = text.ends_with(|c: char| c.is_ascii_whitespace());
    }

    /// Starts the pending link and the styles of the next text, with the pending space before them.
    fn start_styles(&mut self) {
        let wanted = self.styles.map(|tags| tags > 0);
        let has_changed = wanted != self.open_styles || self.pending_link.is_some();
        if has_changed {
            self.end_styles();
        }
        if std::mem::take(&mut self.has_pending_space) {
            self.document.text(" ");
        }
        if has_changed {
            if let Some(address) = self.pending_link.take() {
                self.document.start(Element::Link(&address));
                self.is_link_open = true;
            }
            for (style, _) in STYLES
                .iter()
                .zip(wanted)
                .filter(|(_, is_wanted)| *is_wanted)
            {
                self.document.start(*style);
            }
            self.open_styles = wanted;
        }
    }

    fn end_styles(&mut self) {
        for is_open in &mut self.open_styles {
            if std::mem::take(is_open) {
                self.document.end();
            }
        }
    }

    /// Ends a link. The text of an empty link is its address.
    fn end_link(&mut self) {
        if let Some(address) = self.pending_link.clone() {
            self.read_text(&address);
        }
        self.end_styles();
        if std::mem::take(&mut self.is_link_open) {
            self.document.end();
        }
    }

    /// Writes the description of an image as a link to it.
    fn write_image(&mut self, attributes: Attributes<'_>) {
        let description = attributes.find("alt").unwrap_or_default();
        let is_in_link = self.is_link_open || self.pending_link.is_some();
        if is_in_link || description.trim().is_empty() {
            self.read_text(&description);
            return;
        }
        self.pending_link = attributes.find("src").and_then(|src| link_address(&src));
        self.read_text(&description);
        self.end_link();
    }

    fn write_line_break(&mut self) {
        self.has_pending_space = false;
        if self.innermost() == Some(Container::CodeBlock) {
            self.document.text("\n");
        } else if self.block != Block::None {
            self.document.line_break();
        }
    }

    fn write_rule(&mut self) {
        self.end_block();
        self.enter_item_or_cell();
        if !self.is_in(Container::Cell) {
            self.document.rule();
            self.is_fresh = false;
        }
    }
}
