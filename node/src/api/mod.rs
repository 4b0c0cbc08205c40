//! The HTTP interfaces of the node: the local API with its JSON shapes, errors and handlers
//! (`docs/local-api.md`), and the webhook that the relay calls.

pub mod iso;
pub mod model;
pub mod problem;
mod render;
mod routes;
mod state;
mod webhook;

use crate::daemon::Routers;

/// Routers that the daemon serves.
pub(crate) const ROUTERS: Routers = Routers {
    local_api: routes::routers,
    webhook: webhook::router,
};
