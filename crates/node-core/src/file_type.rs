//! What a file is, by its first bytes, and whether opening it can do harm.
//!
//! What its sender claims is never asked for; the name only says more about bytes that it fits. All of it is a hint for
//! people: nothing is opened or run because of it, and a file without a mark is not thereby safe.

use crate::filename::FileName;
use serde::{Deserialize, Serialize};

/// What nothing better is known of.
pub const UNKNOWN: &str = "application/octet-stream";

/// A file, as far as its name and its first bytes tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileType {
    /// Its media type.
    pub content_type: String,
    /// What harm it can do, the worst first.
    pub dangers: Vec<Danger>,
}

/// How opening a file can do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Danger {
    /// It runs when it is opened.
    Executable,
    /// It puts programs on the machine.
    Installer,
    /// A program reads it as orders.
    Script,
    /// It leads to something else.
    Shortcut,
    /// What is in it escapes the warnings that downloads get.
    DiskImage,
    /// A document with programs in it.
    Macros,
    /// A page or picture that a browser runs.
    ActivePage,
    /// Its name hides what it is.
    Disguised,
}

impl Danger {
    /// What it means, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Executable => "a program",
            Self::Installer => "installs programs",
            Self::Script => "a script",
            Self::Shortcut => "a shortcut to something else",
            Self::DiskImage => "a disk image, which hides its content from warnings",
            Self::Macros => "a document with macros",
            Self::ActivePage => "a page that can run scripts in a browser",
            Self::Disguised => "its name hides what it is",
        }
    }
}

impl FileType {
    /// Looks at a file's first bytes (see [`SNIFFED_BYTES`](sealpost_proto::limits::SNIFFED_BYTES)), of `size` in all,
    /// and at its name as the sender wrote it.
    #[must_use]
    pub fn of(first_bytes: &[u8], size: u64, name: &str) -> Self {
        let content_type = content_type(first_bytes, name);
        let is_whole = size == first_bytes.len() as u64;
        let mut dangers = dangers_of_name(name);
        dangers.extend(dangers_of_bytes(content_type, first_bytes, is_whole));
        dangers.sort_unstable();
        dangers.dedup();
        Self {
            content_type: content_type.to_owned(),
            dangers,
        }
    }

    /// What can be said before the bytes are here: what the sender claims, and what the name tells.
    #[must_use]
    pub fn claimed(claim: &str, name: &str) -> Self {
        Self {
            content_type: essence(claim).unwrap_or_else(|| UNKNOWN.to_owned()),
            dangers: dangers_of_name(name),
        }
    }
}

/// A media type without its parameters, in lower case (RFC 9110, section 8.3.1); none when it is no such thing.
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

/// The media type, by the bytes; the name decides only between types that look the same.
fn content_type(first_bytes: &[u8], name: &str) -> &'static str {
    let guess = mime_guess::from_path(name).first_raw();
    let found = infer::get(first_bytes).map(|kind| kind.mime_type());
    if is_text(first_bytes) {
        return text_type(found, guess, first_bytes);
    }
    // What begins as nothing known cannot be what would have been known, and no text is what does not read as one.
    let is_possible = |guess: &str| match is_textual(guess) {
        true => first_bytes.is_empty(),
        false => !infer::is_mime_supported(guess),
    };
    match (found, guess) {
        (Some("application/zip"), Some(guess)) if is_packed_as_zip(guess) => guess,
        (Some(found), _) => found,
        (None, Some(guess)) if is_possible(guess) => guess,
        (None, _) => UNKNOWN,
    }
}

/// What reads as text is text, unless it begins as one of the few others that do.
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
        (Some(found), _) if found == "text/html" || LIKE_TEXT.contains(&found) => found,
        _ if is_markup && contains(text, b"<svg") => "image/svg+xml",
        _ if is_markup && (contains(text, b"<html") || contains(text, b"<script")) => "text/html",
        (_, Some(guess)) if is_textual(guess) => guess,
        (Some("text/xml"), _) => "text/xml",
        _ => "text/plain",
    }
}

