//! Detection of unknown names, which are usually misspelt settings.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A key of the file that is not a setting.
pub(super) struct UnknownKey {
    /// Key with its section, for example `log.format`.
    pub(super) key: String,
    /// Byte offset in the file.
    pub(super) start: usize,
    pub(super) nearest: Option<String>,
}

/// Finds the first key of the file that is neither a setting nor a section of settings.
pub(super) fn find_unknown_key(file: &DeTable<'_>, known: &[String]) -> Option<UnknownKey> {
    find_below(file, "", known)
}

fn find_below(table: &DeTable<'_>, prefix: &str, known: &[String]) -> Option<UnknownKey> {
    table.iter().find_map(|(name, value)| {
        let key = format!("{prefix}{}", name.get_ref());
        if known.contains(&key) {
            return None;
        }
        let section = format!("{key}.");
        if known.iter().any(|known| known.starts_with(&section)) {
            // A section that is not a table is rejected later, during deserialization.
            let table = value.get_ref().as_table()?;
            return find_below(table, &section, known);
        }
        Some(UnknownKey {
            nearest: find_nearest_key(&key, value, known),
            start: name.span().start,
            key,
        })
    })
}

fn find_nearest_key(key: &str, value: &Spanned<DeValue<'_>>, known: &[String]) -> Option<String> {
    let is_section = value.get_ref().is_table();
    let candidates = known.iter().filter_map(|known| match is_section {
        true => known.rsplit_once('.').map(|(section, _)| section),
        false => Some(known.as_str()),
    });
    nearest(key, candidates).map(str::to_owned)
}

/// Returns the candidate with the smallest edit distance to `name`.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate))
}
