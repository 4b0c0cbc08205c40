//! Parsed source files of the workspace, found by following `mod` declarations from a crate root.

use anyhow::{Context as _, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};
use syn::{Attribute, Item, ItemMod};

/// Returns the root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One file of a crate.
pub(crate) struct Module {
    /// The module's path below the crate root; empty for the root itself.
    pub(crate) path: Vec<String>,
    pub(crate) file: PathBuf,
    pub(crate) syntax: syn::File,
}

/// Loads every module of a crate that is compiled outside tests.
pub(crate) fn load_modules(crate_root: &Path) -> anyhow::Result<Vec<Module>> {
    let mut modules = Vec::new();
    let directory = crate_root
        .parent()
        .context("the crate root has no directory")?;
    load(crate_root, directory, &mut Vec::new(), &mut modules)?;
    Ok(modules)
}

/// Returns whether an item is compiled for tests only.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Meta>()
                    .is_ok_and(|meta| meta.path().is_ident("test"))
    })
}

fn load(
    file: &Path,
    directory: &Path,
    path: &mut Vec<String>,
    modules: &mut Vec<Module>,
) -> anyhow::Result<()> {
    let syntax = parse(file)?;
    for item in &syntax.items {
        let Item::Mod(module) = item else { continue };
        if module.content.is_none() && !is_test_only(&module.attrs) {
            let name = module.ident.to_string();
            let child = find_file(directory, module)?;
            path.push(name.clone());
            load(&child, &directory.join(name), path, modules)?;
            path.pop();
        }
    }
    modules.push(Module {
        path: path.clone(),
        file: file.to_owned(),
        syntax,
    });
    Ok(())
}

fn find_file(directory: &Path, module: &ItemMod) -> anyhow::Result<PathBuf> {
    let name = module.ident.to_string();
    let candidates = [
        directory.join(format!("{name}.rs")),
        directory.join(&name).join("mod.rs"),
    ];
    match candidates.into_iter().find(|file| file.exists()) {
        Some(file) => Ok(file),
        None => bail!("module {name} has no file in {}", directory.display()),
    }
}

/// Parses one Rust file.
pub(crate) fn parse(file: &Path) -> anyhow::Result<syn::File> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))
}

/// Returns all files below a directory with one of the given extensions, without build output and
/// hidden directories.
pub(crate) fn find_files(directory: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    pending.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
