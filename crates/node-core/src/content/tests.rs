use super::{document::Element, *};
use proptest::prelude::*;
use sealpost_proto::limits::{CONTENT_DEPTH_MAX, MESSAGE_TEXT_BYTES_MAX};

fn markdown_to_html(markdown: &str) -> String {
    to_html(markdown, ContentType::Markdown)
}

fn sanitise(html: &str) -> String {
    to_html(html, ContentType::Html)
}

fn to_text(content: &str, content_type: ContentType) -> String {
    to_terminal(content, content_type, TextStyle::Plain)
}

fn markdown_to_line(markdown: &str) -> String {
    to_line(markdown, ContentType::Markdown, usize::MAX)
}

/// A sanitiser of others, with the same policy, changes nothing in our HTML.
fn assert_inert(html: &str) {
    let clean = ammonia::Builder::empty()
        .add_tags([
            "a",
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
            "li",
            "ol",
            "p",
            "pre",
            "strong",
            "table",
            "tbody",
            "td",
            "th",
            "thead",
            "tr",
            "ul",
        ])
        .add_tag_attributes("a", ["href"])
        .add_tag_attributes("li", ["value"])
        .add_url_schemes(["http", "https", "mailto"])
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .clean(html)
        .to_string();
    assert_eq!(clean, html);
}

/// Returns the text of our HTML, with the addresses of links and the numbers of items.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        let (tag, content) = piece.split_once('>').unwrap_or(("", piece));
        for attribute in ["href=\"", "value=\""] {
            if let Some((_, value)) = tag.split_once(attribute) {
                text.push_str(value.split('"').next().unwrap());
                text.push(' ');
            }
        }
        text.push_str(content);
    }
    htmlize::unescape(text).into_owned()
}

#[test]
fn markdown_elements_become_html() {
    for (markdown, html) in [
        (
            "**b** *i* ~~s~~ `c`",
            "<p><strong>b</strong> <em>i</em> <del>s</del> <code>c</code></p>\n",
        ),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
        ("3. a", "<ol>\n<li value=\"3\">a</li>\n</ol>\n"),
        ("> q", "<blockquote>\n<p>q</p>\n</blockquote>\n"),
        (
            "```rust\na < b\n```",
            "<p>rust</p>\n<pre><code>a &lt; b\n</code></pre>\n",
        ),
        (
            "[l](https://a.example \"t\")",
            "<p><a href=\"https://a.example\" rel=\"noopener noreferrer nofollow\">l</a> (t)</p>\n",
        ),
        (
            "|a|b|\n|-|-|\n|1||3|",
            "<table><thead><tr><th>a</th><th>b</th></tr></thead>\
             <tbody><tr><td>1</td><td></td><td>3</td></tr></tbody></table>\n",
        ),
        ("one\ntwo  \nthree", "<p>one<br>\ntwo<br>\nthree</p>\n"),
        ("\u{feff}# T", "<h1>T</h1>\n"),
    ] {
        assert_eq!(markdown_to_html(markdown), html);
        assert_inert(html);
    }
}

#[test]
fn raw_html_is_text_in_markdown() {
    for (markdown, html) in [
        ("<John Smith>", "<p>&lt;John Smith&gt;</p>\n"),
        ("The <title> x", "<p>The &lt;title&gt; x</p>\n"),
        (
            "<div>\n*a*\n</div>\nb",
            "<p>&lt;div&gt;<br>\n*a*<br>\n&lt;/div&gt;<br>\nb</p>\n",
        ),
        ("<!-- a -->", "<p>&lt;!-- a --&gt;</p>\n"),
        ("<tel:+491234>", "<p>&lt;tel:+491234&gt;</p>\n"),
    ] {
        assert_eq!(markdown_to_html(markdown), html);
        assert_eq!(
            text_of(html).trim(),
            to_text(markdown, ContentType::Markdown)
        );
    }
}

