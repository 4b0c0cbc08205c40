//! Rendering of a document as one line of text.

use super::document::{Element, Renderer};

/// Renderer of the beginning of a document as one line without markup.
#[derive(Debug)]
pub(super) struct LineWriter {
    line: String,
    /// Address of each open element that is a link, and the start of its text in `line`.
    open: Vec<Option<(String, usize)>>,
    /// Number of characters after which the line may end.
    chars_max: usize,
    chars: usize,
}

impl LineWriter {
    pub(super) const fn new(chars_max: usize) -> Self {
        Self {
            line: String::new(),
            open: Vec::new(),
            chars_max,
            chars: 0,
        }
    }

    /// Writes text with each run of white space as one space.
    fn write(&mut self, text: &str) {
        for c in text.chars() {
            if self.chars > self.chars_max {
                return;
            }
            let c = if c.is_whitespace() { ' ' } else { c };
            if c != ' ' || !(self.line.is_empty() || self.line.ends_with(' ')) {
                self.line.push(c);
                self.chars += 1;
            }
        }
    }
}

impl Renderer for LineWriter {
    fn start(&mut self, element: Element<'_>) {
        let link = match element {
            Element::Link(address) => Some((address.to_owned(), self.line.len())),
            _ => None,
        };
        self.open.push(link);
        match element {
            Element::Bold
            | Element::Italic
            | Element::Strikethrough
            | Element::Code
            | Element::Link(_) => {}
            Element::Item { marker, is_empty } => {
                self.write(" ");
                if is_empty || marker.starts_with(|c: char| c.is_ascii_digit()) {
                    self.write(marker);
                    self.write(" ");
                }
            }
            _ => self.write(" "),
        }
    }

    fn end(&mut self) {
        let Some(Some((address, start))) = self.open.pop() else {
            return;
        };
        if self.line.get(start..) != Some(address.as_str()) {
            self.write(&format!(" <{address}>"));
        }
    }

    fn text(&mut self, text: &str) {
        self.write(text);
    }

    fn line_break(&mut self) {
        self.write(" ");
    }

    fn rule(&mut self) {
        self.write(" ");
    }

    /// Returns the line, with an ellipsis if it is incomplete.
    fn finish(self) -> Option<String> {
        let line = self.line.trim_end();
        Some(match line.char_indices().nth(self.chars_max) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        })
    }
}
