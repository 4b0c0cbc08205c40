//! Rendering of a message's Markdown or HTML as inert HTML or as text for a terminal.
//!
//! Content is rendered by the sender and again by the recipient; a peer's rendering is never used.
//! Images and everything else that a browser would load automatically are removed. Links to `http`,
//! `https` and `mailto` addresses are kept.

mod html_text;
mod table;
mod terminal;

pub use html_text::html_to_terminal;
pub use terminal::{TextStyle, to_terminal};

use crate::text::{visible_block, visible_line};
use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use sealpost_proto::limits::MARKDOWN_DEPTH_MAX;
use std::sync::LazyLock;

const TAGS: [&str; 28] = [
    "a",
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
];
/// Tags that are removed together with their content.
const TAGS_WITHOUT_TEXT: [&str; 10] = [
    "iframe", "math", "noembed", "noframes", "noscript", "script", "style", "svg", "template",
    "title",
];

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .add_tags(TAGS)
        .add_clean_content_tags(TAGS_WITHOUT_TEXT)
        .add_tag_attributes("a", ["href"])
        .add_tag_attributes("ol", ["start"])
        .add_url_schemes(["http", "https", "mailto"])
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .strip_comments(true);
    builder
});

/// Renders Markdown (CommonMark with tables and strikethrough) as sanitised HTML. Images become
/// links.
#[must_use]
pub fn to_html(markdown: &str) -> String {
    let text = visible_block(markdown);
    let mut html = String::with_capacity(text.len() * 3 / 2);
    pulldown_cmark::html::push_html(
        &mut html,
        limit_depth(replace_images_by_links(parse_events(&text))),
    );
    sanitise_html(&html)
}

/// Removes all HTML except bold, italic, strikethrough, headings, lists, links, code, quotes,
/// tables and rules. Classes, styles, ids, images and forms are removed, and scripts and style
/// sheets with their content.
#[must_use]
pub fn sanitise_html(html: &str) -> String {
    SANITISER.clean(&visible_block(html)).to_string()
}

/// Renders Markdown as one line of plain text, for lists and for search.
#[must_use]
pub fn to_plain_text(markdown: &str) -> String {
    let text = visible_block(markdown);
    let mut plain = String::with_capacity(text.len());
    for event in parse_events(&text) {
        match event {
            Event::Text(piece) | Event::Code(piece) => {
                plain.push_str(&visible_line(&piece.replace('\n', " ")))
            }
            Event::Start(
                Tag::Emphasis
                | Tag::Strong
                | Tag::Strikethrough
                | Tag::Link { .. }
                | Tag::Image { .. },
            )
            | Event::End(
                TagEnd::Emphasis
                | TagEnd::Strong
                | TagEnd::Strikethrough
                | TagEnd::Link
                | TagEnd::Image,
            ) => {}
            _ => plain.push(' '),
        }
    }
    collapse_whitespace(&plain)
}

/// Replaces each run of white space by one space.
fn collapse_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse_events(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
}

/// Replaces images by links; an image inside a link is replaced by its text.
fn replace_images_by_links<'a>(
    events: impl Iterator<Item = Event<'a>>,
) -> impl Iterator<Item = Event<'a>> {
    let mut links: usize = 0;
    events.filter_map(move |event| match event {
        Event::Start(Tag::Image {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            links += 1;
            (links == 1).then_some(Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }))
        }
        Event::End(TagEnd::Image) => {
            links = links.saturating_sub(1);
            (links == 0).then_some(Event::End(TagEnd::Link))
        }
        Event::Start(Tag::Link { .. }) => {
            links += 1;
            Some(event)
        }
        Event::End(TagEnd::Link) => {
            links = links.saturating_sub(1);
            Some(event)
        }
        _ => Some(event),
    })
}

