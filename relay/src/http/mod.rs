//! The relay's API: a file for each endpoint, with its errors, its handler and what it answers.
//!
//! Every route under `/v1` goes through [`auth`] first, which looks at limits, then at the signature, and reads the body
//! last. Bodies are `proto::wire`, errors are problem documents. Nothing here decides: it parses, asks the store, answers.

mod account;
mod accounts;
mod auth;
mod blobs;
mod checkpoint;
mod deliveries;
mod envelopes;
mod ids;
mod log;
mod mailboxes;
mod openapi;
mod parts;
mod prekeys;
mod public;
mod session;

use crate::{rates, relay::Relay};
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    response::Response,
    routing::any,
};
use sealpost_proto::{
    ErrorCode, Problem,
    limits::{BUSY_RETRY, MAILBOX_FULL_RETRY, STORAGE_FULL_RETRY},
    time::millis,
};
use sealpost_service::http::{ProblemResponse, with_problems};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What a handler answers.
type Answer = Result<Response, ProblemResponse>;

/// All routes of the relay.
pub(crate) fn router(relay: Arc<Relay>) -> Router {
    // What does not exist yet is not described.
    let routes = Router::from(routes()).route("/v1/at/{host}/{*rest}", any(foreign));
    with_problems(routes)
        .layer(from_fn(rates::say))
        .layer(from_fn_with_state(Arc::clone(&relay), log::log))
        .with_state(relay)
}

/// All routes that are described.
fn routes() -> OpenApiRouter<Arc<Relay>> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(accounts::register))
        .routes(routes!(session::sign_in))
        .routes(routes!(account::show, account::change, account::leave))
        .routes(routes!(account::test_webhook))
        .routes(routes!(checkpoint::show, checkpoint::write))
        .routes(routes!(mailboxes::list))
        .routes(routes!(mailboxes::open, mailboxes::close))
        .routes(routes!(prekeys::publish, prekeys::show))
        .routes(routes!(envelopes::submit))
        .routes(routes!(envelopes::statuses))
        .routes(routes!(envelopes::status, envelopes::recall))
        .routes(routes!(deliveries::pull))
        .routes(routes!(deliveries::acknowledge))
        .routes(routes!(blobs::create))
        .routes(routes!(blobs::show, blobs::extend, blobs::remove))
        .routes(routes!(blobs::complete))
        .routes(routes!(parts::upload, parts::download))
        .routes(routes!(public::well_known))
        .routes(routes!(public::invite_page))
        .routes(routes!(public::healthz))
        .routes(routes!(public::readyz))
        .routes(routes!(openapi::describe))
}

/// Mailboxes and blobs of other relays.
async fn foreign(_: auth::BySession) -> ProblemResponse {
    ErrorCode::ForeignRelayUnsupported.into()
}

/// A problem that passes, with the time after which another try makes sense.
pub(crate) fn passing_problem(code: ErrorCode) -> ProblemResponse {
    passing(code, Problem::from(code))
}

/// A problem that passes, in words.
fn passing_problem_with(code: ErrorCode, detail: impl Into<String>) -> ProblemResponse {
    passing(code, Problem::new(code, detail))
}

fn passing(code: ErrorCode, problem: Problem) -> ProblemResponse {
    let wait = match code {
        ErrorCode::StorageFull => STORAGE_FULL_RETRY,
        ErrorCode::QuotaExceeded | ErrorCode::MailboxFull | ErrorCode::AfterRefused => {
            MAILBOX_FULL_RETRY
        }
        _ => BUSY_RETRY,
    };
    problem.retry_after_ms(millis(wait)).into()
}

/// A code as the answer: with a time when it passes.
fn refusal(code: ErrorCode) -> ProblemResponse {
    if code.is_retryable() {
        passing_problem(code)
    } else {
        code.into()
    }
}

/// A problem in words.
fn problem(code: ErrorCode, detail: impl Into<String>) -> ProblemResponse {
    Problem::new(code, detail).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, serve::open};
    use axum::body::Body;
    use http::{Method, Request, StatusCode};
    use sealpost_service::{Shutdown, SystemClock, http::LocalGuard};
    use std::collections::BTreeSet;
    use tower::ServiceExt as _;

    /// The paths of a router: they stand in what it shows for debugging, and nowhere else.
    fn paths(router: &Router) -> BTreeSet<String> {
        let shown = format!("{router:?}");
        let routes = shown.split("fallback_router").next().unwrap();
        let quoted = routes.split('"').skip(1).step_by(2);
        quoted
            .filter(|text| text.starts_with('/'))
            .map(str::to_owned)
            .collect()
    }

    async fn answered(router: &Router, method: Method, path: &str) -> StatusCode {
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

    /// Every route is described with all its methods, and what is described is a route.
    async fn compare(router: &Router, described: &utoipa::openapi::OpenApi, others: &[&str]) {
        let document = serde_json::to_value(&described.paths).unwrap();
        let mut expected: BTreeSet<_> = document.as_object().unwrap().keys().cloned().collect();
        expected.extend(others.iter().map(|&path| path.to_owned()));
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
                    answered(router, method.clone(), path).await != StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(is_served, is_described, "{method} {path}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_served_is_described_and_what_is_described_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: folder.path().to_owned(),
            ..Config::default()
        };
        config.admin.listen = "off".parse().unwrap();
        let relay = open(config, Arc::new(SystemClock), Shutdown::new())
            .await
            .unwrap()
            .relay;
        compare(
            &router(Arc::clone(&relay)),
            &routes().into_openapi(),
            &["/v1/at/{host}/{*rest}"],
        )
        .await;
        let page = [
            "/",
            "/page.css",
            "/page.js",
            "/chart.js",
            "/icon.svg",
            "/metrics",
            "/admin/openapi.json",
        ];
        let guard = LocalGuard::new("token", "127.0.0.1:1".parse().unwrap());
        compare(
            &crate::admin::router(relay, guard),
            &crate::admin::routes().into_openapi(),
            &page,
        )
        .await;
    }
}
