//! The words of the project: declared names and texts use the terms of the field.
//!
//! The lists hold words that an engineer would have to translate. Names of standard methods
//! (`Iterator::take`) are no declarations and do not count; nor do the names of trait methods in an
//! `impl` of that trait.

use super::sources::{find_files, is_test_only, parse, workspace_root};
use anyhow::ensure;
use proc_macro2::Span;
use std::{collections::BTreeSet, fs, path::Path};
use syn::{
    Attribute, ImplItem, Item, Lit, Meta,
    visit::{self, Visit},
};

/// Names that no item, field, variant or module may have, in lower case without underscores.
const NAMES: &[&str] = &[
    "arrivals",
    "asked",
    "asker",
    "barerelay",
    "coming",
    "contest",
    "desk",
    "door",
    "doomed",
    "down",
    "draw",
    "going",
    "goon",
    "halt",
    "handed",
    "hear",
    "holdback",
    "house",
    "keep",
    "kept",
    "later",
    "laters",
    "leton",
    "living",
    "look",
    "looked",
    "me",
    "meet",
    "mend",
    "never",
    "news",
    "notanid",
    "noun",
    "offer",
    "passingproblem",
    "place",
    "portion",
    "pulse",
    "putlast",
    "room",
    "seat",
    "share",
    "short",
    "shown",
    "standing",
    "story",
    "take",
    "takein",
    "taken",
    "takeplace",
    "takeup",
    "takenup",
    "tend",
    "told",
    "turn",
    "unbelieved",
    "up",
    "wakes",
    "way",
    "whole",
];

/// Names that stay because they are part of a published protocol (`docs/protocol.md`) or the name of
/// a setting.
const WIRE_NAMES: &[(&str, &str)] = &[
    ("proto/src/wire/deliveries.rs", "later"),
    ("node/src/config.rs", "keep"),
];

/// Words that no name may contain.
const WORDS: &[&str] = &[
    "chore",
    "chores",
    "desk",
    "doomed",
    "errand",
    "errands",
    "heed",
    "heeds",
    "laters",
    "news",
    "noun",
    "pulse",
    "pulses",
    "story",
    "told",
    "unbelieved",
];

/// Phrases that no text may contain; `*` at the end of a word stands for any letters.
const PHRASES: &[&str] = &[
    "a road",
    "the road",
    "became of",
    "by itself is said",
    "chore*",
    "errand*",
    "floor*",
    "gives way",
    "goes on by itself",
    "heed*",
    "hears of",
    "heard of",
    "household",
    "in good order",
    "let on",
    "lets go",
    "let go of",
    "looks after",
    "mend",
    "mended",
    "mends",
    "news for",
    "on its own road",
    "pulse*",
    "so many at most",
    "so many bytes",
    "so many of",
    "stand in the way",
    "stands in the way",
    "take in",
    "takes in",
    "taken in",
    "take up",
    "takes up",
    "taken up",
    "tend",
    "tends",
    "the dead",
    "the desk",
    "the house",
    "the living",
    "the wish that",
];

/// Declared name with its location.
struct Name {
    name: String,
    location: String,
}

/// Text that people read, with its location.
struct Text {
    text: String,
    location: String,
}

/// Collects the names that one file declares, and its texts.
struct Collector<'a> {
    file: &'a str,
    /// Whether string literals count: not in tests, which also quote bad input.
    reads_literals: bool,
    names: Vec<Name>,
    texts: Vec<Text>,
}

