//! Rendering of Markdown as styled or plain text for a terminal. All content passes
//! [`visible_block`], so the only escape sequences in the result are the ones written here.

use super::{limit_depth, parse_events, table::Table};
use crate::text::{visible_block, visible_line};
use pulldown_cmark::{Event, Tag, TagEnd};

/// Styling of text for a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// No escape sequences, for files, pipes and terminals without colour: bold is `**bold**`.
    Plain,
    /// ANSI escape sequences.
    Ansi,
}

/// Style with its ANSI sequence and its mark in plain text.
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
const STRIKETHROUGH: Style = Style {
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
pub fn to_terminal(markdown: &str, text_style: TextStyle) -> String {
    let text = visible_block(markdown);
    let mut writer = Writer::new(text_style);
    for event in limit_depth(parse_events(&text)) {
        writer.write_event(event);
    }
    writer.finish()
}

/// Prefix of the lines of a quote or list item.
#[derive(Debug)]
struct Indent {
    first: String,
    rest: &'static str,
    is_used: bool,
    width: usize,
}

#[derive(Debug)]
struct Writer {
    text_style: TextStyle,
    output: String,
    indents: Vec<Indent>,
    lists: Vec<Option<u64>>,
    styles: Vec<Style>,
    /// Address of each open link, and the start of its text in `output`.
    links: Vec<(String, usize)>,
    table: Option<Table>,
    is_line_start: bool,
    /// Whether the current quote, item or document is still empty.
    is_block_start: bool,
}

impl Writer {
    const fn new(text_style: TextStyle) -> Self {
        Self {
            text_style,
            output: String::new(),
            indents: Vec::new(),
            lists: Vec::new(),
            styles: Vec::new(),
            links: Vec::new(),
            table: None,
            is_line_start: true,
            is_block_start: true,
        }
    }

    fn finish(mut self) -> String {
        self.output.truncate(self.output.trim_end().len());
        self.output
    }

    fn write_event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start_tag(tag),
            Event::End(tag) => self.end_tag(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                self.write_text(&text)
            }
            Event::Code(text) => {
                self.start_style(CODE);
                self.write_text(&text);
                self.end_style();
            }
            Event::SoftBreak | Event::HardBreak => self.write_text("\n"),
            Event::Rule => {
                self.separate_block();
                self.write_text(RULE);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.write_text(&text)
            }
            Event::TaskListMarker(is_done) => {
                self.write_text(if is_done { "[x] " } else { "[ ] " })
            }
        }
    }

    fn start_tag(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.separate_block();
                self.start_style(HEADING);
                if self.text_style == TextStyle::Plain {
                    self.write_text(&"#".repeat(level as usize));
                    self.write_text(" ");
                }
            }
            Tag::BlockQuote(_) => self.start_indent(Indent {
                first: "│ ".into(),
                rest: "│ ",
                is_used: false,
                width: 0,
            }),
            Tag::CodeBlock(_) => self.start_indent(Indent {
                first: "    ".into(),
                rest: "    ",
                is_used: false,
                width: 0,
            }),
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.separate_block();
                    self.is_block_start = true;
                }
                self.lists.push(first);
            }
            Tag::Item => self.start_item(),
            Tag::Table(_) => {
                self.separate_block();
                self.table = Some(Table::default());
            }
            Tag::TableHead | Tag::TableRow => self.table.iter_mut().for_each(Table::start_row),
            Tag::TableCell => self.table.iter_mut().for_each(Table::start_cell),
            Tag::Emphasis => self.start_style(ITALIC),
            Tag::Strong => self.start_style(BOLD),
            Tag::Strikethrough => self.start_style(STRIKETHROUGH),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.start_style(LINK);
                self.links
                    .push((visible_line(&dest_url).into_owned(), self.output.len()));
            }
            Tag::Paragraph | Tag::HtmlBlock => self.separate_block(),
            _ => {}
        }
    }

    fn end_tag(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) | TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.end_style()
            }
            TagEnd::BlockQuote(_) | TagEnd::CodeBlock | TagEnd::Item => {
                self.end_line();
                self.indents.pop();
                self.is_block_start = false;
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.is_block_start = false;
            }
            TagEnd::Table => self.end_table(),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            _ => {}
        }
    }

    fn start_item(&mut self) {
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
        self.is_block_start = true;
    }

    fn start_indent(&mut self, indent: Indent) {
        self.separate_block();
        self.indents.push(indent);
        self.is_block_start = true;
    }

    fn end_table(&mut self) {
        for line in self.table.take().unwrap_or_default().to_lines() {
            self.end_line();
            self.write_text(&line);
        }
    }

    /// Writes the address unless the text equals it, so that a link cannot disguise its target.
    fn end_link(&mut self) {
        self.end_style();
        let Some((address, start)) = self.links.pop() else {
            return;
        };
        let text = self.output.get(start..).unwrap_or_default();
        if self.table.is_some() || text.trim_end_matches(RESET) != address {
            self.write_text(&format!(" <{address}>"));
        }
    }

    /// Writes a blank line between blocks, except in lists and at the start of a block.
    fn separate_block(&mut self) {
        if std::mem::take(&mut self.is_block_start) {
            return;
        }
        self.end_line();
        if self.lists.is_empty() && !self.output.is_empty() {
            self.write_indents();
            self.output
                .truncate(self.output.trim_end_matches(' ').len());
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        if !self.is_line_start {
            self.output.push('\n');
            self.is_line_start = true;
        }
    }

    fn start_style(&mut self, style: Style) {
        if self.table.is_some() {
            return;
        }
        self.styles.push(style);
        self.write_style(style, style.sequence);
    }

    fn end_style(&mut self) {
        if self.table.is_some() {
            return;
        }
        let Some(style) = self.styles.pop() else {
            return;
        };
        self.write_style(style, RESET);
        if self.text_style == TextStyle::Ansi {
            self.output
                .extend(self.styles.iter().map(|style| style.sequence));
        }
    }

    fn write_style(&mut self, style: Style, sequence: &str) {
        if self.is_line_start {
            self.write_indents();
        }
        self.output.push_str(match self.text_style {
            TextStyle::Plain => style.mark,
            TextStyle::Ansi => sequence,
        });
    }

    fn write_text(&mut self, text: &str) {
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
            self.output.push_str(line);
            if piece.ends_with('\n') {
                self.output.push('\n');
                self.is_line_start = true;
            }
        }
    }

    fn write_indents(&mut self) {
        for indent in &mut self.indents {
            if std::mem::replace(&mut indent.is_used, true) {
                self.output.push_str(indent.rest);
                self.output.extend(std::iter::repeat_n(' ', indent.width));
            } else {
                self.output.push_str(&indent.first);
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
    fn plain_text_is_laid_out() {
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
        assert_eq!(to_terminal(LETTER, TextStyle::Plain), expected);
    }

    #[test]
    fn nested_styles_are_restored() {
        let styled = to_terminal(
            "# T\n\na **b _c_ d** [l](https://a.example)",
            TextStyle::Ansi,
        );
        let expected = "\x1b[1mT\x1b[0m\n\n\
            a \x1b[1mb \x1b[3mc\x1b[0m\x1b[1m d\x1b[0m \x1b[4ml\x1b[0m <https://a.example>";
        assert_eq!(styled, expected);
    }

    #[test]
    fn links_cannot_disguise_their_target() {
        let text = to_terminal(
            "[https://bank.example](https://evil.example)",
            TextStyle::Plain,
        );
        assert_eq!(text, "https://bank.example <https://evil.example>");
        assert_eq!(
            to_terminal("- <https://a.example>", TextStyle::Plain),
            "• https://a.example"
        );
    }

    #[test]
    fn entities_cannot_inject_escapes() {
        assert_eq!(
            to_terminal("a&#27;[2Jb &#x202e;c", TextStyle::Plain),
            "a␛[2Jb \u{fffd}c"
        );
        assert_eq!(
            to_terminal("[x](https://a/&#27;[2J)", TextStyle::Plain),
            "x <https://a/␛[2J>"
        );
    }

    proptest! {
        #[test]
        fn control_characters_are_removed(
            markdown in any::<String>(),
            markup in "(&#27;|\x1b|\\*|_|`|\\[|\\]|\\(|\\)|>|\\||-|\n| |<|a){0,60}",
        ) {
            for text in [markdown, markup] {
                let rendered = to_terminal(&text, TextStyle::Plain);
                let has_control = rendered.contains(|c: char| c.is_control() && c != '\n');
                prop_assert!(!has_control, "{rendered:?}");
            }
        }
    }
}
