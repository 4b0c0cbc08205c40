//! The local API: its JSON shapes, errors and handlers (`docs/local-api.md`).

pub mod iso;
pub mod model;
pub mod problem;
pub mod render;
pub mod routes;
