//! The layers of `docs/ARCHITECTURE.md` and the policy for dependencies, checked against `cargo
//! metadata`.

use anyhow::{Context as _, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, NodeDep, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Workspace packages that each package may depend on, except for development.
const PACKAGES: &[(&str, &[&str])] = &[
    ("sealpost-proto", &[]),
    ("sealpost-e2ee", &["sealpost-proto"]),
    ("sealpost-signatures", &["sealpost-proto"]),
    ("sealpost-age", &["sealpost-proto"]),
    (
        "sealpost-relay-core",
        &["sealpost-proto", "sealpost-signatures"],
    ),
    (
        "sealpost-node-core",
        &["sealpost-proto", "sealpost-signatures", "sealpost-e2ee"],
    ),
    ("sealpost-sqlite", &["sealpost-proto"]),
    (
        "sealpost-service",
        &["sealpost-proto", "sealpost-signatures"],
    ),
    ("sealpost-egress", &["sealpost-proto", "sealpost-service"]),
    (
        "sealpost-relay-client",
        &[
            "sealpost-proto",
            "sealpost-signatures",
            "sealpost-service",
            "sealpost-egress",
        ],
    ),
    (
        "sealpost-relay",
        &[
            "sealpost-proto",
            "sealpost-signatures",
            "sealpost-relay-core",
            "sealpost-sqlite",
            "sealpost-service",
            "sealpost-egress",
        ],
    ),
    (
        "sealpost-node",
        &[
            "sealpost-proto",
            "sealpost-e2ee",
            "sealpost-signatures",
            "sealpost-age",
            "sealpost-node-core",
            "sealpost-sqlite",
            "sealpost-service",
            "sealpost-egress",
            "sealpost-relay-client",
        ],
    ),
];

/// Layers 0 to 2, which hold rules and perform no I/O.
const PURE: [&str; 6] = [
    "sealpost-proto",
    "sealpost-e2ee",
    "sealpost-signatures",
    "sealpost-age",
    "sealpost-relay-core",
    "sealpost-node-core",
];

/// Crates for asynchronous tasks, storage, logging or the network. A pure package must not depend
/// on them, directly or indirectly.
const IO_CRATES: [&str; 6] = [
    "tokio",
    "reqwest",
    "hyper",
    "axum",
    "rusqlite",
    "tracing-subscriber",
];

/// Sources of randomness and time that a pure package must not depend on directly. (Some of its
/// dependencies do: ring, for example, for key generation that is never called here.)
const ENTROPY_AND_TIME_CRATES: [&str; 6] =
    ["getrandom", "rand", "uuid", "time", "chrono", "fastrand"];

/// Licences that may be linked into the binaries; `deny.toml` has the same list.
const LICENCES: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates with a licence of their own that is accepted for that crate alone; `deny.toml` has the
/// same list.
const LICENCE_EXCEPTIONS: [(&str, &str); 2] = [("cssparser", "MPL-2.0"), ("dtoa-short", "MPL-2.0")];

/// Crates that are accepted in more than one version until their dependents agree; `deny.toml` has
/// the same list.
const DUPLICATES: [&str; 9] = [
    "base64",
    "bit-vec",
    "getrandom",
    "hashbrown",
    "itertools",
    "miniz_oxide",
    "pastey",
    "syn",
    "synstructure",
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
const DENY: &str = include_str!("../../../../deny.toml");

fn load_metadata() -> anyhow::Result<Metadata> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let options = ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    Ok(MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(options.map(str::to_owned))
        .exec()?)
}

fn workspace(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.as_str(), package))
        .collect()
}

fn is_normal(dependency: &NodeDep) -> bool {
    dependency
        .dep_kinds
        .iter()
        .any(|kind| kind.kind == DependencyKind::Normal)
}

/// Returns the direct dependencies of a package, except for development.
fn direct_dependencies<'a>(
    metadata: &'a Metadata,
    id: &PackageId,
) -> anyhow::Result<Vec<&'a Package>> {
    let graph = metadata
        .resolve
        .as_ref()
        .context("cargo metadata has no dependency graph")?;
    let node = graph
        .nodes
        .iter()
        .find(|node| node.id == *id)
        .context("a package is missing from the dependency graph")?;
    Ok(node
        .deps
        .iter()
        .filter(|dependency| is_normal(dependency))
        .map(|dependency| &metadata[&dependency.pkg])
        .collect())
}

/// Returns the names of all dependencies of a package, except for development.
fn all_dependencies<'a>(
    metadata: &'a Metadata,
    id: &PackageId,
) -> anyhow::Result<BTreeSet<&'a str>> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![id.clone()]);
    while let Some(id) = pending.pop() {
        for package in direct_dependencies(metadata, &id)? {
            if found.insert(package.name.as_str()) {
                pending.push(package.id.clone());
            }
        }
    }
    Ok(found)
}

/// Whether a licence expression (SPDX, with `/` as the older form of `OR`) can be satisfied by
/// accepted licences.
fn is_accepted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        part.trim_matches(['(', ')', ' '])
            .split(" OR ")
            .any(|licence| LICENCES.contains(&licence.trim_matches(['(', ')', ' '])))
    })
}