impl Collector<'_> {
    fn location(&self, span: Span) -> String {
        format!("{}:{}", self.file, span.start().line)
    }

    fn declare(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        let name = name.trim_start_matches("r#").to_owned();
        let location = self.location(ident.span());
        self.names.push(Name { name, location });
    }

    /// Records doc comments, and the names that serde gives to fields.
    fn read_attributes(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            let location = self.location(attribute.pound_token.span);
            if let Meta::NameValue(pair) = &attribute.meta
                && pair.path.is_ident("doc")
                && let syn::Expr::Lit(value) = &pair.value
                && let Lit::Str(text) = &value.lit
            {
                let text = text.value();
                self.texts.push(Text { text, location });
            } else if attribute.path().is_ident("serde") {
                let _ = attribute.parse_nested_meta(|meta| {
                    let is_name = meta.path.is_ident("rename") || meta.path.is_ident("alias");
                    if let Ok(value) = meta.value()
                        && let Ok(Lit::Str(name)) = value.parse()
                        && is_name
                    {
                        let (name, location) = (name.value(), location.clone());
                        self.names.push(Name { name, location });
                    }
                    Ok(())
                });
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.read_attributes(std::slice::from_ref(attribute));
    }

    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Const(item) => self.declare(&item.ident),
            Item::Enum(item) => self.declare(&item.ident),
            Item::Fn(item) => self.declare(&item.sig.ident),
            Item::Mod(item) => self.declare(&item.ident),
            Item::Static(item) => self.declare(&item.ident),
            Item::Struct(item) => self.declare(&item.ident),
            Item::Trait(item) => self.declare(&item.ident),
            Item::Type(item) => self.declare(&item.ident),
            Item::Union(item) => self.declare(&item.ident),
            Item::Macro(item) => item.ident.iter().for_each(|ident| self.declare(ident)),
            Item::Impl(item) if item.trait_.is_none() => {
                for item in &item.items {
                    match item {
                        ImplItem::Fn(function) => self.declare(&function.sig.ident),
                        ImplItem::Const(constant) => self.declare(&constant.ident),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let reads_literals = self.reads_literals;
        if let Item::Mod(module) = item {
            self.reads_literals &= !is_test_only(&module.attrs);
        }
        visit::visit_item(self, item);
        self.reads_literals = reads_literals;
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.declare(&function.sig.ident);
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        field.ident.iter().for_each(|ident| self.declare(ident));
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.declare(&variant.ident);
        visit::visit_variant(self, variant);
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        if self.reads_literals {
            let (text, location) = (literal.value(), self.location(literal.span()));
            self.texts.push(Text { text, location });
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        for token in call.tokens.clone() {
            if let proc_macro2::TokenTree::Literal(literal) = token
                && let Lit::Str(text) = Lit::new(literal)
            {
                self.visit_lit_str(&text);
            }
        }
        visit::visit_macro(self, call);
    }
}

/// Splits a name into lower-case words: `TakeIn`, `take_in` and `take-in` give the same.
fn split_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && previous_is_lower {
            words.push(String::new());
        }
        previous_is_lower = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the entry of the lists that a name matches.
fn name_problem(name: &str) -> Option<String> {
    let words = split_words(name);
    let joined = words.concat();
    let exact = NAMES.contains(&joined.as_str()).then_some(joined);
    exact.or_else(|| {
        words
            .into_iter()
            .find(|word| WORDS.contains(&word.as_str()))
    })
}

/// Returns the phrase that a text contains; code in backticks is left out.
fn text_problem(text: &str) -> Option<&'static str> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" x ");
    let words: Vec<_> = prose
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    PHRASES.iter().copied().find(|phrase| {
        let phrase: Vec<_> = phrase.split(' ').collect();
        words.windows(phrase.len()).any(|window| {
            window
                .iter()
                .zip(&phrase)
                .all(|(word, wanted)| word_matches(word, wanted))
        })
    })
}

fn word_matches(word: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(stem) => word.starts_with(stem),
        None => word == wanted,
    }
}

/// Returns the columns, tables, views and indices that a migration declares.
fn sql_names(sql: &str) -> impl Iterator<Item = (usize, &str)> {
    sql.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_start();
        let declared = [
            "CREATE TABLE ",
            "CREATE VIEW ",
            "CREATE INDEX ",
            "CREATE UNIQUE INDEX ",
        ]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix));
        let is_column = line.split_whitespace().nth(1).is_some_and(|kind| {
            ["INTEGER", "TEXT", "BLOB", "REAL"].contains(&kind.trim_end_matches(','))
        });
        let name = declared.or(is_column.then_some(line))?;
        Some((index + 1, name.split([' ', '(']).next()?))
    })
}

