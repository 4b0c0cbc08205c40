//! The direction of imports between the modules of a crate: no cycle, and nothing imports from a
//! layer above.
//!
//! A module and its children count as one. Code that is compiled for tests only does not count.

use super::sources::{Module, is_test_only, load_modules, workspace_root};
use anyhow::{Context as _, ensure};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::{
    Item, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// Crates whose modules are checked.
const CRATES: [&str; 12] = [
    "proto",
    "crates/e2ee",
    "crates/signatures",
    "crates/age",
    "crates/relay-core",
    "crates/node-core",
    "crates/sqlite",
    "crates/service",
    "crates/egress",
    "crates/relay-client",
    "relay",
    "node",
];

/// The layers of the two programs, from top to bottom: a module may import from its own layer and
/// from those below.
const LAYERS: [(&str, &[&[&str]]); 2] = [
    (
        "relay",
        &[
            &["cli"],
            &["serve"],
            &["http", "admin"],
            &["delivery", "sweeper", "reload", "backup", "simulated"],
            &["accounts", "activity"],
            &["store", "metrics"],
        ],
    ),
    (
        "node",
        &[
            &["cli"],
            &["api"],
            &["daemon"],
            &[
                "pairing",
                "outbox",
                "inbox",
                "healing",
                "lost_blobs",
                "recovery",
                "refused_jobs",
                "checkpoint",
                "conversation",
                "identity",
            ],
            &["store"],
        ],
    ),
];

/// Which modules import which, with one file for each import.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Collects the modules that one file imports from.
struct Collector<'a> {
    module: &'a Module,
    /// The path of the module that is being visited: the file's own, then inline modules.
    path: Vec<String>,
    /// Items that the crate root re-exports, with the module that declares each.
    root_exports: &'a BTreeMap<String, String>,
    found: BTreeSet<String>,
}