#[test]
fn html_is_reduced_to_its_elements() {
    for (html, clean) in [
        (
            "<p>Dear <b>Bolt</b>,</p><ul><li>1 &lt; 2<li>a &amp;lt; b</ul>",
            "<p>Dear <strong>Bolt</strong>,</p>\n<ul>\n<li>1 &lt; 2</li>\n<li>a &amp;lt; b</li>\n</ul>\n",
        ),
        ("<b><p>x</b>y", "<p><strong>x</strong>y</p>\n"),
        ("a <b> b </b> c", "<p>a <strong>b</strong> c</p>\n"),
        ("<p class=x onclick=y title=z>a", "<p>a</p>\n"),
        ("<pre>\n a\n  b</pre>", "<pre><code> a\n  b</code></pre>\n"),
        (
            "<table><tr><th>a<tr><td>1<p>2<td>3</table>x",
            "<table><thead><tr><th>a</th></tr></thead>\
             <tbody><tr><td>1<br>\n2</td><td>3</td></tr></tbody></table>\n<p>x</p>\n",
        ),
        (
            "<ol start=3><li>a<li value=9>b</ol>",
            "<ol>\n<li value=\"3\">a</li>\n<li value=\"9\">b</li>\n</ol>\n",
        ),
        (
            "<a href='https://a.example/?x&y'><h1>l</h1></a>",
            "<h1><a href=\"https://a.example/?x&amp;y\" rel=\"noopener noreferrer nofollow\">l</a></h1>\n",
        ),
        ("1<2 & 3>2 <", "<p>1&lt;2 &amp; 3&gt;2 &lt;</p>\n"),
        ("a<br>b", "<p>a<br>\nb</p>\n"),
    ] {
        assert_eq!(sanitise(html), clean, "{html}");
        assert_inert(clean);
    }
}

#[test]
fn html_is_laid_out_for_a_terminal() {
    let html = "<p>Dear <b>Bolt</b>,</p><ul><li>1 &lt; 2<li>a &amp;lt; b</ul>\
                <p><a href='https://a.example/?x&y'>l</a></p>";
    assert_eq!(
        to_text(html, ContentType::Html),
        "Dear **Bolt**,\n\n• 1 < 2\n• a &lt; b\n\nl <https://a.example/?x&y>"
    );
    assert_eq!(
        to_line(html, ContentType::Html, usize::MAX),
        "Dear Bolt, 1 < 2 a &lt; b l <https://a.example/?x&y>"
    );
}

#[test]
fn plain_text_is_not_interpreted() {
    let text = "1. *a*  <b>\n\n    &amp;\tx";
    assert_eq!(
        to_text(text, ContentType::Plain),
        "1. *a*  <b>\n\n    &amp;    x"
    );
    assert_eq!(
        to_html(text, ContentType::Plain),
        "<p>1. *a* &nbsp;&lt;b&gt;<br>\n<br>\n\
         &nbsp;&nbsp;&nbsp;&nbsp;&amp;amp; &nbsp;&nbsp;&nbsp;x</p>\n"
    );
    assert_eq!(to_line(text, ContentType::Plain, 9), "1. *a* <b…");
}

#[test]
fn empty_text_stays_empty() {
    for content_type in TYPES {
        assert_eq!(to_html("", content_type), "");
        assert_eq!(to_text("", content_type), "");
        assert_eq!(to_line("", content_type, 9), "");
    }
}

#[test]
fn images_become_links() {
    assert_eq!(
        to_text("![logo](https://a.example/x.png)", ContentType::Markdown),
        "logo <https://a.example/x.png>"
    );
    assert_eq!(
        to_text(
            "[![logo](https://a.example/x)](https://b.example)",
            ContentType::Markdown
        ),
        "![logo](https://a.example/x) <https://b.example>"
    );
    let html = sanitise("<img src=https://a.example/x alt=logo><img src=https://spy.example>");
    assert!(html.contains("<a href=\"https://a.example/x\"") && html.contains(">logo</a>"));
    assert!(!html.contains("spy"));
}

#[test]
fn active_content_is_removed() {
    for hostile in [
        "<script>alert(1)</script>",
        "<img src=https://spy.example/x onerror=alert(1)>",
        "<svg onload=alert(1)><a xlink:href=javascript:alert(1)>x</a></svg>",
        "<a href=\"//spy.example\" onclick=alert(1) style=x class=y>x</a>",
        "<style>@import 'https://spy.example'</style>",
        "<iframe src=https://spy.example srcdoc='alert(1)'></iframe>",
        "<form action=https://spy.example><input value=alert></form>",
        "<table background=https://spy.example><tr><td>x</table>",
        "<math><mtext><table><mglyph><style><!--</style><img src=x onerror=alert(1)>",
        "<!-- alert(1) -->",
        "<p title=alert>x",
    ] {
        let html = sanitise(&format!("visible {hostile}"));
        for trace in ["alert", "spy", "style", "class", "onerror", "src", "<!--"] {
            assert!(!html.contains(trace), "{hostile} -> {html}");
        }
        assert_inert(&html);
        assert_inert(&markdown_to_html(hostile));
    }
}

