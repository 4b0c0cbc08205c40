//! Comparison of the names of contacts, as people type them.

use unicode_normalization::UnicodeNormalization as _;

/// Returns the key under which names compare as equal: neither case, nor the form of a composed
/// character such as an umlaut, nor white space around the name makes a difference.
#[must_use]
pub fn comparison_key(name: &str) -> String {
    // `STRASSE` is the upper case of `Straße`, and only its lower case compares as equal.
    let folded = |c: char| c.to_uppercase().flat_map(char::to_lowercase);
    name.trim().nfc().flat_map(folded).nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_composition_do_not_matter() {
        for same in [
            ["Bolt", "bOLT", " BOLT "],
            ["MÜLLER GmbH", "müller gmbh", "Mu\u{308}ller GmbH"],
            ["Straße", "STRASSE", "strasse"],
            ["Όμηρος", "ΌΜΗΡΟΣ", "Ο\u{301}μηροσ"],
            ["ǅur", "ǆur", "Ǆur"],
            ["Åse", "A\u{30a}se", "\u{212b}se"],
        ] {
            assert_eq!(comparison_key(same[0]), comparison_key(same[1]), "{same:?}");
            assert_eq!(comparison_key(same[0]), comparison_key(same[2]), "{same:?}");
        }
        for (one, other) in [("Müller", "Muller"), ("Bolt", "Bolt 2"), ("Ⅳ", "IV")] {
            assert_ne!(comparison_key(one), comparison_key(other));
        }
    }
}