impl Collector<'_> {
    /// Records a path such as `crate::store::Store` or `super::keys`.
    fn record_path(&mut self, segments: &[String]) {
        let mut absolute = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.path.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    absolute.pop();
                }
                name => absolute.push(name.to_owned()),
            }
        }
        if let Some(first) = absolute.first() {
            let target = self.root_exports.get(first).unwrap_or(first);
            self.found.insert(target.clone());
        }
    }

    fn record_tree(&mut self, tree: &UseTree, prefix: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.record_tree(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.record_tree(tree, prefix);
                }
            }
            UseTree::Name(name) => self.record_leaf(prefix, &name.ident.to_string()),
            UseTree::Rename(rename) => self.record_leaf(prefix, &rename.ident.to_string()),
            UseTree::Glob(_) => self.record_path(prefix),
        }
    }

    fn record_leaf(&mut self, prefix: &[String], leaf: &str) {
        let mut path = prefix.to_vec();
        path.push(leaf.to_owned());
        self.record_path(&path);
    }

    /// Records paths inside a macro call, which the parser leaves as tokens.
    fn record_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.record_path(&path);
                    (path, colons) = (Vec::new(), 0);
                    match other {
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Group(group) => self.record_tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.record_path(&path);
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if item_attributes(item).is_some_and(is_test_only) {
            return;
        }
        if let Item::Mod(module) = item {
            self.path.push(module.ident.to_string());
            visit::visit_item(self, item);
            self.path.pop();
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test_only(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.record_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.record_path(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.record_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn item_attributes(item: &Item) -> Option<&[syn::Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// Returns the names that the crate root re-exports, with the module that declares each.
fn find_root_exports(root: &Module) -> BTreeMap<String, String> {
    fn collect(tree: &UseTree, module: Option<&str>, found: &mut BTreeMap<String, String>) {
        match (tree, module) {
            (UseTree::Path(path), None) if path.ident == "crate" || path.ident == "self" => {
                collect(&path.tree, None, found);
            }
            (UseTree::Path(path), None) => {
                collect(&path.tree, Some(&path.ident.to_string()), found);
            }
            (UseTree::Path(path), Some(_)) => collect(&path.tree, module, found),
            (UseTree::Group(group), _) => {
                for tree in &group.items {
                    collect(tree, module, found);
                }
            }
            (UseTree::Name(name), Some(module)) => {
                found.insert(name.ident.to_string(), module.to_owned());
            }
            (UseTree::Rename(rename), Some(module)) => {
                found.insert(rename.rename.to_string(), module.to_owned());
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for item in &root.syntax.items {
        if let Item::Use(item) = item {
            collect(&item.tree, None, &mut found);
        }
    }
    found
}

/// Returns the imports between the top-level modules of a crate.
fn load_imports(directory: &str) -> anyhow::Result<Imports> {
    let source = workspace_root().join(directory).join("src");
    let modules = load_modules(&source.join("lib.rs"))?;
    let root = modules.last().context("the crate has no root")?;
    let root_exports = find_root_exports(root);
    let names: BTreeSet<_> = modules
        .iter()
        .filter_map(|module| module.path.first().cloned())
        .collect();
    let mut imports: Imports = names
        .iter()
        .map(|name| (name.clone(), BTreeMap::new()))
        .collect();
    for module in &modules {
        let Some(importer) = module.path.first() else {
            continue;
        };
        let mut collector = Collector {
            module,
            path: module.path.clone(),
            root_exports: &root_exports,
            found: BTreeSet::new(),
        };
        collector.visit_file(&module.syntax);
        let file = collector.module.file.strip_prefix(&source)?;
        for target in collector.found {
            if target != *importer && names.contains(&target) {
                let file = file.display().to_string();
                imports
                    .entry(importer.clone())
                    .or_default()
                    .entry(target)
                    .or_insert(file);
            }
        }
    }
    Ok(imports)
}

/// Finds one cycle, as the modules along it.
fn find_cycle(imports: &Imports) -> Option<Vec<&str>> {
    fn visit<'a>(
        imports: &'a Imports,
        module: &'a str,
        trail: &mut Vec<&'a str>,
        finished: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = trail.iter().position(|visited| *visited == module) {
            return Some(trail[start..].to_vec());
        }
        if finished.contains(module) {
            return None;
        }
        trail.push(module);
        for target in imports.get(module).into_iter().flat_map(BTreeMap::keys) {
            if let Some(cycle) = visit(imports, target, trail, finished) {
                return Some(cycle);
            }
        }
        trail.pop();
        finished.insert(module);
        None
    }
    let mut finished = BTreeSet::new();
    imports
        .keys()
        .find_map(|module| visit(imports, module, &mut Vec::new(), &mut finished))
}

/// Lists each import along a cycle with the file that contains it.
fn describe_cycle(imports: &Imports, cycle: &[&str]) -> String {
    let edges = cycle
        .iter()
        .zip(cycle.iter().cycle().skip(1))
        .map(|(importer, target)| {
            format!("{importer} -> {target} ({})", imports[*importer][*target])
        });
    edges.collect::<Vec<_>>().join(", ")
}

#[test]
fn imports_form_no_cycle() -> anyhow::Result<()> {
    let mut cycles = Vec::new();
    for directory in CRATES {
        let imports = load_imports(directory)?;
        cycles.extend(
            find_cycle(&imports)
                .map(|cycle| format!("{directory}: {}", describe_cycle(&imports, &cycle))),
        );
    }
    ensure!(
        cycles.is_empty(),
        "modules import each other:\n{}",
        cycles.join("\n")
    );
    Ok(())
}

#[test]
fn programs_import_lower_layers_only() -> anyhow::Result<()> {
    for (package, layers) in LAYERS {
        // Modules that are not listed are in the lowest layer.
        let layer_of = |module: &str| {
            let layer = layers.iter().position(|layer| layer.contains(&module));
            layer.unwrap_or(layers.len())
        };
        for (importer, targets) in load_imports(package)? {
            for (target, file) in targets {
                ensure!(
                    layer_of(&importer) <= layer_of(&target),
                    "{package}: {importer} imports {target} from a higher layer ({file})"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn import_cycle_is_found() {
    let edge = |target: &str| BTreeMap::from([(target.to_owned(), "file.rs".to_owned())]);
    let imports = Imports::from([
        ("a".to_owned(), edge("b")),
        ("b".to_owned(), edge("c")),
        ("c".to_owned(), edge("b")),
    ]);
    assert_eq!(find_cycle(&imports), Some(vec!["b", "c"]));
    assert_eq!(
        describe_cycle(&imports, &["b", "c"]),
        "b -> c (file.rs), c -> b (file.rs)"
    );
}
