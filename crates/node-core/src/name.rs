//! Names of nodes and people, which partners compare by eye.
//!
//! A name that looks like another one, or like nothing, invites impersonation. A node's own name
//! must therefore be unambiguous ([`parse_own_name`]), and a name that a peer chose is displayed
//! with everything visible that could deceive ([`visible_name`]). Scripts may be mixed between
//! words, but not within a word (UTS #39), and characters that only look different in a good font are
//! not used to write a word of another script.

use crate::text::{is_blank_char, is_blank_symbol, is_display_control, is_hidden, visible_char};
use sealpost_proto::limits::CARD_NAME_BYTES_MAX;
use std::fmt::Write as _;
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::{
    GeneralSecurityProfile as _, MixedScript as _, general_security_profile::IdentifierType,
    is_potential_mixed_script_confusable_char, mixed_script::AugmentedScriptSet, skeleton,
};

/// Reason why a node cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// The name has no visible character.
    #[error("the name is empty")]
    Empty,
    /// The name exceeds the limit.
    #[error("the name has {actual_bytes} bytes; the limit is {CARD_NAME_BYTES_MAX}")]
    TooLong {
        /// Length of the name in bytes of UTF-8.
        actual_bytes: usize,
    },
    /// The name has a character that is not displayed, or displayed as an unusual blank.
    #[error("the name has the hidden character U+{code_point:04X}; leave it out")]
    Hidden {
        /// Code point of the character.
        code_point: u32,
    },
    /// The name has a character that looks like one of another script or form.
    #[error(
        "the name has the character \"{character}\" (U+{:04X}), which looks like another one; write \
         each word in one script",
        u32::from(*character)
    )]
    LookAlike {
        /// The character.
        character: char,
    },
}

/// Validates and normalises (NFC, no spaces at the ends) the name of this node.
///
/// # Errors
/// [`NameRefusal`] if partners could mistake the name for another one.
pub fn parse_own_name(text: &str) -> Result<String, NameRefusal> {
    let name: String = text.trim_matches(' ').nfc().collect();
    if name.chars().all(is_blank_char) {
        return Err(NameRefusal::Empty);
    }
    if name.len() > CARD_NAME_BYTES_MAX {
        return Err(NameRefusal::TooLong {
            actual_bytes: name.len(),
        });
    }
    for (c, mark) in marked_chars(&name) {
        match mark {
            Mark::None => {}
            Mark::Hidden => {
                return Err(NameRefusal::Hidden {
                    code_point: u32::from(c),
                });
            }
            Mark::LookAlike => return Err(NameRefusal::LookAlike { character: c }),
        }
    }
    Ok(name)
}

/// Makes a name from a peer visible: a hidden or blank character becomes a replacement character,
/// and a character that looks like another one is followed by its code point, as in `А[U+0410]cme`.
#[must_use]
pub fn visible_name(name: &str) -> String {
    let mut visible = String::with_capacity(name.len());
    for (c, mark) in marked_chars(name) {
        match mark {
            Mark::None => visible.push(c),
            Mark::Hidden if is_display_control(c) => visible.push(visible_char(c)),
            Mark::Hidden => visible.push(char::REPLACEMENT_CHARACTER),
            // Writing to a `String` cannot fail.
            Mark::LookAlike => {
                let _ = write!(visible, "{c}[U+{:04X}]", u32::from(c));
            }
        }
    }
    visible
}

/// What is wrong with a character of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Hidden,
    LookAlike,
}

fn marked_chars(name: &str) -> Vec<(char, Mark)> {
    let has_own_script = name.split(|c| !is_part_of_word(c)).any(is_distinctive);
    let mut marked = Vec::with_capacity(name.len());
    for part in name.split_inclusive(|c| !is_part_of_word(c)) {
        let word = part.trim_end_matches(|c| !is_part_of_word(c));
        let is_imitation = is_mixed(word) || (!has_own_script && is_imitation_of_ascii(word));
        marked.extend(part.chars().map(|c| (c, mark(c, is_imitation))));
    }
    mark_extra_spaces(&mut marked);
    marked
}

fn mark(c: char, is_in_imitation: bool) -> Mark {
    if is_unseen(c) {
        Mark::Hidden
    } else if is_variant_of_ascii(c)
        || (is_in_imitation && is_potential_mixed_script_confusable_char(c) && !c.is_ascii())
    {
        Mark::LookAlike
    } else {
        Mark::None
    }
}

/// Marks spaces at the ends, and all but the first between two words.
fn mark_extra_spaces(marked: &mut [(char, Mark)]) {
    let last = marked.len().saturating_sub(1);
    let mut follows_space = true;
    for (index, (c, mark)) in marked.iter_mut().enumerate() {
        if *c == ' ' && (follows_space || index == last) {
            *mark = Mark::Hidden;
        }
        follows_space = *c == ' ';
    }
}

/// Whether a character belongs to a word: letters, digits and marks, and what hides between them.
fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_hidden(c) || unicode_normalization::char::is_combining_mark(c)
}

/// Whether people would not see a character, or see a blank that is not an ordinary space.
fn is_unseen(c: char) -> bool {
    is_display_control(c) || is_hidden(c) || is_blank_symbol(c) || (c != ' ' && c.is_whitespace())
}

/// Whether a word mixes scripts that are not written together. Latin letters occur in Chinese,
/// Japanese and Korean words.
fn is_mixed(word: &str) -> bool {
    let mut others = AugmentedScriptSet::default();
    for c in word.chars().filter(|c| !is_latin(*c)) {
        others.intersect_with(AugmentedScriptSet::for_char(c));
    }
    !(word.is_single_script() || others.hanb || others.jpan || others.kore)
}

