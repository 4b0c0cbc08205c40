//! The floors of `docs/ARCHITECTURE.md`, held against `cargo metadata`: what a package may depend on is decided here and
//! nowhere else.

use anyhow::{Context as _, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, NodeDep, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Which package of the house may use which others, in what it ships.
const HOUSE: &[(&str, &[&str])] = &[
    ("sealpost-proto", &[]),
    ("sealpost-e2ee", &["sealpost-proto"]),
    ("sealpost-signatures", &["sealpost-proto"]),
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
            "sealpost-node-core",
            "sealpost-sqlite",
            "sealpost-service",
            "sealpost-egress",
            "sealpost-relay-client",
        ],
    ),
];

/// Floors 0 to 2: they decide, and touch nothing.
const PURE: [&str; 5] = [
    "sealpost-proto",
    "sealpost-e2ee",
    "sealpost-signatures",
    "sealpost-relay-core",
    "sealpost-node-core",
];

/// What awaits, stores, logs or speaks to the network: a pure package reaches none of it, on no way.
const EDGES: [&str; 7] = [
    "tokio",
    "reqwest",
    "hyper",
    "axum",
    "rusqlite",
    "object_store",
    "tracing-subscriber",
];

/// Sources of randomness and time: a pure package does not ask them itself. (Others name them: ring does for keys that it is
/// never asked to make here.)
const SOURCES: [&str; 6] = ["getrandom", "rand", "uuid", "time", "chrono", "fastrand"];

fn metadata() -> anyhow::Result<Metadata> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    Ok(MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(["--locked".to_owned()])
        .exec()?)
}

fn house(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.as_str(), package))
        .collect()
}

fn is_ours(name: &str) -> bool {
    name.starts_with("sealpost-")
}

fn is_normal(dependency: &NodeDep) -> bool {
    dependency
        .dep_kinds
        .iter()
        .any(|kind| kind.kind == DependencyKind::Normal)
}

/// What a package ships directly.
fn direct<'a>(metadata: &'a Metadata, id: &PackageId) -> anyhow::Result<Vec<&'a Package>> {
    let graph = metadata
        .resolve
        .as_ref()
        .context("cargo metadata without a graph")?;
    let node = graph
        .nodes
        .iter()
        .find(|node| node.id == *id)
        .context("a package that is not in the graph")?;
    Ok(node
        .deps
        .iter()
        .filter(|dependency| is_normal(dependency))
        .map(|dependency| &metadata[&dependency.pkg])
        .collect())
}

/// Everything that a package ships, directly or not.
fn everything<'a>(metadata: &'a Metadata, id: &PackageId) -> anyhow::Result<BTreeSet<&'a str>> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![id.clone()]);
    while let Some(id) = todo.pop() {
        for package in direct(metadata, &id)? {
            let name = package.name.as_str();
            if found.insert(name) {
                todo.push(package.id.clone());
            }
        }
    }
    Ok(found)
}

#[test]
fn packages_are_named_after_their_folders() -> anyhow::Result<()> {
    for package in metadata()?.workspace_packages() {
        let folder = package
            .manifest_path
            .parent()
            .and_then(|folder| folder.file_name())
            .context("a folder")?;
        assert_eq!(package.name.as_str(), format!("sealpost-{folder}"));
    }
    Ok(())
}

#[test]
fn every_package_stands_on_the_floors_below_it() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let mut packages = house(&metadata);
    for (name, allowed) in HOUSE {
        let package = packages
            .remove(name)
            .with_context(|| format!("{name} is not in the workspace"))?;
        for dependency in direct(&metadata, &package.id)? {
            let dependency = dependency.name.as_str();
            ensure!(
                !is_ours(dependency) || allowed.contains(&dependency),
                "{name} must not use {dependency}"
            );
        }
    }
    for (name, package) in packages {
        let is_upstairs = package
            .manifest_path
            .starts_with(metadata.workspace_root.join("tests"));
        ensure!(
            is_upstairs,
            "{name} is a package that the house does not know"
        );
    }
    Ok(())
}

#[test]
fn the_relay_has_no_way_to_the_encryption() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let relay = house(&metadata)["sealpost-relay"];
    let everything = everything(&metadata, &relay.id)?;
    assert!(!everything.contains("sealpost-e2ee") && !everything.contains("sealpost-node-core"));
    assert!(
        !everything.contains("ml-kem") && !everything.contains("x25519-dalek"),
        "keys of messages have no place there"
    );
    Ok(())
}

#[test]
fn relay_and_node_share_only_words() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let house = house(&metadata);
    for (one, other) in [
        ("sealpost-relay", "sealpost-node"),
        ("sealpost-node", "sealpost-relay"),
    ] {
        assert!(!everything(&metadata, &house[one].id)?.contains(other));
    }
    Ok(())
}

#[test]
fn what_decides_touches_nothing() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let house = house(&metadata);
    for name in PURE {
        let id = &house[name].id;
        let used = everything(&metadata, id)?;
        let edges: Vec<_> = EDGES.iter().filter(|edge| used.contains(*edge)).collect();
        assert!(edges.is_empty(), "{name} reaches {edges:?}");
        for dependency in direct(&metadata, id)? {
            let dependency = dependency.name.as_str();
            assert!(
                !SOURCES.contains(&dependency),
                "{name} asks {dependency} itself"
            );
        }
    }
    Ok(())
}