fn relative_path(file: &Path) -> String {
    let root = workspace_root();
    file.strip_prefix(&root)
        .unwrap_or(file)
        .display()
        .to_string()
}

fn is_test_source(file: &str) -> bool {
    file.split('/')
        .any(|part| ["tests", "tests.rs", "benches", "examples"].contains(&part))
}

/// Reads all Rust files of the workspace.
fn collect_names_and_texts() -> anyhow::Result<(Vec<Name>, Vec<Text>)> {
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    for path in find_files(&workspace_root(), &["rs"])? {
        let file = relative_path(&path);
        if file.ends_with("architecture/language.rs") {
            continue;
        }
        let mut collector = Collector {
            file: &file,
            reads_literals: !is_test_source(&file),
            names: Vec::new(),
            texts: Vec::new(),
        };
        collector.visit_file(&parse(&path)?);
        names.extend(collector.names);
        texts.extend(collector.texts);
    }
    for path in find_files(&workspace_root(), &["sql"])? {
        let (sql, file) = (fs::read_to_string(&path)?, relative_path(&path));
        names.extend(sql_names(&sql).map(|(line, name)| Name {
            name: name.to_owned(),
            location: format!("{file}:{line}"),
        }));
    }
    for path in find_files(&workspace_root(), &["md"])? {
        let (text, file) = (fs::read_to_string(&path)?, relative_path(&path));
        texts.extend(text.lines().enumerate().map(|(index, line)| Text {
            text: line.to_owned(),
            location: format!("{file}:{}", index + 1),
        }));
    }
    Ok((names, texts))
}

#[test]
fn names_and_texts_are_plain_english() -> anyhow::Result<()> {
    let (names, texts) = collect_names_and_texts()?;
    ensure!(
        names.len() > 5_000 && texts.len() > 5_000,
        "too little was read"
    );
    let is_wire_name = |Name { name, location }: &&Name| {
        let file = location.split(':').next().unwrap_or_default();
        WIRE_NAMES.contains(&(file, name))
    };
    let checked = names.iter().filter(|name| !is_wire_name(name));
    let in_names = checked.filter_map(|Name { name, location }| {
        name_problem(name).map(|problem| format!("{location}: the name {name} ({problem})"))
    });
    let in_texts = texts.iter().filter_map(|Text { text, location }| {
        text_problem(text).map(|phrase| format!("{location}: \"{phrase}\" in: {}", text.trim()))
    });
    let problems: BTreeSet<_> = in_names.chain(in_texts).collect();
    let listed: Vec<_> = problems.into_iter().collect();
    ensure!(
        listed.is_empty(),
        "{} problems:\n{}",
        listed.len(),
        listed.join("\n")
    );
    Ok(())
}

#[test]
fn listed_names_are_found_in_every_spelling() {
    for name in [
        "take_in",
        "TakeIn",
        "Standing",
        "standing",
        "heeds_contact",
        "run_errands",
        "TOLD_EVERY",
    ] {
        assert!(name_problem(name).is_some(), "{name}");
    }
    for name in [
        "take_while",
        "outstanding",
        "EndpointHealth",
        "withhold",
        "history",
    ] {
        assert_eq!(name_problem(name), None);
    }
}

#[test]
fn listed_phrases_are_found_in_prose_only() {
    assert_eq!(text_problem("What became of it."), Some("became of"));
    assert_eq!(text_problem("It heeds the limit."), Some("heed*"));
    assert_eq!(text_problem("Calls `take_in` and `mend`."), None);
    assert_eq!(text_problem("The upper floor"), Some("floor*"));
}

#[test]
fn columns_are_found_in_sql() {
    let sql =
        "CREATE TABLE chores (\n    place INTEGER NOT NULL,\n    PRIMARY KEY (place)\n) STRICT;";
    let found: Vec<_> = sql_names(sql).collect();
    assert_eq!(found, [(1, "chores"), (2, "place")]);
}