fn is_latin(c: char) -> bool {
    let mut scripts = AugmentedScriptSet::for_char(c);
    scripts.intersect_with(AugmentedScriptSet::for_char('a'));
    !scripts.is_empty()
}

/// Whether a word of another script can be read as ASCII letters, as `Роса` can.
fn is_imitation_of_ascii(word: &str) -> bool {
    !word.chars().all(is_latin) && looks_like_ascii(word)
}

/// Whether a word shows that the name is written in a script other than Latin.
fn is_distinctive(word: &str) -> bool {
    word.chars().any(|c| c.is_alphabetic() && !is_latin(c)) && !looks_like_ascii(word)
}

fn looks_like_ascii(text: &str) -> bool {
    skeleton(text).all(|c| c.is_ascii()) || text.nfkc().all(|c| c.is_ascii())
}

/// Whether a character is a variant of ASCII letters, such as a full-width or mathematical one.
fn is_variant_of_ascii(c: char) -> bool {
    const ORDINALS: [char; 2] = ['ª', 'º'];
    let is_variant = matches!(
        c.identifier_type(),
        Some(
            IdentifierType::Not_NFKC
                | IdentifierType::Technical
                | IdentifierType::Obsolete
                | IdentifierType::Deprecated
        )
    );
    is_variant
        && c.is_alphabetic()
        && !ORDINALS.contains(&c)
        && looks_like_ascii(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_all_languages_are_accepted() {
        for name in [
            "Acme",
            "Müller GmbH & Co. KG",
            "L’Oréal S.A.",
            "AT&T",
            "3M",
            "Łódź Żabka",
            "Yıldız Holding",
            "Işık Türkiye",
            "Azərbaycan",
            "Việt Nam Đồng",
            "Яндекс",
            "ООО Ромашка",
            "ООО «Ромашка» Volkswagen",
            "Ελληνικά Πετρέλαια",
            "株式会社トヨタ",
            "東京Toyota",
            "㈱リコー",
            "한국LG전자",
            "شركة النور",
            "חברת חשמל",
            "ที่ทำการ",
            "भारत",
            "Nº 1 ½ ™",
            "Bolt 🔩",
        ] {
            assert_eq!(parse_own_name(name).as_deref(), Ok(name));
            assert_eq!(visible_name(name), name);
        }
        assert_eq!(parse_own_name(" Mu\u{308}ller ").as_deref(), Ok("Müller"));
    }

    #[test]
    fn hidden_characters_are_refused_and_visible() {
        for (name, visible) in [
            ("Bolt\u{200b}", "Bolt\u{fffd}"),
            ("Bo\u{ad}lt", "Bo\u{fffd}lt"),
            ("Bolt\u{200d}", "Bolt\u{fffd}"),
            ("Bolt\u{fe0f}", "Bolt\u{fffd}"),
            ("Bolt\u{34f}", "Bolt\u{fffd}"),
            ("Bolt\u{3164}", "Bolt\u{fffd}"),
            ("Bolt\u{2800}", "Bolt\u{fffd}"),
            ("Bolt\u{e0041}", "Bolt\u{fffd}"),
            ("Bolt\u{202e}", "Bolt\u{fffd}"),
            ("Bolt\u{a0}AG", "Bolt\u{fffd}AG"),
            ("Bolt\u{1b}[31m", "Bolt␛[31m"),
            ("Bolt  AG", "Bolt \u{fffd}AG"),
        ] {
            assert!(
                matches!(parse_own_name(name), Err(NameRefusal::Hidden { .. })),
                "{name:?}"
            );
            assert_eq!(visible_name(name), visible);
        }
        assert_eq!(visible_name(" Bolt "), "\u{fffd}Bolt\u{fffd}");
        for blank in ["", "  ", "\u{2800}", "\u{3164}\u{3000}"] {
            assert_eq!(parse_own_name(blank), Err(NameRefusal::Empty), "{blank:?}");
        }
        assert!(parse_own_name("\u{200b}").is_err());
    }

    #[test]
    fn look_alike_characters_are_refused_and_visible() {
        for (name, visible) in [
            ("Аcme", "А[U+0410]cme"),
            ("Βolt", "Β[U+0392]olt"),
            ("Ｂolt", "Ｂ[U+FF22]olt"),
            ("𝐁olt", "𝐁[U+1D401]olt"),
            ("ɡoogle", "ɡ[U+0261]oogle"),
            ("Acme АО", "Acme А[U+0410]О[U+041E]"),
            ("«АО»", "«А[U+0410]О[U+041E]»"),
            ("Роса", "Р[U+0420]о[U+043E]с[U+0441]а[U+0430]"),
        ] {
            assert!(
                matches!(parse_own_name(name), Err(NameRefusal::LookAlike { .. })),
                "{name:?}"
            );
            assert_eq!(visible_name(name), visible);
        }
    }

    #[test]
    fn long_names_are_refused() {
        let refusal = parse_own_name(&"x".repeat(65)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the name has 65 bytes; the limit is 64"
        );
    }

    proptest! {
        #[test]
        fn accepted_names_are_displayed_unchanged(name in any::<String>()) {
            if let Ok(name) = parse_own_name(&name) {
                prop_assert_eq!(visible_name(&name), name);
            }
        }

        #[test]
        fn visible_names_hide_nothing(name in any::<String>()) {
            prop_assert!(!visible_name(&name).contains(is_unseen));
        }
    }
}
