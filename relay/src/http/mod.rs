//! API of the relay for nodes, with one file per resource.
//!
//! Every route under `/v1` first goes through [`auth`], which checks the announced length, the
//! signature and the account's rate limit, and reads the body last. Bodies are the types of
//! `proto::wire`; errors are problem documents. Handlers contain no protocol logic: they parse the
//! request, call the store, and build the response.

mod account;
mod accounts;
mod auth;
mod blobs;
mod checkpoint;
mod client_address;
mod deliveries;
mod envelopes;
mod ids;
mod log;
mod mailboxes;
mod openapi;
mod parts;
mod prekeys;
mod public;
mod rate_limits;
mod session;
mod state;

pub(crate) use state::ApiParts;

use crate::{blobs::BlobError, storage::Storage, store::StoreError};
use axum::{Router, middleware::from_fn_with_state, response::Response, routing::any};
use sealpost_proto::{
    ErrorCode, Problem,
    limits::{BUSY_RETRY, MAILBOX_FULL_RETRY, STORAGE_FULL_RETRY},
    time::millis,
};
use sealpost_service::http::{ProblemResponse, with_problems};
use state::ApiState;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Result of a handler.
type ApiResult = Result<Response, ProblemResponse>;

/// Returns the router of the public listener.
pub(crate) fn router(parts: ApiParts) -> Router {
    let metrics = Arc::clone(&parts.activity.metrics);
    let state = ApiState::new(parts);
    // Federation does not exist yet, so its route is not part of the OpenAPI document.
    let routes = Router::from(routes()).route("/v1/at/{host}/{*rest}", any(refuse_foreign));
    with_problems(routes)
        .layer(from_fn_with_state(state.clone(), rate_limits::apply_limits))
        .layer(from_fn_with_state(metrics, log::log))
        .with_state(state)
}

/// Returns all routes of the OpenAPI document.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(accounts::register))
        .routes(routes!(session::sign_in))
        .routes(routes!(account::show, account::change, account::delete))
        .routes(routes!(account::test_webhook))
        .routes(routes!(checkpoint::show, checkpoint::write))
        .routes(routes!(mailboxes::list))
        .routes(routes!(mailboxes::create, mailboxes::delete))
        .routes(routes!(prekeys::publish, prekeys::show))
        .routes(routes!(envelopes::submit))
        .routes(routes!(envelopes::query_statuses))
        .routes(routes!(envelopes::show, envelopes::recall))
        .routes(routes!(deliveries::pull))
        .routes(routes!(deliveries::acknowledge))
        .routes(routes!(blobs::create))
        .routes(routes!(blobs::show, blobs::extend, blobs::delete))
        .routes(routes!(blobs::complete))
        .routes(routes!(parts::upload, parts::download))
        .routes(routes!(public::well_known))
        .routes(routes!(public::invite_page))
        .routes(routes!(public::healthz))
        .routes(routes!(public::readyz))
        .routes(routes!(openapi::describe))
}

/// Refuses requests for mailboxes and blobs of other relays.
async fn refuse_foreign(_: auth::SessionRequest) -> ProblemResponse {
    ErrorCode::ForeignRelayUnsupported.into()
}

/// Returns a retryable problem with its retry delay.
pub(crate) fn retryable_problem(code: ErrorCode) -> ProblemResponse {
    add_retry_delay(code, Problem::from(code))
}

/// Returns a retryable problem with a detail text and its retry delay.
fn retryable_problem_with(code: ErrorCode, detail: impl Into<String>) -> ProblemResponse {
    add_retry_delay(code, Problem::new(code, detail))
}

fn add_retry_delay(code: ErrorCode, problem: Problem) -> ProblemResponse {
    let wait = match code {
        ErrorCode::StorageFull => STORAGE_FULL_RETRY,
        ErrorCode::QuotaExceeded | ErrorCode::MailboxFull | ErrorCode::EarlierEnvelopeRefused => {
            MAILBOX_FULL_RETRY
        }
        _ => BUSY_RETRY,
    };
    problem.retry_after_ms(millis(wait)).into()
}

/// Converts a refusal of the store into a problem, with a retry delay if it is retryable.
fn refusal_problem(code: ErrorCode) -> ProblemResponse {
    if code.is_retryable() {
        retryable_problem(code)
    } else {
        code.into()
    }
}