#[test]
fn packages_are_named_after_their_directories() -> anyhow::Result<()> {
    for package in load_metadata()?.workspace_packages() {
        let directory = package
            .manifest_path
            .parent()
            .and_then(|directory| directory.file_name())
            .context("the manifest has no directory")?;
        assert_eq!(package.name.as_str(), format!("sealpost-{directory}"));
    }
    Ok(())
}

#[test]
fn packages_depend_on_lower_layers_only() -> anyhow::Result<()> {
    let metadata = load_metadata()?;
    let mut packages = workspace(&metadata);
    for (name, allowed) in PACKAGES {
        let package = packages
            .remove(name)
            .with_context(|| format!("{name} is not in the workspace"))?;
        for dependency in direct_dependencies(&metadata, &package.id)? {
            let dependency = dependency.name.as_str();
            ensure!(
                !dependency.starts_with("sealpost-") || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
    for (name, package) in packages {
        let is_test = package
            .manifest_path
            .starts_with(metadata.workspace_root.join("tests"));
        ensure!(is_test, "{name} is missing from the table of packages");
    }
    Ok(())
}

#[test]
fn relay_cannot_reach_the_encryption() -> anyhow::Result<()> {
    let metadata = load_metadata()?;
    let relay = workspace(&metadata)["sealpost-relay"];
    let reached = all_dependencies(&metadata, &relay.id)?;
    for forbidden in [
        "sealpost-e2ee",
        "sealpost-node-core",
        "ml-kem",
        "x25519-dalek",
    ] {
        assert!(
            !reached.contains(forbidden),
            "the relay reaches {forbidden}"
        );
    }
    Ok(())
}

#[test]
fn relay_and_node_are_independent() -> anyhow::Result<()> {
    let metadata = load_metadata()?;
    let workspace = workspace(&metadata);
    for (one, other) in [
        ("sealpost-relay", "sealpost-node"),
        ("sealpost-node", "sealpost-relay"),
    ] {
        assert!(!all_dependencies(&metadata, &workspace[one].id)?.contains(other));
    }
    Ok(())
}

#[test]
fn pure_packages_perform_no_io() -> anyhow::Result<()> {
    let metadata = load_metadata()?;
    let workspace = workspace(&metadata);
    for name in PURE {
        let id = &workspace[name].id;
        let reached = all_dependencies(&metadata, id)?;
        let io_crates: Vec<_> = IO_CRATES
            .iter()
            .filter(|name| reached.contains(*name))
            .collect();
        assert!(io_crates.is_empty(), "{name} reaches {io_crates:?}");
        for dependency in direct_dependencies(&metadata, id)? {
            let dependency = dependency.name.as_str();
            assert!(
                !ENTROPY_AND_TIME_CRATES.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
    Ok(())
}

#[test]
fn licences_are_accepted() -> anyhow::Result<()> {
    for package in load_metadata()?.packages {
        let name = package.name.as_str();
        let licence = package
            .license
            .with_context(|| format!("{name} names no licence"))?;
        ensure!(
            is_accepted(&licence) || LICENCE_EXCEPTIONS.contains(&(name, &licence)),
            "the licence of {name} is not accepted: {licence}"
        );
    }
    Ok(())
}

#[test]
fn licence_expressions_are_evaluated() {
    for accepted in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR LGPL-2.1-or-later",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 OR GPL-2.0-only",
    ] {
        assert!(is_accepted(accepted), "{accepted}");
    }
    for refused in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "", "MPL-2.0"] {
        assert!(!is_accepted(refused), "{refused}");
    }
}

#[test]
fn dependencies_come_from_crates_io() -> anyhow::Result<()> {
    for package in load_metadata()?.packages {
        let is_ours = package.source.is_none() && package.name.starts_with("sealpost-");
        let is_released = package
            .source
            .is_some_and(|source| source.repr == CRATES_IO);
        ensure!(
            is_ours || is_released,
            "{} does not come from crates.io",
            package.name
        );
    }
    Ok(())
}

#[test]
fn each_dependency_has_one_version() -> anyhow::Result<()> {
    let metadata = load_metadata()?;
    let graph = metadata.resolve.context("cargo metadata has no graph")?;
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in &graph.nodes {
        if let Some(package) = metadata
            .packages
            .iter()
            .find(|package| package.id == node.id)
        {
            versions
                .entry(package.name.as_str())
                .or_default()
                .insert(package.version.to_string());
        }
    }
    let found: Vec<_> = versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, DUPLICATES, "crates in more than one version");
    Ok(())
}

#[test]
fn deny_toml_has_the_same_policy() {
    for licence in LICENCES {
        assert!(DENY.contains(&format!("\"{licence}\"")), "{licence}");
    }
    for (name, _) in LICENCE_EXCEPTIONS {
        assert!(DENY.contains(&format!("\"{name}\"")), "{name}");
    }
    for name in DUPLICATES {
        assert!(DENY.contains(&format!("\"{name}\"")), "{name}");
    }
}
