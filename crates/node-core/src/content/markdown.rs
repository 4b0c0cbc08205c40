//! CommonMark with tables and strikethrough as a document that shows every letter and digit of the
//! source.
//!
//! Raw HTML is text. What CommonMark hides is shown as it was written: definitions of link
//! references, links that lead nowhere, titles, the language of a code block, surplus cells of a
//! table, and character references.

use super::document::{Document, Element, link_address};
use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};
use std::{iter::Peekable, ops::Range};

/// Writes a Markdown text.
pub(super) fn read(source: &str, document: &mut Document<'_>) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events = Parser::new_ext(source, options)
        .into_offset_iter()
        .peekable();
    let mut reader = Reader {
        source,
        document,
        position: 0,
        open_leaves: 0,
        links: Vec::new(),
        open_links: 0,
        texts: 0,
        cells_end: 0,
        empty_cells: 0,
    };
    while let Some((event, range)) = events.next() {
        reader.read_event(event, range, &mut events);
    }
    reader.write_gap(source.len());
}

struct Reader<'s, 'd, 'r> {
    source: &'s str,
    document: &'d mut Document<'r>,
    /// End of the part of the source that was written.
    position: usize,
    /// Number of open elements that hold text, or are inside one that does. The source between them
    /// is markup.
    open_leaves: usize,
    links: Vec<Link<'s>>,
    /// Number of links that are shown as elements: 0 or 1.
    open_links: usize,
    /// Number of texts that were written and are not blank.
    texts: usize,
    /// End of the last cell of the table row that has text.
    cells_end: usize,
    /// Empty cells after that cell. They are not written at the end of a row: the parser fills up
    /// short rows, and a table could have very many of these cells.
    empty_cells: usize,
}

/// Open link or image.
struct Link<'s> {
    /// Address of the element; `None` if the link is shown as it was written, because it leads
    /// nowhere or is inside another link.
    address: Option<String>,
    destination: CowStr<'s>,
    title: CowStr<'s>,
    link_type: LinkType,
    /// Value of [`Reader::texts`] at the start.
    texts_before: usize,
}

