//! Detection of a file's media type from its first bytes, and of dangers in opening it.
//!
//! The media type that the sender claims is not used. The name only refines a type that the bytes
//! allow. The result is a hint for people: the node opens and runs nothing because of it, and a
//! file without a danger is not necessarily safe.

use crate::filename::FileName;
use sealpost_proto::string_enum;
use serde::{Deserialize, Serialize};

/// Media type of a file whose type is unknown.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Media type and dangers of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileType {
    /// Media type.
    pub content_type: String,
    /// Dangers of opening it, the worst first.
    pub dangers: Vec<Danger>,
}

string_enum! {
    /// Danger of opening a file. The order is by severity, the worst first.
    #[derive(PartialOrd, Ord)]
    pub enum Danger(
        /// Returns an explanation for people.
        reason: &'static str,
    ) {
        /// Runs when it is opened.
        Executable = "executable" ("a program"),
        /// Installs programs.
        Installer = "installer" ("installs programs"),
        /// Is run by an interpreter.
        Script = "script" ("a script"),
        /// Opens another file, page or program.
        Shortcut = "shortcut" ("a shortcut to something else"),
        /// Contains files that escape the warnings about downloads.
        DiskImage = "disk_image" ("a disk image, which hides its content from warnings"),
        /// Is a document with macros.
        Macros = "macros" ("a document with macros"),
        /// Is a page or picture that can run scripts in a browser.
        ActivePage = "active_page" ("a page that can run scripts in a browser"),
        /// Has a name that hides its type.
        Disguised = "disguised" ("its name hides what it is"),
    }
}

impl FileType {
    /// Detects the type from the first bytes of a file (up to
    /// [`SNIFFED_BYTES`](sealpost_proto::limits::SNIFFED_BYTES) of `size`) and its original name.
    #[must_use]
    pub fn detect(first_bytes: &[u8], size: u64, name: &str) -> Self {
        let decoded = decode_utf16(first_bytes).filter(|text| is_text(text.as_bytes()));
        let text_or_bytes = decoded.as_ref().map_or(first_bytes, String::as_bytes);
        let content_type = content_type(text_or_bytes, name);
        let is_complete = size == first_bytes.len() as u64;
        let mut dangers = dangers_of_name(name);
        dangers.extend(dangers_of_bytes(content_type, text_or_bytes, is_complete));
        dangers.sort_unstable();
        dangers.dedup();
        Self {
            content_type: content_type.to_owned(),
            dangers,
        }
    }

    /// Returns the type to show before any bytes have arrived: the claim of the sender, and the
    /// dangers that the name reveals.
    #[must_use]
    pub fn from_claim(claim: &str, name: &str) -> Self {
        Self {
            content_type: essence(claim).unwrap_or_else(|| UNKNOWN_TYPE.to_owned()),
            dangers: dangers_of_name(name),
        }
    }
}

/// Returns a media type without its parameters, in lower case (RFC 9110, section 8.3.1), or `None`
/// if the text is no media type.
#[must_use]
pub fn essence(media_type: &str) -> Option<String> {
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let is_type = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    is_type.then_some(essence)
}

/// Detects the media type from the bytes; the name only decides between types with the same bytes.
fn content_type(first_bytes: &[u8], name: &str) -> &'static str {
    let guess = mime_guess::from_path(name).first_raw();
    let found = infer::get(first_bytes).map(|kind| kind.mime_type());
    if is_text(first_bytes) {
        return text_type(found, guess, first_bytes);
    }
    // A type that would have been detected is ruled out, and so is a text type for bytes that are
    // no text. Text in an old encoding has no mark, so the name decides.
    let is_possible = |guess: &str| match is_textual(guess) {
        true => first_bytes.is_empty() || (found.is_none() && is_single_byte_text(first_bytes)),
        false => !infer::is_mime_supported(guess),
    };
    match (found, guess) {
        (Some("application/zip"), Some(guess)) if is_zip_based(guess) => guess,
        (Some(found), _) => found,
        (None, Some(guess)) if is_possible(guess) => guess,
        (None, _) => UNKNOWN_TYPE,
    }
}

