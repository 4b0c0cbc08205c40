//! The local API: its shapes and errors, and the handlers that answer them (`docs/local-api.md`).

pub mod iso;
pub mod model;
pub mod problem;
pub mod render;
pub mod routes;