/// Returns a problem with a detail text.
fn problem(code: ErrorCode, detail: impl Into<String>) -> ProblemResponse {
    Problem::new(code, detail).into()
}

/// Refuses a request that stores something new while the disk has too little free space.
fn require_space(storage: &Storage, bytes: usize) -> Result<(), ProblemResponse> {
    if storage.admit(bytes as u64) {
        Ok(())
    } else {
        Err(retryable_problem(ErrorCode::StorageFull))
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        retryable_problem(match error {
            StoreError::Busy => ErrorCode::Overloaded,
            StoreError::DiskFull => ErrorCode::StorageFull,
            StoreError::Damaged(_) | StoreError::Failed { .. } | StoreError::Closed => {
                ErrorCode::Unavailable
            }
        })
    }
}

impl From<BlobError> for ProblemResponse {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::DiskFull => retryable_problem(ErrorCode::StorageFull),
            BlobError::Missing => ErrorCode::NotFound.into(),
            BlobError::Failed { reason } => {
                tracing::error!(%reason, "the blob store failed");
                retryable_problem(ErrorCode::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::check_hosts, config::Config, serve::open};
    use axum::body::Body;
    use http::{Method, Request, StatusCode};
    use sealpost_service::{Shutdown, SystemClock, http::LocalGuard};
    use std::collections::BTreeSet;
    use tower::ServiceExt as _;

    /// Extracts the paths of a router from its debug output, because axum has no API for it.
    fn paths(router: &Router) -> BTreeSet<String> {
        let shown = format!("{router:?}");
        let routes = shown.split("fallback_router").next().unwrap();
        let quoted = routes.split('"').skip(1).step_by(2);
        quoted
            .filter(|text| text.starts_with('/'))
            .map(str::to_owned)
            .collect()
    }

    async fn status(router: &Router, method: Method, path: &str) -> StatusCode {
        let path = path
            .replace("{id}", "AAAAAAAAAAAAAAAAAAAAAA")
            .replace("{number}", "0")
            .replace("{name}", "acme");
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("host", "127.0.0.1:1")
            .header("authorization", "Bearer token")
            .body(Body::empty());
        router
            .clone()
            .oneshot(request.unwrap())
            .await
            .unwrap()
            .status()
    }

    /// Asserts that the OpenAPI document has exactly the routes and methods of the router, except
    /// for the undocumented paths.
    async fn assert_documented(
        router: &Router,
        described: &utoipa::openapi::OpenApi,
        undocumented: &[&str],
    ) {
        let document = serde_json::to_value(&described.paths).unwrap();
        let mut expected: BTreeSet<_> = document.as_object().unwrap().keys().cloned().collect();
        expected.extend(undocumented.iter().map(|&path| path.to_owned()));
        assert_eq!(paths(router), expected);
        for (path, operations) in document.as_object().unwrap() {
            for method in [
                Method::GET,
                Method::PUT,
                Method::POST,
                Method::PATCH,
                Method::DELETE,
            ] {
                let is_described = operations.get(method.as_str().to_lowercase()).is_some();
                let is_served =
                    status(router, method.clone(), path).await != StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(is_served, is_described, "{method} {path}");
            }
        }
    }

    #[tokio::test]
    async fn openapi_documents_match_the_routers() {
        let directory = crate::data_layout::temporary_data_directory();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: directory.path().to_owned(),
            ..Config::default()
        };
        config.admin.listen = "off".parse().unwrap();
        let parts = open(config, Arc::new(SystemClock), Shutdown::new())
            .await
            .unwrap()
            .parts;
        assert_documented(
            &router(parts.api()),
            &routes().into_openapi(),
            &["/v1/at/{host}/{*rest}"],
        )
        .await;
        let page = [
            "/",
            "/page.css",
            "/page.js",
            "/account.js",
            "/api.js",
            "/chart.js",
            "/elements.js",
            "/format.js",
            "/icon.svg",
            "/metrics",
            "/admin/openapi.json",
        ];
        let guard = LocalGuard::new("token", "127.0.0.1:1".parse().unwrap());
        assert_documented(
            &check_hosts(crate::admin::router(parts.admin(), guard.clone()), guard),
            &crate::admin::routes().into_openapi(),
            &page,
        )
        .await;
    }
}