/// Decodes UTF-16 with a byte order mark. Returns `None` for other bytes. The last character may be
/// incomplete.
fn decode_utf16(bytes: &[u8]) -> Option<String> {
    let (to_unit, units): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, units @ ..] => (u16::from_le_bytes, units),
        [0xfe, 0xff, units @ ..] => (u16::from_be_bytes, units),
        _ => return None,
    };
    let (units, _) = units.as_chunks::<2>();
    let mut units: Vec<u16> = units.iter().map(|unit| to_unit(*unit)).collect();
    units.pop_if(|last| (0xd800..0xdc00).contains(last));
    String::from_utf16(&units).ok()
}

/// Returns the type of bytes that are text. Only a few types are text without being a text type.
fn text_type(
    found: Option<&'static str>,
    guess: Option<&'static str>,
    text: &[u8],
) -> &'static str {
    let is_markup = text
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(text)
        .trim_ascii_start()
        .starts_with(b"<");
    match (found, guess) {
        (Some(found), _) if found == "text/html" || TEXT_LIKE_TYPES.contains(&found) => found,
        _ if is_markup && contains(text, b"<svg") => "image/svg+xml",
        _ if is_markup && (contains(text, b"<html") || contains(text, b"<script")) => "text/html",
        (_, Some(guess)) if is_textual(guess) => guess,
        (Some("text/xml"), _) => "text/xml",
        _ => "text/plain",
    }
}

/// Types that `infer` detects reliably in bytes that are text.
const TEXT_LIKE_TYPES: [&str; 4] = [
    "text/x-shellscript",
    "application/pdf",
    "application/rtf",
    "application/postscript",
];

fn is_textual(media_type: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "application/json",
        "application/xml",
        "application/javascript",
        "application/x-sh",
        "application/sql",
        "application/toml",
        "application/x-yaml",
    ];
    media_type.starts_with("text/")
        || media_type.ends_with("+xml")
        || media_type.ends_with("+json")
        || OTHERS.contains(&media_type)
}

fn is_zip_based(media_type: &str) -> bool {
    const OTHERS: [&str; 2] = [
        "application/java-archive",
        "application/vnd.android.package-archive",
    ];
    media_type.starts_with("application/vnd.openxmlformats-")
        || media_type.starts_with("application/vnd.oasis.opendocument.")
        || media_type.ends_with(".macroenabled.12")
        || media_type.ends_with("+zip")
        || OTHERS.contains(&media_type)
}

/// Whether the bytes are UTF-8 without control characters that do not occur in text. The last
/// character may be incomplete.
fn is_text(bytes: &[u8]) -> bool {
    let is_utf8 =
        std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && is_single_byte_text(bytes)
}

/// Whether the bytes can be text in an encoding that extends ASCII, such as ISO 8859-1.
fn is_single_byte_text(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\x0c\r\x1b".contains(byte);
    !bytes.is_empty() && !bytes.iter().any(is_control)
}

/// Whether the bytes contain `word` in upper or lower case.
fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

fn dangers_of_bytes(content_type: &str, bytes: &[u8], is_complete: bool) -> Option<Danger> {
    const LINK: &[u8] = b"\x4c\0\0\0\x01\x14\x02\0";
    const SHORTCUTS: [&[u8]; 2] = [b"[InternetShortcut]", b"[Desktop Entry]"];
    if bytes.starts_with(LINK)
        || SHORTCUTS
            .iter()
            .any(|shortcut| bytes.trim_ascii_start().starts_with(shortcut))
    {
        return Some(Danger::Shortcut);
    }
    match content_type {
        "application/vnd.microsoft.portable-executable"
        | "application/x-executable"
        | "application/x-mach-binary"
        | "application/x-llvm"
        | "application/java"
        | "application/java-archive"
        | "application/wasm"
        | "application/vnd.android.dex"
        | "application/vnd.android.dey"
        | "application/x-shockwave-flash" => Some(Danger::Executable),
        "application/vnd.debian.binary-package"
        | "application/x-rpm"
        | "application/vnd.android.package-archive"
        | "application/x-google-chrome-extension" => Some(Danger::Installer),
        "application/x-qemu-disk" => Some(Danger::DiskImage),
        "text/x-shellscript" | "application/x-sh" => Some(Danger::Script),
        "text/html" | "application/xhtml+xml" => Some(Danger::ActivePage),
        "image/svg+xml" if !is_complete || has_active_content(bytes) => Some(Danger::ActivePage),
        _ if has_macros(bytes) => Some(Danger::Macros),
        _ => None,
    }
}