#[test]
fn only_three_url_schemes_are_linked() {
    for address in [
        "javascript:alert(1)",
        "JaVaScript:x",
        "data:text/html,x",
        "file:///etc/passwd",
        "/x",
        "//a.example",
        "4711",
    ] {
        let markdown = format!("[x]({address})");
        assert_eq!(markdown_to_html(&markdown), format!("<p>{markdown}</p>\n"));
        let html = sanitise(&format!("<a href='{address}'>x</a>"));
        assert_eq!(html, "<p>x</p>\n", "{address}");
    }
    for address in [
        "http://a.example",
        "https://a.example/x?y#z",
        "mailto:a@b.example",
    ] {
        let link = format!("<a href=\"{address}\"");
        assert!(markdown_to_html(&format!("[x]({address})")).contains(&link));
        assert!(sanitise(&format!("<a href='{address}'>x</a>")).contains(&link));
    }
}

#[test]
fn references_to_controls_become_visible() {
    assert_eq!(markdown_to_html("a\u{202e}b"), "<p>a\u{fffd}b</p>\n");
    assert_eq!(sanitise("a&#x202e;b&#27;c\u{1b}"), "<p>a\u{fffd}b␛c␛</p>\n");
    assert_eq!(
        markdown_to_html("a&#x202e;b&#27;c"),
        "<p>a&amp;#x202e;b&amp;#27;c</p>\n"
    );
    assert_eq!(
        sanitise("<a href='https://a.example/&#27;&#x202e;\u{200b}'>x</a>"),
        "<p><a href=\"https://a.example/%1B%E2%80%AE%E2%80%8B\" \
         rel=\"noopener noreferrer nofollow\">x</a></p>\n"
    );
}

#[test]
fn lines_have_no_markup() {
    let markdown = "# Order *17*\n\nDear **Bo**lt,\nsee [the `terms`](https://a.example):\n\n\
                    - nuts\n- bolts\n\n1. x\n2. y\n\n```\nx\ny\n```";
    assert_eq!(
        markdown_to_line(markdown),
        "Order 17 Dear Bolt, see the terms <https://a.example>: nuts bolts 1. x 2. y x y"
    );
}

#[test]
fn definitions_are_shown_as_written() {
    for (markdown, text) in [
        ("[Order 4711]: cancelled", "[Order 4711]: cancelled"),
        (
            "Dear Emil,\n\n[Price]: 100\n\nBye",
            "Dear Emil,\n\n[Price]: 100\n\nBye",
        ),
        ("> [a]: b\n> [c]: d\n\ne", "│ [a]: b\n│ [c]: d\n\ne"),
        ("- [a]: b\n- c", "• [a]: b\n• c"),
        ("[a]: b\n[a]: c 'd'", "[a]: b\n[a]: c 'd'"),
        (
            "[x][a] [a]\n\n[a]: https://b.example",
            "x <https://b.example>[a] a <https://b.example>\n\n[a]: https://b.example",
        ),
    ] {
        assert_eq!(to_text(markdown, ContentType::Markdown), text);
    }
}

