//! The structure that `docs/ARCHITECTURE.md` describes, checked against the packages, the imports
//! and the names.

mod imports;
mod language;
mod packages;
pub(crate) mod sources;
