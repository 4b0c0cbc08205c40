//! The structure that `docs/ARCHITECTURE.md` describes, checked against the packages, the imports
//! and the names.

#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/language.rs"]
mod language;
#[path = "architecture/packages.rs"]
mod packages;
#[path = "architecture/sources.rs"]
mod sources;
