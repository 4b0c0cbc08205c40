//! HTML as a document. Formatting, lists, links and tables are kept, scripts, style sheets and
//! comments are dropped, and of everything else the text is kept.

mod tag_names;
mod tokens;

use super::document::{Document, Element, link_address};
use htmlize::unescape;
use sealpost_proto::limits::CONTENT_DEPTH_MAX;
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

/// Element that contains blocks, rows or cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Quote,
    List,
    Item,
    CodeBlock,
    Table,
    Row,
    Cell,
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

    fn innermost(&self) -> Option<Container> {
        self.containers.last().copied()
    }

    fn is_in(&self, container: Container) -> bool {
        self.containers.contains(&container)
    }

    /// Starts a container, or only a block where it is not possible: in a cell, and too deep.
    fn start_container(&mut self, container: Container, element: Element<'_>) {
        self.end_block();
        self.enter_item_or_cell();
        if self.is_in(Container::Cell) || self.containers.len() >= CONTENT_DEPTH_MAX {
            return;
        }
        self.push(container, element);
    }

    fn push(&mut self, container: Container, element: Element<'_>) {
        self.document.start(element);
        self.containers.push(container);
        self.is_fresh = true;
        self.has_rows &= container != Container::Table;
    }

    /// Ends the innermost container of a kind, and everything in it. Inside a table, only parts of
    /// the table end.
    fn end_container(&mut self, container: Container) {
        self.end_block();
        let start = self
            .containers
            .iter()
            .rposition(|&open| open == container || open == Container::Table);
        if let Some(start) = start.filter(|&start| self.containers[start] == container) {
            self.end_containers(start);
        }
    }

    /// Ends all containers beyond the given number.
    fn end_containers(&mut self, count: usize) {
        self.end_block();
        for container in self.containers.drain(count..).rev() {
            if container == Container::List {
                self.numbers.pop();
            }
            self.document.end();
            self.is_fresh = false;
        }
    }

    /// Enters an item or cell if the innermost container can hold nothing else.
    fn enter_item_or_cell(&mut self) {
        match self.innermost() {
            Some(Container::List) => self.push_item(None),
            Some(Container::Table | Container::Row) => self.start_cell(false),
            _ => {}
        }
    }

    fn start_list(&mut self, first: Option<String>) {
        let element = Element::List {
            is_numbered: first.is_some(),
        };
        self.start_container(Container::List, element);
        if self.innermost() == Some(Container::List) && self.is_fresh {
            self.numbers
                .push(first.map(|first| first.trim().parse().unwrap_or(1)));
        }
    }

    fn start_item(&mut self, attributes: Attributes<'_>) {
        self.end_block();
        if self.is_in(Container::Cell) {
            return;
        }
        let list = self
            .containers
            .iter()
            .rposition(|open| matches!(open, Container::List | Container::Quote));
        match list.filter(|&list| self.containers[list] == Container::List) {
            Some(list) => self.end_containers(list + 1),
            None => self.start_list(None),
        }
        if self.innermost() == Some(Container::List) {
            let value = attributes.find("value");
            self.push_item(value.and_then(|value| value.trim().parse().ok()));
        }
    }

    fn push_item(&mut self, value: Option<u64>) {
        let marker = match self.numbers.last_mut() {
            Some(Some(next)) => {
                let number = value.unwrap_or(*next);
                *next = number.saturating_add(1);
                format!("{number}.")
            }
            _ => "-".to_owned(),
        };
        let element = Element::Item {
            marker: &marker,
            is_empty: false,
        };
        self.push(Container::Item, element);
    }

    fn end_row(&mut self) {
        self.end_block();
        if let Some(table) = self
            .containers
            .iter()
            .rposition(|&open| open == Container::Table)
        {
            self.end_containers(table + 1);
        }
    }

    fn start_cell(&mut self, is_head: bool) {
        self.end_block();
        let parent = self
            .containers
            .iter()
            .rposition(|open| matches!(open, Container::Row | Container::Table));
        let Some(parent) = parent else {
            return;
        };
        self.end_containers(parent + 1);
        if self.innermost() == Some(Container::Table) {
            let is_first = !std::mem::replace(&mut self.has_rows, true);
            let is_head_row = is_head && is_first;
            let row = if is_head_row {
                Element::TableHead
            } else {
                Element::TableRow
            };
            self.push(Container::Row, row);
        }
        self.push(Container::Cell, Element::TableCell);
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