impl<'s> Reader<'s, '_, '_> {
    fn read_event(
        &mut self,
        event: Event<'s>,
        range: Range<usize>,
        events: &mut Peekable<impl Iterator<Item = (Event<'s>, Range<usize>)>>,
    ) {
        match event {
            Event::Start(tag) => {
                self.write_gap(range.start);
                let is_empty = matches!(events.peek(), Some((Event::End(_), _)));
                self.start_tag(tag, range, is_empty);
            }
            Event::End(tag) => self.end_tag(tag, range),
            Event::Rule => {
                self.write_gap(range.start);
                self.document.rule();
                self.skip_to(range.end);
            }
            Event::SoftBreak | Event::HardBreak => self.document.line_break(),
            Event::Code(text) => {
                self.write_gap(range.start);
                self.document.start(Element::Code);
                self.write_text(&text, range);
                self.document.end();
            }
            Event::Text(text)
            | Event::Html(text)
            | Event::InlineHtml(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text)
            | Event::FootnoteReference(text) => {
                self.write_gap(range.start);
                self.write_text(&text, range);
            }
            Event::TaskListMarker(_) => {}
        }
    }

    fn start_tag(&mut self, tag: Tag<'s>, range: Range<usize>, is_empty: bool) {
        match tag {
            Tag::BlockQuote(_) => self.document.start(Element::Quote),
            Tag::List(first) => self.document.start(Element::List {
                is_numbered: first.is_some(),
            }),
            Tag::Item => {
                let item = &self.source[range.clone()];
                let (marker, content) = item.split_at(item_marker_length(item));
                self.skip_to(range.start + marker.len());
                self.document.start(Element::Item {
                    marker: marker.trim_start(),
                    is_empty: content.trim().is_empty(),
                });
            }
            _ => self.start_leaf(tag, range, is_empty),
        }
    }

    fn start_leaf(&mut self, tag: Tag<'s>, range: Range<usize>, is_empty: bool) {
        let element = match tag {
            Tag::Link {
                link_type,
                dest_url,
                title,
                ..
            }
            | Tag::Image {
                link_type,
                dest_url,
                title,
                ..
            } => {
                self.start_link(link_type, dest_url, title, &range);
                self.open_leaves += 1;
                return;
            }
            Tag::TableCell if is_empty => {
                self.empty_cells += 1;
                return;
            }
            Tag::CodeBlock(kind) => {
                if kind.is_fenced() {
                    self.write_info(&self.source[range.clone()]);
                }
                Element::CodeBlock
            }
            Tag::Heading { level, .. } => Element::Heading(level as u8),
            Tag::Table(_) => Element::Table,
            Tag::TableHead => Element::TableHead,
            Tag::TableRow => Element::TableRow,
            Tag::TableCell => Element::TableCell,
            Tag::Emphasis => Element::Italic,
            Tag::Strong => Element::Bold,
            Tag::Strikethrough => Element::Strikethrough,
            _ => Element::Paragraph,
        };
        match element {
            Element::TableHead | Element::TableRow => {
                self.cells_end = range.start;
                self.empty_cells = 0;
            }
            Element::TableCell => self.write_empty_cells(),
            _ => {}
        }
        self.open_leaves += 1;
        self.document.start(element);
    }

    fn end_tag(&mut self, tag: TagEnd, range: Range<usize>) {
        match tag {
            TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item => {
                self.write_gap(range.end);
                self.document.end();
                return;
            }
            TagEnd::TableCell if self.empty_cells > 0 => return,
            TagEnd::TableCell => self.cells_end = range.end,
            TagEnd::TableHead | TagEnd::TableRow => self.write_surplus_cells(range.end),
            _ => {}
        }
        self.open_leaves = self.open_leaves.saturating_sub(1);
        match tag {
            TagEnd::Link | TagEnd::Image => self.end_link(&range),
            _ => self.document.end(),
        }
        self.skip_to(range.end);
    }

    /// Writes the text of an element; a character reference as it was written.
    fn write_text(&mut self, text: &str, range: Range<usize>) {
        let written = &self.source[range.clone()];
        let is_reference = written.starts_with('&') && written.ends_with(';');
        self.document
            .text(if is_reference { written } else { text });
        self.texts += usize::from(!text.trim().is_empty());
        self.skip_to(range.end);
    }

    /// Writes what follows the opening fence of a code block, usually a language.
    fn write_info(&mut self, code: &str) {
        let fence = code.trim_start().lines().next().unwrap_or_default();
        let info = fence.trim_start_matches(['`', '~']).trim();
        if !info.is_empty() {
            self.document.start(Element::Paragraph);
            self.document.text(info);
            self.document.end();
        }
    }

    /// Writes the cells beyond the columns of the table, which the parser drops.
    fn write_surplus_cells(&mut self, end: usize) {
        let surplus = self.source.get(self.cells_end..end).unwrap_or_default();
        for cell in surplus.split('|').map(str::trim) {
            if !cell.is_empty() {
                self.write_empty_cells();
                self.document.start(Element::TableCell);
                self.document.text(cell);
                self.document.end();
            }
        }
    }

    fn write_empty_cells(&mut self) {
        for _ in 0..std::mem::take(&mut self.empty_cells) {
            self.document.start(Element::TableCell);
            self.document.end();
        }
    }

    fn start_link(
        &mut self,
        link_type: LinkType,
        destination: CowStr<'s>,
        title: CowStr<'s>,
        range: &Range<usize>,
    ) {
        let address = match link_type {
            _ if self.open_links > 0 => None,
            LinkType::Email => link_address(&format!("mailto:{destination}")),
            _ => link_address(&destination),
        };
        let opening = ["![", "[", "<"]
            .into_iter()
            .find(|opening| self.source[range.start..].starts_with(opening))
            .unwrap_or_default();
        match &address {
            Some(address) => {
                self.document.start(Element::Link(address));
                self.open_links += 1;
            }
            None => self.document.text(opening),
        }
        self.skip_to(range.start + opening.len());
        self.links.push(Link {
            address,
            destination,
            title,
            link_type,
            texts_before: self.texts,
        });
    }

    fn end_link(&mut self, range: &Range<usize>) {
        let Some(link) = self.links.pop() else {
            return;
        };
        let closing = self
            .source
            .get(self.position..range.end)
            .unwrap_or_default();
        let Some(address) = link.address else {
            self.document.text(closing);
            self.texts += 1;
            return;
        };
        self.open_links -= 1;
        if link.texts_before == self.texts {
            self.document.text(&address);
        }
        self.document.end();
        let has_all = closing.contains(&*link.destination) && closing.contains(&*link.title);
        let written = closing.trim_start().trim_start_matches(']');
        match link.link_type {
            LinkType::Reference => self.document.text(written),
            // Character references and escapes in the address or title are decoded.
            LinkType::Inline if !has_all => self.document.text(&format!(" {written}")),
            LinkType::Inline if !link.title.is_empty() => {
                self.document.text(&format!(" ({})", link.title));
            }
            _ => {}
        }
    }

    /// Continues after a part of the source that was written.
    fn skip_to(&mut self, end: usize) {
        self.position = self.position.max(end);
    }

    /// Writes the source up to `end` if the parser dropped text there: it hides definitions of link
    /// references.
    fn write_gap(&mut self, end: usize) {
        if self.open_leaves > 0 {
            return;
        }
        let gap = self.source.get(self.position..end).unwrap_or_default();
        self.skip_to(end);
        if !gap.contains(char::is_alphanumeric) {
            return;
        }
        self.document.start(Element::Paragraph);
        for line in gap.trim().lines() {
            let line = line.trim_start_matches(|c: char| c == '>' || c.is_whitespace());
            self.document.text(line.trim_end());
            self.document.line_break();
        }
        self.document.end();
    }
}

/// Returns the length of the marker at the start of a list item, such as `7.`, `1)` or `+`.
fn item_marker_length(item: &str) -> usize {
    let delimiter = |c: char| !(c.is_ascii_digit() || c.is_whitespace());
    item.find(delimiter).map_or(item.len(), |start| start + 1)
}