/// Removes elements deeper than [`MARKDOWN_DEPTH_MAX`] and keeps their content.
fn limit_depth<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let mut depth: usize = 0;
    events.filter(move |event| match event {
        Event::Start(_) => {
            depth += 1;
            depth <= MARKDOWN_DEPTH_MAX
        }
        Event::End(_) => {
            depth = depth.saturating_sub(1);
            depth < MARKDOWN_DEPTH_MAX
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn allowed_elements_are_kept() {
        for (markdown, html) in [
            (
                "**b** *i* ~~s~~ `c`",
                "<p><strong>b</strong> <em>i</em> <del>s</del> <code>c</code></p>\n",
            ),
            ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
            ("3. a", "<ol start=\"3\">\n<li>a</li>\n</ol>\n"),
            ("> q", "<blockquote>\n<p>q</p>\n</blockquote>\n"),
            (
                "```rust\na < b\n```",
                "<pre><code>a &lt; b\n</code></pre>\n",
            ),
            (
                "[l](https://a.example)",
                "<p><a href=\"https://a.example\" rel=\"noopener noreferrer nofollow\">l</a></p>\n",
            ),
        ] {
            assert_eq!(to_html(markdown), html);
        }
        let table = to_html("|a|b|\n|-|-|\n|1|2|");
        assert!(
            table.starts_with("<table><thead><tr><th>a</th>") && table.contains("<td>2</td>"),
            "{table}"
        );
    }

    #[test]
    fn images_become_links() {
        let html = to_html("![logo](https://a.example/x.png)");
        assert!(
            html.contains("<a href=\"https://a.example/x.png\"") && html.contains(">logo</a>"),
            "{html}"
        );
        let html = to_html("[![logo](https://a.example/x.png)](https://b.example)");
        assert!(
            html.contains("b.example") && !html.contains("a.example") && html.contains("logo"),
            "{html}"
        );
    }

    #[test]
    fn active_content_is_removed() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=https://spy.example/x onerror=alert(1)>",
            "<svg onload=alert(1)><a xlink:href=javascript:alert(1)>x</a></svg>",
            "<a href=\"//spy.example\" onclick=alert(1) style=x class=y>x</a>",
            "<style>@import 'https://spy.example'</style>",
            "<iframe src=https://spy.example>alert(1)</iframe>",
            "<form action=https://spy.example><input></form>",
            "<table background=https://spy.example><tr><td>x</table>",
            "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
            "<!-- alert(1) -->",
        ] {
            for html in [to_html(hostile), sanitise_html(hostile)] {
                for trace in ["alert", "spy", "style", "class", "on", "src", "<!--"] {
                    assert!(
                        !html.replace("noopener", "").contains(trace),
                        "{hostile} -> {html}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_three_url_schemes_are_kept() {
        for address in [
            "javascript:alert(1)",
            "JaVaScript:x",
            "data:text/html,x",
            "file:///etc/passwd",
            "/x",
            "//a.example",
        ] {
            assert!(
                !to_html(&format!("[x]({address})")).contains("href"),
                "{address}"
            );
        }
        for address in [
            "http://a.example",
            "https://a.example/x?y#z",
            "mailto:a@b.example",
        ] {
            assert!(
                to_html(&format!("[x]({address})")).contains(&format!("href=\"{address}\"")),
                "{address}"
            );
        }
    }

    #[test]
    fn display_controls_become_visible() {
        assert_eq!(to_html("a\u{202e}b"), "<p>a\u{fffd}b</p>\n");
        assert_eq!(sanitise_html("a\u{1b}b"), "a␛b");
    }

    #[test]
    fn plain_text_has_no_markup() {
        let markdown = "# Order *17*\n\nDear **Bo**lt,\nsee [the `terms`](https://a.example):\n\n\
                        - nuts\n- bolts\n\n```\nx\ny\n```";
        assert_eq!(
            to_plain_text(markdown),
            "Order 17 Dear Bolt, see the terms: nuts bolts x y"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let html = to_html(&(">".repeat(1_000) + " deep"));
        assert_eq!(html.matches("<blockquote>").count(), MARKDOWN_DEPTH_MAX);
        assert!(html.contains("deep"));
    }

    proptest! {
        #[test]
        fn sanitising_is_idempotent(markdown in "[ -~\n]{0,200}") {
            let html = to_html(&markdown);
            prop_assert_eq!(sanitise_html(&html), html);
        }
    }
}
