//! Rendering of a document as inert HTML. The only tags and attributes in the result are the ones
//! written here, and they are properly nested, so the work of a browser grows with the length alone.

use super::document::{Element, Renderer};

/// Renderer of HTML up to a length.
#[derive(Debug)]
pub(super) struct HtmlWriter {
    html: String,
    open: Vec<Open>,
    bytes_max: usize,
    is_too_long: bool,
    /// Whether spaces are significant.
    is_plain: bool,
    /// Whether the table has its body already.
    has_table_body: bool,
}

/// Open element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Element with these end tags.
    Tags(&'static str),
    TableHead,
    Table,
    Cell {
        is_head: bool,
    },
}

impl HtmlWriter {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            html: String::new(),
            open: Vec::new(),
            bytes_max,
            is_too_long: false,
            is_plain: false,
            has_table_body: false,
        }
    }

    fn write(&mut self, html: &str) {
        self.is_too_long |= self.html.len() + html.len() > self.bytes_max;
        if !self.is_too_long {
            self.html.push_str(html);
        }
    }

    /// Starts a block on a line of its own.
    fn write_block_start(&mut self, tags: &str) {
        if !(self.html.is_empty() || self.html.ends_with(['\n', '>'])) {
            self.write("\n");
        }
        self.write(tags);
    }

    fn start_block(&mut self, start_tags: &str, end_tags: &'static str) -> Open {
        self.write_block_start(start_tags);
        Open::Tags(end_tags)
    }

    fn start_inline(&mut self, start_tag: &str, end_tag: &'static str) -> Open {
        self.write(start_tag);
        Open::Tags(end_tag)
    }

    fn start_list(&mut self, is_numbered: bool) -> Open {
        if is_numbered {
            self.start_block("<ol>\n", "</ol>\n")
        } else {
            self.start_block("<ul>\n", "</ul>\n")
        }
    }

    /// Starts an item. A number is stated for each item, because people number as they like.
    fn start_item(&mut self, marker: &str) -> Open {
        let number = marker.trim_end_matches(|c: char| !c.is_ascii_digit());
        if number.is_empty() {
            self.write_block_start("<li>");
        } else {
            self.write_block_start("<li value=\"");
            self.write(number);
            self.write("\">");
        }
        Open::Tags("</li>\n")
    }

    fn start_heading(&mut self, level: u8) -> Open {
        match level {
            1 => self.start_block("<h1>", "</h1>\n"),
            2 => self.start_block("<h2>", "</h2>\n"),
            3 => self.start_block("<h3>", "</h3>\n"),
            4 => self.start_block("<h4>", "</h4>\n"),
            5 => self.start_block("<h5>", "</h5>\n"),
            _ => self.start_block("<h6>", "</h6>\n"),
        }
    }

    fn start_row(&mut self) -> Open {
        if !std::mem::replace(&mut self.has_table_body, true) {
            self.write("<tbody>");
        }
        self.start_inline("<tr>", "</tr>")
    }

    fn start_cell(&mut self) -> Open {
        let is_head = self.open.last() == Some(&Open::TableHead);
        self.write(if is_head { "<th>" } else { "<td>" });
        Open::Cell { is_head }
    }

    fn start_link(&mut self, address: &str) -> Open {
        self.write("<a href=\"");
        self.write(&escape(address).replace('"', "&quot;"));
        self.start_inline("\" rel=\"noopener noreferrer nofollow\">", "</a>")
    }

    /// Writes text in which every space is displayed.
    fn write_plain(&mut self, text: &str) {
        let mut is_after_space = self.html.ends_with(['\n', '>']);
        for c in text.chars() {
            if c == ' ' && is_after_space {
                self.write("&nbsp;");
            } else {
                self.write(&escape(c.encode_utf8(&mut [0; 4])));
            }
            is_after_space = c == ' ';
        }
    }
}

impl Renderer for HtmlWriter {
    fn start(&mut self, element: Element<'_>) {
        let open = match element {
            Element::Paragraph => self.start_block("<p>", "</p>\n"),
            Element::PlainText => {
                self.is_plain = true;
                self.start_block("<p>", "</p>\n")
            }
            Element::Heading(level) => self.start_heading(level),
            Element::Quote => self.start_block("<blockquote>\n", "</blockquote>\n"),
            Element::List { is_numbered } => self.start_list(is_numbered),
            Element::Item { marker, .. } => self.start_item(marker),
            Element::CodeBlock => self.start_block("<pre><code>", "</code></pre>\n"),
            Element::Table => {
                self.has_table_body = false;
                self.write_block_start("<table>");
                Open::Table
            }
            Element::TableHead => {
                self.write("<thead><tr>");
                Open::TableHead
            }
            Element::TableRow => self.start_row(),
            Element::TableCell => self.start_cell(),
            Element::Bold => self.start_inline("<strong>", "</strong>"),
            Element::Italic => self.start_inline("<em>", "</em>"),
            Element::Strikethrough => self.start_inline("<del>", "</del>"),
            Element::Code => self.start_inline("<code>", "</code>"),
            Element::Link(address) => self.start_link(address),
        };
        self.open.push(open);
    }

    fn end(&mut self) {
        let end_tags = match self.open.pop() {
            Some(Open::Tags(tags)) => tags,
            Some(Open::TableHead) => "</tr></thead>",
            Some(Open::Table) if self.has_table_body => "</tbody></table>\n",
            Some(Open::Table) => "</table>\n",
            Some(Open::Cell { is_head: true }) => "</th>",
            Some(Open::Cell { is_head: false }) => "</td>",
            None => "",
        };
        self.write(end_tags);
    }

    fn text(&mut self, text: &str) {
        if self.is_plain {
            self.write_plain(text);
        } else {
            self.write(&escape(text));
        }
    }

    fn line_break(&mut self) {
        self.write("<br>\n");
    }

    fn rule(&mut self) {
        self.write_block_start("<hr>\n");
    }

    fn finish(self) -> Option<String> {
        (!self.is_too_long).then_some(self.html)
    }
}

/// Escapes text for the content of an element.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{a0}' => escaped.push_str("&nbsp;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Renders plain text as HTML that is no longer than its escapes require.
pub(super) fn preformatted(text: &str) -> String {
    format!("<pre>\n{}</pre>\n", escape(text))
}
