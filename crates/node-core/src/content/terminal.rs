//! Rendering of a document as styled or plain text for a terminal. The text of a document is
//! visible, so the only escape sequences in the result are the ones written here.

use super::{
    document::{Element, Renderer},
    table::Table,
};

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

/// Prefix of the lines of a quote, list item or code block.
#[derive(Debug)]
struct Indent {
    first: String,
    rest: &'static str,
    is_used: bool,
    width: usize,
}

/// What the end of an open element requires.
#[derive(Debug)]
enum Open {
    Block,
    Item,
    /// Quote or code block.
    Indented,
    List,
    Table,
    Styled,
    /// Link to an address, and the start of its text in the output.
    Link {
        address: String,
        start: usize,
    },
}

/// Renderer of text for a terminal up to a length.
#[derive(Debug)]
pub(super) struct TerminalWriter {
    text_style: TextStyle,
    output: String,
    bytes_max: usize,
    open: Vec<Open>,
    indents: Vec<Indent>,
    lists: usize,
    styles: Vec<Style>,
    table: Option<Table>,
    is_line_start: bool,
    /// Whether the current quote, item or document is still empty.
    is_block_start: bool,
}

impl TerminalWriter {
    pub(super) const fn new(text_style: TextStyle, bytes_max: usize) -> Self {
        Self {
            text_style,
            output: String::new(),
            bytes_max,
            open: Vec::new(),
            indents: Vec::new(),
            lists: 0,
            styles: Vec::new(),
            table: None,
            is_line_start: true,
            is_block_start: true,
        }
    }

    const fn is_too_long(&self) -> bool {
        self.output.len() > self.bytes_max
    }

    fn start_heading(&mut self, level: u8) -> Open {
        self.separate_block();
        self.start_style(HEADING);
        if self.text_style == TextStyle::Plain {
            self.write_text(&"#".repeat(level.into()));
            self.write_text(" ");
        }
        Open::Styled
    }

    fn start_list(&mut self) -> Open {
        if self.lists == 0 {
            self.separate_block();
            self.is_block_start = true;
        }
        self.lists += 1;
        Open::List
    }

    /// Starts an item. Numbers are written as the author wrote them, and the marker of an empty item
    /// too.
    fn start_item(&mut self, marker: &str, is_empty: bool) -> Open {
        self.end_line();
        let is_numbered = marker.starts_with(|c: char| c.is_ascii_digit());
        let first = match (is_empty, is_numbered) {
            (true, _) => marker.to_owned(),
            (false, true) => format!("{marker} "),
            (false, false) => "• ".to_owned(),
        };
        self.indents.push(Indent {
            width: first.chars().count(),
            first,
            rest: "",
            is_used: false,
        });
        self.is_block_start = true;
        Open::Item
    }

    fn start_indent(&mut self, prefix: &'static str) -> Open {
        self.separate_block();
        self.indents.push(Indent {
            first: prefix.to_owned(),
            rest: prefix,
            is_used: false,
            width: 0,
        });
        self.is_block_start = true;
        Open::Indented
    }

    fn end_indent(&mut self) {
        self.end_line();
        self.indents.pop();
        self.is_block_start = false;
    }

    fn start_styled(&mut self, style: Style) -> Open {
        self.start_style(style);
        Open::Styled
    }

    fn start_link(&mut self, address: &str) -> Open {
        self.start_style(LINK);
        Open::Link {
            address: address.to_owned(),
            start: self.output.len(),
        }
    }

    /// Writes the address unless the text equals it, so that a link cannot disguise its target.
    fn end_link(&mut self, address: &str, start: usize) {
        self.end_style();
        let text = self.output.get(start..).unwrap_or_default();
        let text = text.trim_end_matches(RESET);
        let is_same = text == address || address.strip_prefix("mailto:") == Some(text);
        if self.table.is_some() || !is_same {
            self.write_text(&format!(" <{address}>"));
        }
    }

    fn end_table(&mut self) {
        for line in self.table.take().unwrap_or_default().to_lines() {
            self.end_line();
            self.write_text(&line);
        }
    }

