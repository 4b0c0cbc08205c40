//! Markdown as text for a terminal: styled, or plain where nothing understands styles. Everything that a message says
//! passes [`visible_block`] first; the only escape sequences in the result are the ones written here.

use super::{events, flattened, table::Table};
use crate::text::{visible_block, visible_line};
use pulldown_cmark::{Event, Tag, TagEnd};

/// Whether styles are understood where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// A file, a pipe, or a terminal without colour: bold stays `**bold**`.
    Plain,
    /// ANSI sequences.
    Ansi,
}

/// A style: its ANSI sequence, and the marks that stand for it in plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Style {
    sequence: &'static str,
    mark: &'static str,
}

const BOLD: Style = Style {
    sequence: "\x1b[1m",
    mark: "**",
};
const ITALIC: Style = Style {
    sequence: "\x1b[3m",
    mark: "_",
};
const STRUCK: Style = Style {
    sequence: "\x1b[9m",
    mark: "~~",
};
const HEADING: Style = Style {
    sequence: "\x1b[1m",
    mark: "",
};
const CODE: Style = Style {
    sequence: "\x1b[36m",
    mark: "`",
};
const LINK: Style = Style {
    sequence: "\x1b[4m",
    mark: "",
};
const RESET: &str = "\x1b[0m";
const RULE: &str = "────────────────────";

/// Renders Markdown for a terminal. The result ends without a line break.
#[must_use]
pub fn to_terminal(markdown: &str, paint: Paint) -> String {
    let text = visible_block(markdown);
    let mut writer = Writer::new(paint);
    for event in flattened(events(&text)) {
        writer.event(event);
    }
    writer.finish()
}

/// What every line of a quote or list item begins with.
#[derive(Debug)]
struct Indent {
    first: String,
    rest: &'static str,
    is_used: bool,
    width: usize,
}

#[derive(Debug)]
struct Writer {
    paint: Paint,
    out: String,
    indents: Vec<Indent>,
    lists: Vec<Option<u64>>,
    styles: Vec<Style>,
    /// The address of each open link, and where its text begins in `out`.
    links: Vec<(String, usize)>,
    table: Option<Table>,
    is_line_start: bool,
    /// Nothing stands in the present quote, item or document yet.
    is_fresh: bool,
}

impl Writer {
    const fn new(paint: Paint) -> Self {
        Self {
            paint,
            out: String::new(),
            indents: Vec::new(),
            lists: Vec::new(),
            styles: Vec::new(),
            links: Vec::new(),
            table: None,
            is_line_start: true,
            is_fresh: true,
        }
    }

    fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(text) => {
                self.open(CODE);
                self.text(&text);
                self.close();
            }
            Event::SoftBreak | Event::HardBreak => self.text("\n"),
            Event::Rule => {
                self.gap();
                self.text(RULE);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.text(&text)
            }
            Event::TaskListMarker(is_done) => self.text(if is_done { "[x] " } else { "[ ] " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.gap();
                self.open(HEADING);
                if self.paint == Paint::Plain {
                    self.text(&"#".repeat(level as usize));
                    self.text(" ");
                }
            }
            Tag::BlockQuote(_) => self.enter(Indent {
                first: "│ ".into(),
                rest: "│ ",
                is_used: false,
                width: 0,
            }),
            Tag::CodeBlock(_) => self.enter(Indent {
                first: "    ".into(),
                rest: "    ",
                is_used: false,
                width: 0,
            }),
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.gap();
                    self.is_fresh = true;
                }
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => {
                self.gap();
                self.table = Some(Table::default());
            }
            Tag::TableHead | Tag::TableRow => self.table.iter_mut().for_each(Table::begin_row),
            Tag::TableCell => self.table.iter_mut().for_each(Table::begin_cell),
            Tag::Emphasis => self.open(ITALIC),
            Tag::Strong => self.open(BOLD),
            Tag::Strikethrough => self.open(STRUCK),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.open(LINK);
                self.links
                    .push((visible_line(&dest_url).into_owned(), self.out.len()));
            }
            Tag::Paragraph | Tag::HtmlBlock => self.gap(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) | TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.close()
            }
            TagEnd::BlockQuote(_) | TagEnd::CodeBlock | TagEnd::Item => {
                self.end_line();
                self.indents.pop();
                self.is_fresh = false;
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.is_fresh = false;
            }
            TagEnd::Table => self.end_table(),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            _ => {}
        }
    }

    fn item(&mut self) {
        self.end_line();
        let first = match self.lists.last_mut() {
            Some(Some(number)) => {
                let text = format!("{number}. ");
                *number = number.saturating_add(1);
                text
            }
            _ => "• ".into(),
        };
        let width = first.chars().count();
        self.indents.push(Indent {
            first,
            rest: "",
            is_used: false,
            width,
        });
        self.is_fresh = true;
    }

    fn enter(&mut self, indent: Indent) {
        self.gap();
        self.indents.push(indent);
        self.is_fresh = true;
    }

    fn end_table(&mut self) {
        for line in self.table.take().unwrap_or_default().lines() {
            self.end_line();
            self.text(&line);
        }
    }

    /// The address always shows: a text must not pretend to lead elsewhere.
    fn end_link(&mut self) {
        self.close();
        let Some((address, start)) = self.links.pop() else {
            return;
        };
        let shown = self.out.get(start..).unwrap_or_default();
        if self.table.is_some() || shown.trim_end_matches(RESET) != address {
            self.text(&format!(" <{address}>"));
        }
    }

    /// A blank line between blocks, except inside lists and at the beginning of something.
    fn gap(&mut self) {
        if std::mem::take(&mut self.is_fresh) {
            return;
        }
        self.end_line();
        if self.lists.is_empty() && !self.out.is_empty() {
            self.write_indents();
            self.out.truncate(self.out.trim_end_matches(' ').len());
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        if !self.is_line_start {
            self.out.push('\n');
            self.is_line_start = true;
        }
    }

    fn open(&mut self, style: Style) {
        if self.table.is_some() {
            return;
        }
        self.styles.push(style);
        self.mark(style, style.sequence);
    }

    fn close(&mut self) {
        if self.table.is_some() {
            return;
        }
        let Some(style) = self.styles.pop() else {
            return;
        };
        self.mark(style, RESET);
        if self.paint == Paint::Ansi {
            self.out
                .extend(self.styles.iter().map(|style| style.sequence));
        }
    }

    fn mark(&mut self, style: Style, sequence: &str) {
        if self.is_line_start {
            self.write_indents();
        }
        self.out.push_str(match self.paint {
            Paint::Plain => style.mark,
            Paint::Ansi => sequence,
        });
    }

    fn text(&mut self, text: &str) {
        if let Some(table) = &mut self.table {
            table.write(text);
            return;
        }
        let text = visible_block(text);
        for piece in text.split_inclusive('\n') {
            let line = piece.trim_end_matches('\n');
            if !line.is_empty() && self.is_line_start {
                self.write_indents();
            }
            self.out.push_str(line);
            if piece.ends_with('\n') {
                self.out.push('\n');
                self.is_line_start = true;
            }
        }
    }

    fn write_indents(&mut self) {
        for indent in &mut self.indents {
            if std::mem::replace(&mut indent.is_used, true) {
                self.out.push_str(indent.rest);
                self.out.extend(std::iter::repeat_n(' ', indent.width));
            } else {
                self.out.push_str(&indent.first);
            }
        }
        self.is_line_start = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LETTER: &str = "\
# Order 17

Dear **Bolt**, see _the list_ and `x = 1`:

- nuts
- bolts
  1. M4
  2. M5

> agreed
> yesterday

```rust
fn main() {}

// end
```

|what|price|
|-|-|
|nuts|12 €|
|bolts|3 €|

Read [the terms](https://a.example/terms) or <https://b.example>.
";

    #[test]
    fn plain_text_reads_well() {
        let expected = "\
# Order 17

Dear **Bolt**, see _the list_ and `x = 1`:

• nuts
• bolts
  1. M4
  2. M5

│ agreed
│ yesterday

    fn main() {}

    // end

what   price
─────  ─────
nuts   12 €
bolts  3 €

Read the terms <https://a.example/terms> or https://b.example.";
        assert_eq!(to_terminal(LETTER, Paint::Plain), expected);
    }

    #[test]
    fn styles_end_where_they_should() {
        let styled = to_terminal("# T\n\na **b _c_ d** [l](https://a.example)", Paint::Ansi);
        let expected = "\x1b[1mT\x1b[0m\n\n\
            a \x1b[1mb \x1b[3mc\x1b[0m\x1b[1m d\x1b[0m \x1b[4ml\x1b[0m <https://a.example>";
        assert_eq!(styled, expected);
    }

    #[test]
    fn a_link_cannot_pretend_to_lead_elsewhere() {
        let text = to_terminal("[https://bank.example](https://evil.example)", Paint::Plain);
        assert_eq!(text, "https://bank.example <https://evil.example>");
        assert_eq!(
            to_terminal("- <https://a.example>", Paint::Plain),
            "• https://a.example"
        );
    }

    #[test]
    fn entities_do_not_smuggle_escapes() {
        assert_eq!(
            to_terminal("a&#27;[2Jb &#x202e;c", Paint::Plain),
            "a␛[2Jb \u{fffd}c"
        );
        assert_eq!(
            to_terminal("[x](https://a/&#27;[2J)", Paint::Plain),
            "x <https://a/␛[2J>"
        );
    }

    proptest! {
        #[test]
        fn no_escape_of_the_other_side_gets_through(markdown in any::<String>(), markup in "(&#27;|\x1b|\\*|_|`|\\[|\\]|\\(|\\)|>|\\||-|\n| |<|a){0,60}") {
            for text in [markdown, markup] {
                let shown = to_terminal(&text, Paint::Plain);
                prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            }
        }
    }
}
