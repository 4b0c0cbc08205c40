//! Text from users and their programs: origins, numbers, file names, messages.

use sealpost_fuzz::fuzz_inputs;
use sealpost_node_core::{
    content::{TextStyle, to_html, to_line, to_terminal},
    file_type::FileType,
    filename::{FileName, safe_name},
    model::ContentType,
    name::{parse_own_name, visible_name},
    text::{MessageText, visible_block, visible_line},
};
use sealpost_proto::{MailboxId, Origin, b64, limits};

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn origins_are_canonical() {
    let seeds = seeds(&[
        "https://relay.example",
        "https://relay.example:8443",
        "http://127.0.0.1:8440",
        "http://[::1]:8440",
        "https://bücher.example",
        "https://user@relay.example/path?query#fragment",
    ]);
    fuzz_inputs(&seeds, 20_000, |case| {
        if let Ok(origin) = Origin::parse(&String::from_utf8_lossy(case.bytes)) {
            assert!(
                origin.as_str().len() <= limits::ORIGIN_BYTES_MAX && !origin.authority().is_empty()
            );
            assert_eq!(Origin::parse(origin.as_str()).as_ref(), Ok(&origin));
        }
    });
}

#[test]
fn base64_has_one_encoding() {
    let seeds = [
        b64::encode(&[0xff; 40]),
        b64::encode(&[7; 41]),
        b64::encode(b""),
    ]
    .map(String::into_bytes);
    fuzz_inputs(&seeds, 20_000, |case| {
        let text = String::from_utf8_lossy(case.bytes);
        if let Ok(bytes) = b64::parse(&text) {
            assert_eq!(b64::encode(&bytes), text, "two encodings of the same bytes");
        }
        if let Ok(id) = text.parse::<MailboxId>() {
            assert_eq!(id.to_string(), text);
        }
    });
}

#[test]
fn safe_names_have_no_path() {
    let seeds = seeds(&[
        "Angebot.pdf",
        "../../etc/passwd",
        "a\u{202e}fdp.exe",
        "CON.txt",
        "é\u{301}.tar.gz",
        "  .  ",
        "\0",
    ]);
    fuzz_inputs(&seeds, 10_000, |case| {
        let name = String::from_utf8_lossy(case.bytes);
        for safe in [FileName::from_remote(&name).safe_name(), safe_name(&name)] {
            assert!(
                !safe.is_empty() && safe.len() <= limits::FILE_NAME_BYTES_MAX,
                "{safe:?}"
            );
            assert!(
                !safe.contains(['/', '\\', '\0']) && !safe.starts_with('.'),
                "{safe:?}"
            );
        }
        let file_type = FileType::detect(case.bytes, case.bytes.len() as u64, &name);
        assert!(
            file_type.content_type.contains('/') && file_type.dangers.is_sorted(),
            "{file_type:?}"
        );
        let _ = FileName::parse(&name);
    });
}

#[test]
fn rendered_texts_contain_no_active_content() {
    let seeds = seeds(&[
        "# Title\n\n> quote\n>> deeper\n\n1. one\n2. two\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n\
         ```rust\nfn main() {}\n```",
        "*a **b ~~c~~** d* [link](javascript:alert(1)) ![image](https://example.com/a.png) \
         <script>alert(1)</script>",
        "<p onclick=\"x\">Hello <b>you</b><table><tr><td>1<td>2</table><svg><style>",
        "\u{1b}[31mred\u{1b}]8;;https://example.com\u{7}\u{202e}abc\u{200b}",
    ]);
    fuzz_inputs(&seeds, 2_000, |case| {
        let text = String::from_utf8_lossy(case.bytes);
        for &content_type in ContentType::ALL {
            let html = to_html(&text, content_type).to_ascii_lowercase();
            assert!(
                !["<script", "<img", "<svg", "<style"]
                    .iter()
                    .any(|tag| html.contains(tag)),
                "{html}"
            );
            for shown in [
                to_terminal(&text, content_type, TextStyle::Plain),
                to_line(&text, content_type, 100),
            ] {
                assert!(!shown.contains('\u{1b}'), "{shown:?}");
            }
        }
        let _ = (visible_name(&text), parse_own_name(&text));
        let _ = (visible_line(&text), visible_block(&text));
        let _ = MessageText::parse(text.into_owned(), false);
    });
}