    /// Ends the line, and writes a blank line between blocks, except in lists and at the start of a
    /// block.
    fn separate_block(&mut self) {
        if std::mem::take(&mut self.is_block_start) {
            return;
        }
        self.end_line();
        if self.lists == 0 && !self.output.is_empty() {
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
        if self.table.is_none() {
            self.styles.push(style);
            self.write_style(style, style.sequence);
        }
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
        self.is_block_start = false;
        self.output.push_str(match self.text_style {
            TextStyle::Plain => style.mark,
            TextStyle::Ansi => sequence,
        });
    }

    fn write_text(&mut self, text: &str) {
        if self.is_too_long() {
            return;
        }
        self.is_block_start = false;
        if let Some(table) = &mut self.table {
            table.write(text);
            return;
        }
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

impl Renderer for TerminalWriter {
    fn start(&mut self, element: Element<'_>) {
        let open = match element {
            Element::Paragraph | Element::PlainText => {
                self.separate_block();
                Open::Block
            }
            Element::Heading(level) => self.start_heading(level),
            Element::Quote => self.start_indent("│ "),
            Element::CodeBlock => self.start_indent("    "),
            Element::List { .. } => self.start_list(),
            Element::Item { marker, is_empty } => self.start_item(marker, is_empty),
            Element::Table => {
                self.separate_block();
                self.table = Some(Table::default());
                Open::Table
            }
            Element::TableHead | Element::TableRow => {
                let is_head = element == Element::TableHead;
                self.table
                    .iter_mut()
                    .for_each(|table| table.start_row(is_head));
                Open::Block
            }
            Element::TableCell => {
                self.table.iter_mut().for_each(Table::start_cell);
                Open::Block
            }
            Element::Bold => self.start_styled(BOLD),
            Element::Italic => self.start_styled(ITALIC),
            Element::Strikethrough => self.start_styled(STRIKETHROUGH),
            Element::Code => self.start_styled(CODE),
            Element::Link(address) => self.start_link(address),
        };
        self.open.push(open);
    }

    fn end(&mut self) {
        match self.open.pop() {
            Some(Open::Styled) => self.end_style(),
            Some(Open::Item) => {
                if self.indents.last().is_some_and(|item| !item.is_used) {
                    self.write_indents();
                }
                self.end_indent();
            }
            Some(Open::Indented) => self.end_indent(),
            Some(Open::List) => {
                self.lists -= 1;
                self.is_block_start = false;
            }
            Some(Open::Table) => self.end_table(),
            Some(Open::Link { address, start }) => self.end_link(&address, start),
            Some(Open::Block) | None => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.write_text(text);
    }

    fn line_break(&mut self) {
        self.write_text("\n");
    }

    fn rule(&mut self) {
        self.separate_block();
        self.write_text(RULE);
    }

    /// Returns the text without a final line break.
    fn finish(mut self) -> Option<String> {
        let is_complete = !self.is_too_long();
        self.output.truncate(self.output.trim_end().len());
        is_complete.then_some(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::TextStyle;
    use crate::{content, model::ContentType};
    use proptest::prelude::*;

    fn to_terminal(markdown: &str, text_style: TextStyle) -> String {
        content::to_terminal(markdown, ContentType::Markdown, text_style)
    }

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

rust

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
        for (markdown, text) in [
            ("- <https://a.example>", "• https://a.example"),
            ("<a@b.example>", "a@b.example"),
        ] {
            assert_eq!(to_terminal(markdown, TextStyle::Plain), text);
        }
    }

    #[test]
    fn blocks_in_items_start_a_line() {
        for (markdown, text) in [
            (
                "- run this:\n  ```\n  make all\n  ```\n- done",
                "• run this:\n      make all\n• done",
            ),
            ("- a\n  > b", "• a\n  │ b"),
            ("- a\n  # b", "• a\n  # b"),
            ("- a\n  ***", "• a\n  ────────────────────"),
            ("- a\n  <div>\n- b", "• a\n  <div>\n• b"),
        ] {
            assert_eq!(
                to_terminal(markdown, TextStyle::Plain),
                text,
                "{markdown:?}"
            );
        }
    }

    #[test]
    fn numbers_are_shown_as_written() {
        for (markdown, text) in [
            ("7.", "7."),
            ("1)", "1)"),
            ("+", "+"),
            ("007. x\n9. y", "007. x\n9. y"),
            ("1) a\n2) b", "1) a\n2) b"),
            ("a\n\n+\n\nb\n\n3.", "a\n\n+\n\nb\n\n3."),
        ] {
            assert_eq!(
                to_terminal(markdown, TextStyle::Plain),
                text,
                "{markdown:?}"
            );
        }
    }

    #[test]
    fn long_cells_do_not_widen_every_row() {
        let table =
            format!("|a|b|\n|-|-|\n|{}|x|\n", "y".repeat(20_000)) + &"|a|b|\n".repeat(5_000);
        let text = to_terminal(&table, TextStyle::Plain);
        assert!(text.contains('─') && text.len() < 5 * table.len());
    }

    #[test]
    fn entities_cannot_inject_escapes() {
        assert_eq!(
            to_terminal("a&#27;[2Jb &#x202e;c &shy;&amp;", TextStyle::Plain),
            "a&#27;[2Jb &#x202e;c &shy;&amp;"
        );
        assert_eq!(
            to_terminal("[x](https://a/&#27;[2J)", TextStyle::Plain),
            "x <https://a/%1B[2J> (https://a/&#27;[2J)"
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