#[test]
fn text_without_visible_rendering_is_plain() {
    for text in [
        "7.", "1)", "+", "---", "#", "> ", "```", "&nbsp;", "| |\n|-|", "[](<>)", "1.\n2.",
    ] {
        for shown in [
            to_text(text, ContentType::Markdown),
            markdown_to_line(text),
            text_of(&markdown_to_html(text)),
        ] {
            assert_eq!(
                shown.split_whitespace().collect::<Vec<_>>(),
                text.split_whitespace().collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(sanitise("<ACME>"), "<p>&lt;ACME&gt;</p>\n");
}

#[test]
fn deep_items_keep_their_numbers() {
    let markdown = "> ".repeat(CONTENT_DEPTH_MAX)
        + "7. seven\n"
        + &"> ".repeat(CONTENT_DEPTH_MAX)
        + "8. eight";
    assert_letters_kept(&markdown);
    assert_letters_kept(&("- ".repeat(CONTENT_DEPTH_MAX) + "9. [x](https://a.example)"));
}

#[test]
fn depth_is_bounded() {
    let html = markdown_to_html(&(">".repeat(1_000) + " deep"));
    assert_eq!(html.matches("<blockquote>").count(), CONTENT_DEPTH_MAX);
    assert!(html.contains("deep"));
    let html = sanitise(&("<blockquote>".repeat(1_000) + " deep"));
    assert!(html.matches("<blockquote>").count() <= CONTENT_DEPTH_MAX && html.contains("deep"));
}

/// Renderer that counts its calls and the bytes of their texts.
#[derive(Default)]
struct CountingRenderer {
    calls: usize,
    bytes: usize,
    depth: usize,
    depth_max: usize,
}

impl Renderer for CountingRenderer {
    fn start(&mut self, element: Element<'_>) {
        self.calls += 1;
        self.depth += 1;
        self.depth_max = self.depth_max.max(self.depth);
        if let Element::Link(address) = element {
            self.bytes += address.len();
        }
    }

    fn end(&mut self) {
        self.calls += 1;
        self.depth = self.depth.checked_sub(1).expect("an element is open");
    }

    fn text(&mut self, text: &str) {
        self.calls += 1;
        self.bytes += text.len();
    }

    fn line_break(&mut self) {
        self.calls += 1;
    }

    fn rule(&mut self) {
        self.calls += 1;
    }

    fn finish(self) -> Option<String> {
        assert_eq!(self.depth, 0, "every element ends");
        Some(format!("{} {} {}", self.calls, self.bytes, self.depth_max))
    }
}

/// Checks that the work and the results for a text are bounded by its length.
fn assert_bounded(content: &str, content_type: ContentType) {
    let counts = render(content, content_type, CountingRenderer::default).unwrap();
    let counts: Vec<usize> = counts
        .split(' ')
        .map(|count| count.parse().unwrap())
        .collect();
    let [calls, bytes, depth] = counts[..] else {
        panic!("{counts:?}")
    };
    let start = &content[..content.floor_char_boundary(60)];
    assert!(calls <= 12 * content.len() + 100, "{calls} calls: {start}");
    assert!(
        bytes <= 8 * content.len() + 100_000,
        "{bytes} bytes: {start}"
    );
    assert!(depth <= CONTENT_DEPTH_MAX, "{depth} levels: {start}");
    let longest = RENDERED_TEXT_BYTES_MAX.max(5 * content.len() + 100);
    assert!(to_html(content, content_type).len() <= longest, "{start}");
    assert!(to_text(content, content_type).len() <= longest, "{start}");
    assert!(to_line(content, content_type, 100).chars().count() <= 101);
}

const TYPES: [ContentType; 3] = [ContentType::Markdown, ContentType::Html, ContentType::Plain];

#[test]
fn longest_hostile_texts_cost_bounded_work() {
    let links = format!("<a href=https://a.example/{}>", "x".repeat(30_000));
    let row = format!("|{}\n|{}\n", "a|".repeat(5_000), "-|".repeat(5_000));
    for (start, repeated) in [
        ("", "<p><b x=0></p><p>a</p>"),
        ("", "<b><i><s><code>a"),
        ("", "<p><b>a"),
        ("", "<a href=https://a.example>"),
        (links.as_str(), "<p>a</p>"),
        ("", "<a href=https://a.example><p>a"),
        ("", "<!--"),
        ("", "<script>"),
        ("", "<a x=\""),
        ("<a ", "b=c d "),
        ("", "<table><tr><td>"),
        ("", "</li>"),
        ("", "<ul><li>a"),
        ("", "<blockquote>a</p>"),
        ("", "&CounterClockwiseContourIntegral;"),
        (row.as_str(), "|a\n"),
        (row.as_str(), "||\n"),
        ("", "> "),
        ("", "- "),
        ("", "1. a\n"),
        ("", "*a_ "),
        ("", "[a]("),
        ("", "![a]"),
        ("", "![![x](y)"),
        (
            "[a]: https://a.example/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n\n",
            "[a]",
        ),
        ("", "[a]: b\n"),
        ("", "`a``"),
        ("", "#\n"),
        ("", "&&&&"),
        ("", "\t"),
        ("", "\n"),
        ("", "\\\n"),
        ("", "\u{a0}"),
        ("", "> > > > > > > > a\n"),
        (
            "> > > > > > > > > > > > > > > > > > > > > > > > > > a\n",
            "b\n",
        ),
        ("", "999999999. - - "),
    ] {
        let count = (MESSAGE_TEXT_BYTES_MAX - start.len()) / repeated.len();
        let content = start.to_owned() + &repeated.repeat(count);
        for content_type in [ContentType::Markdown, ContentType::Html] {
            assert_bounded(&content, content_type);
        }
    }
}

#[test]
fn nested_images_are_bounded() {
    for address in ["x", "https://a.example"] {
        let count = 20_000 / (4 + address.len());
        let closing = format!("]({address})").repeat(count);
        let markdown = "![".repeat(count) + &"a\n".repeat(10_000) + "b" + &closing;
        assert_bounded(&markdown, ContentType::Markdown);
        assert_letters_kept(&markdown);
    }
}

#[test]
fn open_formatting_does_not_multiply() {
    let hostile = "<p><b x=0></p><p>a</p>".repeat(2_300);
    assert!(sanitise(&hostile).len() < 2 * hostile.len());
    assert!(markdown_to_html(&hostile).len() < 4 * hostile.len());
}

/// Pieces from which texts are combined; each `@` becomes a unique word.
const MARKDOWN_PIECES: [&str; 76] = [
    "@",
    " @ ",
    "\n",
    "\n\n",
    " ",
    "    ",
    "\t",
    "*",
    "**@**",
    "_@_",
    "~~@~~",
    "~",
    "`@`",
    "``",
    "```@\n",
    "~~~ @ @\n@\n~~~\n",
    "# @\n",
    "@\n===\n",
    "@\n---\n",
    "> ",
    "> @\n",
    "- ",
    "- @\n",
    "+ ",
    "1. ",
    "7) @\n",
    "13. @\n",
    "- [x] @\n",
    "[@](@)",
    "[@](https://@.example/@ \"@\")",
    "[@](<@ @>)",
    "![@](https://@.example)",
    "![](@)",
    "[@]: @\n",
    "[@]: https://@.example '@'\n",
    "[^@]: @\n",
    "[^@]",
    "[a]",
    "[@][a]",
    "[a][]",
    "[a]: https://@.example\n",
    "|@|@|\n",
    "|-|-|\n",
    "|@|@|@|@|\n",
    "|",
    "\\",
    "\\@",
    "<@>",
    "<@ @=\"@\">",
    "</@>",
    "<!-- @ -->",
    "<?@?>",
    "<https://@.example>",
    "<@@example.com>",
    "<div>\n@\n",
    "<script>@",
    "[",
    "](",
    ")",
    "!",
    "&amp;",
    "&copy;@",
    "&#65;",
    "&#x42;@",
    "&shy;",
    "&nbsp;",
    "[@](https://@.example/?a&amp;@)",
    "[@](https://a.example \"&copy; @\")",
    "``` &auml;\n",
    "\n~~~ &lt;@\\a\n",
    "\n|@|\n|-|\n|@|@|@|\n",
    "[@][a]\n\n[a]: https://@.example '@'\n",
    "- - - - - - - - - - - - - - - - ",
    "> > > > > > > > > > > > > > > > 7. @\n",
    "***\n",
    "\r",
];

/// Replaces each `@` of the combined pieces by a unique word.
fn with_unique_words(pieces: &[&str]) -> (String, Vec<String>) {
    let mut words = Vec::new();
    let text = pieces.concat();
    let mut parts = text.split('@');
    let mut combined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let word = format!("w{}z", words.len());
        combined.push_str(&word);
        combined.push_str(part);
        words.push(word);
    }
    (combined, words)
}

fn count_letters(text: &str) -> std::collections::BTreeMap<char, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        *counts.entry(c).or_default() += 1;
    }
    counts
}

