use super::Setting;
use std::fmt::Write as _;

/// Formats settings as a configuration file, optionally with the source of each as a comment.
///
/// Settings outside of sections must come first, as they do in
/// [`LoadedConfig`](super::LoadedConfig); then the file has the same effect as the settings, except
/// for secrets, which are masked.
#[must_use]
pub fn format_toml(settings: &[Setting], with_sources: bool) -> String {
    let mut text = String::new();
    let mut current = "";
    for setting in settings {
        let Setting { key, source, .. } = setting;
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        if section != current {
            current = section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let line = match setting.display_value() {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        };
        let _ = if with_sources {
            writeln!(text, "{line:<50} # {source}")
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}

/// Formats settings as a JSON object: each key with its `value` (secrets are masked) and `source`.
///
/// # Errors
/// Returns an error if a value has no form in JSON, such as a number that is not finite.
pub fn format_json(settings: &[Setting]) -> Result<String, serde_json::Error> {
    let entry = |setting: &Setting| {
        let value = serde_json::json!({
            "value": setting.display_value(),
            "source": setting.source.to_string(),
        });
        (setting.key.clone(), value)
    };
    let settings: serde_json::Map<_, _> = settings.iter().map(entry).collect();
    Ok(format!("{}\n", serde_json::to_string_pretty(&settings)?))
}