/// Whether an SVG can run scripts or load content.
fn has_active_content(svg: &[u8]) -> bool {
    const MARKERS: [&[u8]; 5] = [
        b"<script",
        b"javascript:",
        b"<foreignobject",
        b"<iframe",
        b"<!entity",
    ];
    MARKERS.iter().any(|marker| contains(svg, marker))
        || (0..svg.len()).any(|at| starts_with_event_handler(&svg[at..]))
}

/// Whether the bytes start with an event handler such as ` onload=`.
fn starts_with_event_handler(svg: &[u8]) -> bool {
    let [before, name @ ..] = svg else {
        return false;
    };
    let Some((on, rest)) = name.split_at_checked(2) else {
        return false;
    };
    let mut after = rest
        .iter()
        .skip_while(|byte| byte.is_ascii_alphabetic())
        .skip_while(|byte| byte.is_ascii_whitespace());
    !before.is_ascii_alphanumeric() && on.eq_ignore_ascii_case(b"on") && after.next() == Some(&b'=')
}

/// Whether the first bytes reveal macros: the names of the parts of an Office document are not
/// compressed.
fn has_macros(bytes: &[u8]) -> bool {
    const OLE_PROJECT: &[u8] = b"_\0V\0B\0A\0_\0P\0R\0O\0J\0E\0C\0T\0";
    const MARKERS: [&[u8]; 2] = [b"vbaproject.bin", OLE_PROJECT];
    let is_container = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0");
    is_container && MARKERS.iter().any(|marker| contains(bytes, marker))
}

/// Extensions that make a file dangerous whatever it contains: they decide what a double click
/// does.
const DANGEROUS_EXTENSIONS: [(Danger, &str); 7] = [
    (
        Danger::Executable,
        "exe com scr pif cpl dll ocx sys drv gadget jar jnlp app appimage run elf xll msc",
    ),
    (
        Danger::Installer,
        "msi msp mst msix msixbundle appx appxbundle appinstaller deb rpm pkg apk ipa crx xpi \
         vsix application",
    ),
    (
        Danger::Script,
        "bat cmd ps1 psm1 psd1 vb vbs vbe js jse mjs ws wsf wsh wsc sct hta sh bash zsh csh \
         ksh fish py pyw pyc pyz pl rb php tcl ahk reg inf applescript scpt command workflow",
    ),
    (
        Danger::Shortcut,
        "lnk url desktop website webloc scf library-ms search-ms searchconnector-ms \
         settingcontent-ms theme themepack rdp",
    ),
    (Danger::DiskImage, "iso img vhd vhdx dmg vmdk udf"),
    (
        Danger::Macros,
        "docm dotm xlsm xltm xlam xlsb xla pptm potm ppam ppsm sldm accdb accde mdb mde one \
         chm wll",
    ),
    (
        Danger::ActivePage,
        "html htm xhtml xht shtml mht mhtml svgz",
    ),
];

fn danger_of_extension(extension: &str) -> Option<Danger> {
    let lists = DANGEROUS_EXTENSIONS.into_iter();
    lists
        .filter(|(_, list)| list.split(' ').any(|item| item == extension))
        .map(|(danger, _)| danger)
        .next()
}

/// Extensions that people consider harmless. Before another extension they are misleading.
const HARMLESS_EXTENSIONS: &str = "\
    pdf doc docx odt rtf txt csv xls xlsx ods ppt pptx odp jpg jpeg png gif webp bmp tif \
    tiff heic mp3 mp4 avi mov wav eml xml json";
/// Extensions of archives.
const ARCHIVE_EXTENSIONS: &str = "zip rar 7z gz tgz bz2 xz tar cab ace arj z";

fn dangers_of_name(name: &str) -> Vec<Danger> {
    let is_in = |list: &str, extension: &str| list.split(' ').any(|item| item == extension);
    // Windows ignores these at the end of a name.
    let plain = name
        .trim_end_matches(|c: char| c == '.' || c.is_whitespace())
        .to_lowercase();
    let mut parts = plain.rsplit('.').map(str::trim_end);
    let (last, before) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let has_extension = plain.contains('.');
    let danger = danger_of_extension(last).filter(|_| has_extension);
    let is_misleading = is_in(HARMLESS_EXTENSIONS, before)
        && plain.matches('.').count() > 1
        && (danger.is_some() || is_in(ARCHIVE_EXTENSIONS, last));
    // Spaces push the extension out of sight, and hidden characters disguise it.
    let hides_extension = has_long_blank(name) || FileName::from_remote(name).as_str() != name;
    danger
        .into_iter()
        .chain((is_misleading || hides_extension).then_some(Danger::Disguised))
        .collect()
}