/// What infer finds in bytes that read as text, and is right about.
const LIKE_TEXT: [&str; 4] = [
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

fn is_packed_as_zip(media_type: &str) -> bool {
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

/// UTF-8 as far as it goes, without controls that no text has; the last character may be cut.
fn is_text(bytes: &[u8]) -> bool {
    let is_utf8 =
        std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\x0c\r\x1b".contains(byte);
    is_utf8 && !bytes.is_empty() && !bytes.iter().any(is_control)
}

/// Whether `word`, in lower case, stands somewhere, in any case.
fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

fn dangers_of_bytes(content_type: &str, bytes: &[u8], is_whole: bool) -> Option<Danger> {
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
        "image/svg+xml" if !is_whole || is_active(bytes) => Some(Danger::ActivePage),
        _ if has_macros(bytes) => Some(Danger::Macros),
        _ => None,
    }
}

/// Whether an SVG does more than draw.
fn is_active(svg: &[u8]) -> bool {
    const SIGNS: [&[u8]; 5] = [
        b"<script",
        b"javascript:",
        b"<foreignobject",
        b"<iframe",
        b"<!entity",
    ];
    SIGNS.iter().any(|sign| contains(svg, sign)) || (0..svg.len()).any(|at| is_handler(&svg[at..]))
}

/// Whether this begins as in ` onload=`.
fn is_handler(svg: &[u8]) -> bool {
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

/// As far as the first bytes show: the names of parts of an Office document stand there unpacked.
fn has_macros(bytes: &[u8]) -> bool {
    const OLE_PROJECT: &[u8] = b"_\0V\0B\0A\0_\0P\0R\0O\0J\0E\0C\0T\0";
    const SIGNS: [&[u8]; 2] = [b"vbaproject.bin", OLE_PROJECT];
    let is_container = bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0");
    is_container && SIGNS.iter().any(|sign| contains(bytes, sign))
}

/// Extensions that make a file dangerous, whatever is in it: a double click asks for nothing more.
const EXTENSIONS: [(Danger, &str); 7] = [
    (
        Danger::Executable,
        "exe com scr pif cpl dll ocx sys drv gadget jar jnlp app appimage run elf xll msc",
    ),
    (
        Danger::Installer,
        "msi msp mst msix msixbundle appx appxbundle appinstaller deb rpm pkg apk ipa crx xpi vsix application",
    ),
    (
        Danger::Script,
        "bat cmd ps1 psm1 psd1 vb vbs vbe js jse mjs ws wsf wsh wsc sct hta sh bash zsh csh ksh fish py pyw pyc pyz pl rb php tcl ahk reg inf applescript scpt command workflow",
    ),
    (
        Danger::Shortcut,
        "lnk url desktop website webloc scf library-ms search-ms searchconnector-ms settingcontent-ms theme themepack rdp",
    ),
    (Danger::DiskImage, "iso img vhd vhdx dmg vmdk udf"),
    (
        Danger::Macros,
        "docm dotm xlsm xltm xlam xlsb xla pptm potm ppam ppsm sldm accdb accde mdb mde one chm wll",
    ),
    (
        Danger::ActivePage,
        "html htm xhtml xht shtml mht mhtml svgz",
    ),
];

fn danger_of_extension(extension: &str) -> Option<Danger> {
    let lists = EXTENSIONS.into_iter();
    lists
        .filter(|(_, list)| list.split(' ').any(|item| item == extension))
        .map(|(danger, _)| danger)
        .next()
}

/// Extensions that people take for harmless; before another one they mislead.
const HARMLESS: &str = "pdf doc docx odt rtf txt csv xls xlsx ods ppt pptx odp jpg jpeg png gif webp bmp tif tiff heic mp3 mp4 avi mov wav eml xml json";
/// What is opened to take something out.
const ARCHIVES: &str = "zip rar 7z gz tgz bz2 xz tar cab ace arj z";

fn dangers_of_name(name: &str) -> Vec<Danger> {
    let is_in = |list: &str, extension: &str| list.split(' ').any(|item| item == extension);
    // Windows does not see these at the end.
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
    let misleads = is_in(HARMLESS, before)
        && plain.matches('.').count() > 1
        && (danger.is_some() || is_in(ARCHIVES, last));
    // Far to the right nobody sees the extension.
    let is_pushed = plain.contains("     ") || FileName::from_remote(name).as_str() != name;
    danger
        .into_iter()
        .chain((misleads || is_pushed).then_some(Danger::Disguised))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(first_bytes: &[u8], name: &str) -> (String, Vec<Danger>) {
        let seen = FileType::of(first_bytes, first_bytes.len() as u64, name);
        (seen.content_type, seen.dangers)
    }

    fn dangers(first_bytes: &[u8], name: &str) -> Vec<Danger> {
        seen(first_bytes, name).1
    }

    #[test]
    fn the_bytes_count_more_than_the_name() {
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
            (b"\0\x01\x02", "a.png", UNKNOWN),
            (b"\0\x01\x02", "a.p7m", "application/pkcs7-mime"),
            (b"\0\x01\x02", "a.txt", UNKNOWN),
            (
                b"PK\x03\x04\x14\0\0\0",
                "a.odt",
                "application/vnd.oasis.opendocument.text",
            ),
            (b"PK\x03\x04\x14\0\0\0", "a.pdf", "application/zip"),
            (b"", "x", UNKNOWN),
            (b"\xff\xfea", "x", UNKNOWN),
        ] {
            assert_eq!(seen(bytes, name).0, content_type, "{name}: {bytes:?}");
        }
    }

    #[test]
    fn what_runs_is_marked_whatever_it_is_called() {
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
    fn a_picture_that_only_draws_is_not_marked() {
        for (svg, is_marked) in [
            ("<svg><path d='M0 0'/></svg>", false),
            ("<svg><SCRIPT>x</SCRIPT></svg>", true),
            ("<svg onload='x'/>", true),
            ("<svg><a href=\"JavaScript:x\"/></svg>", true),
            ("<svg><foreignObject/></svg>", true),
            ("<svg><text>on one side, =</text></svg>", false),
        ] {
            assert_eq!(
                dangers(svg.as_bytes(), "logo.svg"),
                if is_marked {
                    vec![Danger::ActivePage]
                } else {
                    vec![]
                },
                "{svg}"
            );
        }
        let first_bytes = b"<svg><path/>";
        let longer = FileType::of(first_bytes, 100_000, "logo.svg");
        assert_eq!(
            longer.dangers,
            [Danger::ActivePage],
            "nobody looked at the rest"
        );
    }

    #[test]
    fn names_are_marked_before_a_byte_is_here() {
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
            ("backup.tar.gz", vec![]),
            (".bashrc", vec![]),
        ] {
            assert_eq!(FileType::claimed("", name).dangers, expected, "{name:?}");
        }
    }

    #[test]
    fn a_claim_is_a_media_type_or_nothing() {
        for (claim, shown) in [
            ("Text/HTML; charset=utf-8", "text/html"),
            ("", UNKNOWN),
            ("text", UNKNOWN),
            ("a/b/c", UNKNOWN),
            ("text/\u{1b}[31m", UNKNOWN),
        ] {
            assert_eq!(
                FileType::claimed(claim, "a").content_type,
                shown,
                "{claim:?}"
            );
        }
    }

    #[test]
    fn every_extension_stands_in_one_list() {
        let mut all: Vec<_> = EXTENSIONS
            .iter()
            .flat_map(|(_, list)| list.split(' '))
            .collect();
        all.extend(HARMLESS.split(' ').chain(ARCHIVES.split(' ')));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