fn assert_letters_kept(markdown: &str) {
    for (view, shown) in [
        ("terminal", to_text(markdown, ContentType::Markdown)),
        ("line", markdown_to_line(markdown)),
        ("html", text_of(&markdown_to_html(markdown))),
    ] {
        let shown_letters = count_letters(&shown);
        for (letter, count) in count_letters(markdown) {
            assert!(
                shown_letters
                    .get(&letter)
                    .is_some_and(|&shown| shown >= count),
                "{view} loses {letter:?} of {markdown:?}: {shown:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn combined_markdown_loses_no_letter(
        pieces in prop::collection::vec(prop::sample::select(&MARKDOWN_PIECES[..]), 0..24)
    ) {
        let (markdown, words) = with_unique_words(&pieces);
        assert_letters_kept(&markdown);
        for shown in [
            to_text(&markdown, ContentType::Markdown),
            markdown_to_line(&markdown),
            text_of(&markdown_to_html(&markdown)),
        ] {
            for word in &words {
                prop_assert!(shown.contains(word), "{word} of {markdown:?}: {shown:?}");
            }
        }
    }

    #[test]
    fn arbitrary_markdown_loses_no_letter(markdown in "[a-c1-3 &;x\n\t\\[\\](){}<>:!?=\"'*_~`#|+.>/\\\\-]{0,60}") {
        assert_letters_kept(&markdown);
    }

    #[test]
    fn unicode_markdown_loses_no_letter(markdown in any::<String>()) {
        assert_letters_kept(&markdown);
    }

    #[test]
    fn html_keeps_all_text(
        pieces in prop::collection::vec(prop::sample::select(&HTML_PIECES[..]), 0..24)
    ) {
        let (html, words) = with_unique_words(&pieces);
        for shown in [
            to_text(&html, ContentType::Html),
            to_line(&html, ContentType::Html, usize::MAX),
            text_of(&sanitise(&html)),
        ] {
            for word in &words {
                prop_assert!(shown.contains(word), "{word} of {html:?}: {shown:?}");
            }
        }
    }

    #[test]
    fn rendered_html_is_inert(
        markdown in prop::collection::vec(prop::sample::select(&MARKDOWN_PIECES[..]), 0..24),
        html in prop::collection::vec(prop::sample::select(&HTML_PIECES[..]), 0..24),
        text in any::<String>(),
    ) {
        for content in [with_unique_words(&markdown).0, with_unique_words(&html).0, text] {
            for content_type in TYPES {
                let html = to_html(&content, content_type);
                assert_inert(&html);
                prop_assert_eq!(html.contains(crate::text::is_display_control), html.contains('\n'));
            }
        }
    }

    #[test]
    fn repeated_pieces_cost_bounded_work(
        pieces in prop::collection::vec(
            prop::sample::select([&MARKDOWN_PIECES[..], &HTML_PIECES[..]].concat()), 1..6),
        content_type in prop::sample::select(&TYPES[..]),
    ) {
        let (content, _) = with_unique_words(&pieces);
        assert_bounded(&content.repeat(8_000 / content.len().max(1)), content_type);
    }

    #[test]
    fn terminal_text_has_no_controls(
        text in any::<String>(),
        markup in "(&#27;|\x1b|&#x202e;|\\*|_|`|\\[|\\]|\\(|\\)|>|\\||-|\n| |<|<b>|<li>|<a href=|\"|a){0,60}",
    ) {
        for text in [text, markup] {
            for content_type in TYPES {
                let shown = to_text(&text, content_type);
                prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            }
        }
    }
}

const HTML_PIECES: [&str; 45] = [
    "@",
    " @ ",
    "\n",
    "<p>",
    "</p>",
    "<p>@</p>",
    "<b>",
    "</b>",
    "<b>@",
    "<i>@</i>",
    "<s>",
    "<code>@",
    "</code>",
    "<ul>",
    "<li>@",
    "</li>",
    "</ul>",
    "<ol start=7>",
    "<li value=3>@",
    "<blockquote>@",
    "</blockquote>",
    "<table>",
    "<tr>",
    "<td>@",
    "<th>@</th>",
    "</td>",
    "</tr>",
    "</table>",
    "<pre>@</pre>",
    "<h1>@</h1>",
    "<h2>",
    "<br>",
    "<hr>",
    "<a href='https://@.example'>",
    "</a>",
    "<a href=https://a.example>@</a>",
    "<img src=x alt=@>",
    "<div>@",
    "</div>",
    "<title>@",
    "<svg>@",
    "<textarea>",
    "<option>@",
    "&amp;",
    "<script>x</script>",
];
