//! The local API: its JSON shapes, errors and handlers (`docs/local-api.md`).

pub mod iso;
pub mod model;
pub mod problem;
mod render;
pub(crate) mod routes;
mod state;
