//! HTML as a sequence of tags and text, in one pass over the source.
//!
//! The result need not agree with a browser's about malformed HTML: nothing of the source reaches a
//! browser as markup. What is not a complete tag or comment is text.

use htmlize::unescape_attribute;

/// Tag or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// Text with character references.
    Text(&'s str),
    StartTag {
        name: &'s str,
        attributes: Attributes<'s>,
    },
    EndTag(&'s str),
}

/// Iterator over the tokens of a source.
pub(super) struct Tokens<'s> {
    rest: &'s str,
    /// Ends that do not occur in the rest, so that no search for them runs twice.
    missing_ends: Vec<&'static str>,
}

impl<'s> Tokens<'s> {
    pub(super) const fn new(source: &'s str) -> Self {
        Self {
            rest: source,
            missing_ends: Vec::new(),
        }
    }

    fn split_front(&mut self, length: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Skips the source up to `end`, and beyond it if `is_included`. Returns `false` if there is no
    /// such end.
    fn skip_to(&mut self, end: &'static str, is_included: bool) -> bool {
        if self.missing_ends.contains(&end) {
            return false;
        }
        let Some(start) = find_ignoring_case(self.rest, end) else {
            self.missing_ends.push(end);
            return false;
        };
        self.split_front(if is_included {
            start + end.len()
        } else {
            start
        });
        true
    }

    /// Reads a tag, or skips a comment, at the `<` at the start of the rest. Returns `None` if the
    /// `<` is text.
    fn read_markup(&mut self) -> Option<Option<Token<'s>>> {
        let after = &self.rest[1..];
        if after.starts_with("!--") {
            return self.skip_to("-->", true).then_some(None);
        }
        let is_end_tag = after.starts_with('/');
        let name_and_rest = after.strip_prefix('/').unwrap_or(after);
        if name_and_rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.read_tag(name_and_rest, is_end_tag).map(Some);
        }
        if is_end_tag || after.starts_with(['!', '?']) {
            return self.skip_to(">", true).then_some(None);
        }
        None
    }

    fn read_tag(&mut self, tag: &'s str, is_end_tag: bool) -> Option<Token<'s>> {
        let is_name = |c: char| !(c.is_ascii_whitespace() || matches!(c, '/' | '>'));
        let (name, after_name) = tag.split_at(tag.find(|c| !is_name(c))?);
        let attributes = Attributes { rest: after_name };
        let mut unread = attributes;
        unread.by_ref().for_each(drop);
        self.rest = unread.rest.strip_prefix('>')?;
        Some(if is_end_tag {
            Token::EndTag(name)
        } else {
            self.skip_code(name);
            Token::StartTag { name, attributes }
        })
    }

    /// Skips a script or style sheet. Without an end it is text.
    fn skip_code(&mut self, name: &str) {
        for (code, end) in [("script", "</script"), ("style", "</style")] {
            if name.eq_ignore_ascii_case(code) {
                self.skip_to(end, false);
            }
        }
    }
}

impl<'s> Iterator for Tokens<'s> {
    type Item = Token<'s>;

    fn next(&mut self) -> Option<Token<'s>> {
        while self.rest.starts_with('<') {
            let before = self.rest;
            match self.read_markup() {
                Some(Some(token)) => return Some(token),
                Some(None) => {}
                // A tag that has no end: the rest has none either.
                None if before[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') => {
                    return Some(Token::Text(self.split_front(before.len())));
                }
                None => return Some(Token::Text(self.split_front(1))),
            }
        }
        let length = self.rest.find('<').unwrap_or(self.rest.len());
        (length > 0).then(|| Token::Text(self.split_front(length)))
    }
}

/// Finds an ASCII text in upper or lower case.
fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes()
        .windows(wanted.len())
        .position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Attributes of a tag, up to its `>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes<'s> {
    rest: &'s str,
}

impl<'s> Attributes<'s> {
    /// Returns the decoded value of an attribute.
    pub(super) fn find(mut self, wanted: &str) -> Option<String> {
        let (_, value) = Iterator::find(&mut self, |(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(unescape_attribute(value).into_owned())
    }

    fn read_value(&mut self) -> &'s str {
        let after_name = self.rest.trim_ascii_start();
        let Some(value) = after_name.strip_prefix('=') else {
            return "";
        };
        let value = value.trim_ascii_start();
        for quote in ['"', '\''] {
            if let Some(quoted) = value.strip_prefix(quote) {
                let end = quoted.find(quote).unwrap_or(quoted.len());
                self.rest = quoted.get(end + 1..).unwrap_or_default();
                return &quoted[..end];
            }
        }
        let end = value.find(|c: char| c.is_ascii_whitespace() || c == '>');
        let (value, rest) = value.split_at(end.unwrap_or(value.len()));
        self.rest = rest;
        value
    }
}

impl<'s> Iterator for Attributes<'s> {
    type Item = (&'s str, &'s str);

    fn next(&mut self) -> Option<(&'s str, &'s str)> {
        let is_separator = |c: char| c.is_ascii_whitespace() || c == '/';
        self.rest = self.rest.trim_start_matches(is_separator);
        if self.rest.is_empty() || self.rest.starts_with('>') {
            return None;
        }
        // An `=` at the start belongs to the name, so that each step makes progress.
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let end = self.rest[first..]
            .find(|c: char| is_separator(c) || matches!(c, '=' | '>'))
            .map_or(self.rest.len(), |end| first + end);
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some((name, self.read_value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(source: &str) -> String {
        let texts = Tokens::new(source).filter_map(|token| match token {
            Token::Text(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn incomplete_markup_is_text() {
        for text in [
            "<",
            "a < b",
            "<a",
            "<a x='>",
            "<!-- a",
            "</",
            "</ a",
            "<3",
            "a <b c=\"d",
        ] {
            assert_eq!(text_of(text), text);
        }
        assert_eq!(text_of("<script>a"), "a");
        assert_eq!(
            text_of("a<!-- b -->c<!DOCTYPE d><?e?></ f>g<style>h</style>i"),
            "acgi"
        );
    }

    #[test]
    fn attributes_are_read_like_in_html() {
        let tag = "<a B='x &amp; y'/href = z\" title=\"a>b\" c d=>e";
        let Some(Token::StartTag { name, attributes }) = Tokens::new(tag).next() else {
            panic!()
        };
        assert_eq!(name, "a");
        for (name, value) in [
            ("b", "x & y"),
            ("HREF", "z\""),
            ("title", "a>b"),
            ("c", ""),
            ("d", ""),
        ] {
            assert_eq!(attributes.find(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attributes.find("x"), None);
        assert_eq!(text_of(tag), "e");
    }

    #[test]
    fn missing_ends_are_searched_once() {
        for hostile in ["<!-- ", "<script>", "<style>", "</ "] {
            let source = hostile.repeat(100);
            let mut tokens = Tokens::new(&source);
            tokens.by_ref().for_each(drop);
            assert_eq!(tokens.missing_ends.len(), 1, "{hostile}");
        }
    }
}