/// Whether a name has a blank that is longer than between words. Some spaces are as wide as several.
fn has_long_blank(name: &str) -> bool {
    const WIDTH_MAX: usize = 4;
    let mut width = 0;
    name.chars().any(|c| {
        width = match c {
            ' ' => width + 1,
            '\u{2000}'..='\u{2003}' | '\u{3000}' => width + 3,
            _ if c.is_whitespace() => width + 2,
            _ => 0,
        };
        width > WIDTH_MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(first_bytes: &[u8], name: &str) -> (String, Vec<Danger>) {
        let detected = FileType::detect(first_bytes, first_bytes.len() as u64, name);
        (detected.content_type, detected.dangers)
    }

    fn dangers(first_bytes: &[u8], name: &str) -> Vec<Danger> {
        detect(first_bytes, name).1
    }

    #[test]
    fn bytes_take_precedence_over_the_name() {
        for (bytes, name, content_type) in [
            (b"\x89PNG\r\n\x1a\n....".as_slice(), "a.txt", "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "a.pdf", "image/jpeg"),
            (b"%PDF-1.7 all of it in letters", "a.jpg", "application/pdf"),
            (b"# Title", "README.md", "text/markdown"),
            (b"{}", "a.json", "application/json"),
            ("Grüß".as_bytes(), "LICENSE", "text/plain"),
            (&"Grü".as_bytes()[..3], "cut", "text/plain"),
            (b"only letters", "a.png", "text/plain"),
            (b"BMW 320d, MZ 250", "car", "text/plain"),
            (b"MZ and no program", "mz.txt", "text/plain"),
            (b"<?xml version='1.0'?><svg/>", "a.svg", "image/svg+xml"),
            (b"<?xml version='1.0'?><a/>", "a", "text/xml"),
            (b"\0\x01\x02", "a.png", UNKNOWN_TYPE),
            (b"\0\x01\x02", "a.p7m", "application/pkcs7-mime"),
            (b"\0\x01\x02", "a.txt", UNKNOWN_TYPE),
            (
                b"PK\x03\x04\x14\0\0\0",
                "a.odt",
                "application/vnd.oasis.opendocument.text",
            ),
            (b"PK\x03\x04\x14\0\0\0", "a.pdf", "application/zip"),
            (b"", "x", UNKNOWN_TYPE),
            (b"\xff\xfea", "x", UNKNOWN_TYPE),
            (b"M\xfcller;Stra\xdfe\r\n", "customers.csv", "text/csv"),
            (b"M\xfcller;Stra\xdfe", "customers", UNKNOWN_TYPE),
            (b"M\xfcller;Stra\xdfe", "a.png", UNKNOWN_TYPE),
            (b"M\xfc\0ller", "customers.csv", UNKNOWN_TYPE),
            (b"\xff\xd8\xff\xe0 in letters", "photo.csv", "image/jpeg"),
            (b"\xff\xfeM\0\xfc\0;\0", "customers.csv", "text/csv"),
            (b"\xfe\xff\0M\0\xfc\0;\0", "customers.csv", "text/csv"),
            (b"\xff\xfeM\0", "x", "text/plain"),
            (b"\xff\xfe\0\0M\0\0\0", "utf32.csv", UNKNOWN_TYPE),
            (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "a.txt", "text/html"),
        ] {
            assert_eq!(detect(bytes, name).0, content_type, "{name}: {bytes:?}");
        }
    }

    #[test]
    fn dangerous_content_is_detected_under_any_name() {
        let pe = [b"MZ\x90\0\x03\0\0\0".as_slice(), &[0; 60]].concat();
        let elf = [b"\x7fELF\x02\x01\x01\0".as_slice(), &[0; 60]].concat();
        assert_eq!(dangers(&pe, "invoice.pdf"), [Danger::Executable]);
        assert_eq!(dangers(&elf, "readme"), [Danger::Executable]);
        assert_eq!(
            dangers(b"#!/bin/sh\nrm -rf ~", "notes.txt"),
            [Danger::Script]
        );
        assert_eq!(
            dangers(b"\x4c\0\0\0\x01\x14\x02\0....", "report.doc"),
            [Danger::Shortcut]
        );
        assert_eq!(
            dangers(b"[InternetShortcut]\r\nURL=x", "a.txt"),
            [Danger::Shortcut]
        );
        assert_eq!(
            dangers(b"<!DOCTYPE html><p>", "a.txt"),
            [Danger::ActivePage]
        );
        assert_eq!(
            dangers(b"PK\x03\x04........word/vbaProject.bin....", "a.docx"),
            [Danger::Macros]
        );
        assert_eq!(dangers(b"\xd0\xcf\x11\xe0....", "old.doc"), []);
    }

    #[test]
    fn only_active_svgs_are_dangerous() {
        for (svg, is_dangerous) in [
            ("<svg><path d='M0 0'/></svg>", false),
            ("<svg><SCRIPT>x</SCRIPT></svg>", true),
            ("<svg onload='x'/>", true),
            ("<svg><a href=\"JavaScript:x\"/></svg>", true),
            ("<svg><foreignObject/></svg>", true),
            ("<svg><text>on one side, =</text></svg>", false),
        ] {
            assert_eq!(
                dangers(svg.as_bytes(), "logo.svg"),
                if is_dangerous {
                    vec![Danger::ActivePage]
                } else {
                    vec![]
                },
                "{svg}"
            );
        }
        let first_bytes = b"<svg><path/>";
        let longer = FileType::detect(first_bytes, 100_000, "logo.svg");
        assert_eq!(
            longer.dangers,
            [Danger::ActivePage],
            "the rest was not inspected"
        );
    }

    #[test]
    fn dangerous_names_are_detected_without_bytes() {
        for (name, expected) in [
            ("report.pdf", vec![]),
            ("archive.zip", vec![]),
            ("letter.v2.final.docx", vec![]),
            ("exe", vec![]),
            ("Dr. Bat", vec![]),
            ("setup.EXE", vec![Danger::Executable]),
            ("setup.exe. ", vec![Danger::Executable]),
            ("a.msi", vec![Danger::Installer]),
            ("a.js", vec![Danger::Script]),
            ("a.lnk", vec![Danger::Shortcut]),
            ("a.iso", vec![Danger::DiskImage]),
            ("a.xlsm", vec![Danger::Macros]),
            ("a.htm", vec![Danger::ActivePage]),
            (
                "invoice.pdf.exe",
                vec![Danger::Executable, Danger::Disguised],
            ),
            ("invoice.pdf.zip", vec![Danger::Disguised]),
            (
                "invoice.pdf          .exe",
                vec![Danger::Executable, Danger::Disguised],
            ),
            (
                "invoice\u{202e}fdp.exe",
                vec![Danger::Executable, Danger::Disguised],
            ),
            ("invoice\u{202e}exe.pdf", vec![Danger::Disguised]),
            ("invoice.pdf\u{2800}", vec![Danger::Disguised]),
            ("invoice\u{3164}.pdf", vec![Danger::Disguised]),
            ("invoice\u{a0}\u{a0}\u{a0}.pdf", vec![Danger::Disguised]),
            ("invoice\u{2003}\u{2003}.pdf", vec![Danger::Disguised]),
            ("Screenshot 3.45\u{202f}PM.png", vec![]),
            ("資料\u{3000}1.pdf", vec![]),
            ("backup.tar.gz", vec![]),
            (".bashrc", vec![]),
        ] {
            assert_eq!(FileType::from_claim("", name).dangers, expected, "{name:?}");
        }
    }

    #[test]
    fn claims_must_be_media_types() {
        for (claim, expected) in [
            ("Text/HTML; charset=utf-8", "text/html"),
            ("", UNKNOWN_TYPE),
            ("text", UNKNOWN_TYPE),
            ("a/b/c", UNKNOWN_TYPE),
            ("text/\u{1b}[31m", UNKNOWN_TYPE),
        ] {
            assert_eq!(
                FileType::from_claim(claim, "a").content_type,
                expected,
                "{claim:?}"
            );
        }
    }

    #[test]
    fn extensions_are_listed_once() {
        let mut all: Vec<_> = DANGEROUS_EXTENSIONS
            .iter()
            .flat_map(|(_, list)| list.split(' '))
            .collect();
        all.extend(
            HARMLESS_EXTENSIONS
                .split(' ')
                .chain(ARCHIVE_EXTENSIONS.split(' ')),
        );
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
