//! Fake daemon that serves scripted responses for the part of the local API that the CLI uses.

use crate::daemon::{SOCKET_FILE, TOKEN_FILE};
use crate::{
    api::{
        model::{
            Attachment, AttachmentListItem, AttachmentStatus, Delivery, Message, MessagesQuery,
            Node, Page, SendMessage, StageQuery,
        },
        problem::{Problem, ProblemCode},
    },
    cli::{
        args::{Cli, Command},
        client::Client,
        console::{Console, Format},
        error::CliError,
        run_api_command,
    },
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Parser as _;
use sealpost_node_core::content::TextStyle;
use sealpost_proto::Timestamp;
use sealpost_service::ManualClock;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// 2026-11-20T14:05:00Z
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_183_500_000);
const TOKEN: &str = "token";

/// Responses of the fake daemon, and a record of the requests it received.
#[derive(Default)]
pub(super) struct Script {
    pub(super) connections: Vec<Value>,
    pub(super) messages: Vec<Message>,
    /// Number of messages at which a page ends early.
    pub(super) page_items: Option<usize>,
    pub(super) node: Option<Node>,
    pub(super) safety: Value,
    pub(super) content: Vec<u8>,
    pub(super) files: Vec<Attachment>,
    pub(super) listed: Vec<AttachmentListItem>,
    /// Content of the event stream.
    pub(super) events: String,
    /// Whether the event stream ends after its content, and fails after a send.
    pub(super) loses_events_after_send: bool,
    /// A file that the daemon overwrites while it receives an upload.
    pub(super) overwritten_on_upload: Option<PathBuf>,
    /// Error response to every send.
    pub(super) send_error: Option<ProblemCode>,
    pub(super) staged: Vec<(String, usize)>,
    pub(super) deleted: Vec<String>,
    pub(super) sent: Vec<SendMessage>,
    pub(super) requests: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<Script>>;

/// Fake daemon and its data directory.
pub(super) struct FakeDaemon {
    pub(super) data: TempDir,
    pub(super) script: Shared,
}

impl FakeDaemon {
    pub(super) async fn start(script: Script) -> Self {
        let data = tempfile::tempdir().unwrap();
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::UnixListener::bind(data.path().join(SOCKET_FILE)).unwrap();
        std::fs::write(data.path().join(TOKEN_FILE), TOKEN).unwrap();
        let app = router(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { data, script }
    }

    /// Runs a command on a terminal with 80 columns.
    pub(super) async fn run(&self, line: &[&str]) -> (String, Result<(), CliError>) {
        self.run_with_width(line, 80).await
    }

    pub(super) async fn run_with_width(
        &self,
        line: &[&str],
        width: u16,
    ) -> (String, Result<(), CliError>) {
        let cli = Cli::try_parse_from([&["sealpost"], line].concat()).unwrap();
        let Command::Api(command) = cli.command else {
            panic!("no API command: {line:?}")
        };
        let (mut console, out) = console(if cli.json { Format::Json } else { Format::Text }, width);
        let client = Client::open(self.data.path()).unwrap();
        let outcome = run_api_command(command, &client, &mut console).await;
        (out.text(), outcome)
    }

    /// Runs a command that must succeed, and returns its output.
    pub(super) async fn output(&self, line: &[&str]) -> String {
        let (text, outcome) = self.run(line).await;
        outcome.unwrap();
        text
    }

    pub(super) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

/// Captured output.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn console(format: Format, width: u16) -> (Console, Output) {
    let out = Output::default();
    let clock = Arc::new(ManualClock::new(NOW));
    (
        Console::new(
            Box::new(out.clone()),
            format,
            TextStyle::Plain,
            Some(width),
            clock,
        ),
        out,
    )
}

fn router(script: Shared) -> Router {
    Router::new()
        .route(
            "/v1/node",
            get(|State(script): State<Shared>| async move { Json(known_node(&script)) })
        )
        .route(
            "/v1/invites",
            get(|| async { Json(json!({"items": [invite()]})) }).post(|| async { Json(invite()) })
        )
        .route(
            "/v1/connections",
            get(connections).post(|State(script): State<Shared>| first_connection(script))
        )
        .route(
            "/v1/connections/{id}/safety-number",
            get(|State(script): State<Shared>| async move {
                Json(script.lock().unwrap().safety.clone())
            }),
        )
        .route(
            "/v1/connections/{id}/{verb}",
            post(|State(script): State<Shared>| first_connection(script))
        )
        .route("/v1/messages", get(messages).post(send))
        .route("/v1/messages/{id}", get(message))
        .route("/v1/messages/{id}/read", post(message))
        .route("/v1/attachments", get(listed).post(stage))
        .route("/v1/attachments/{id}", get(file).delete(drop_staged))
        .route("/v1/attachments/{id}/cancel", post(file))
        .route("/v1/attachments/{id}/download", post(file))
        .route(
            "/v1/attachments/{id}/content",
            get(|State(script): State<Shared>| async move {
                script.lock().unwrap().content.clone()
            }),
        )
        .route("/v1/events", get(events))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(script.clone(), record_request))
        .with_state(script)
}

async fn record_request(State(script): State<Shared>, request: Request, next: Next) -> Response {
    let authorization = request
        .headers()
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    if authorization != Some(format!("Bearer {TOKEN}")) {
        return Problem::from(ProblemCode::Unauthorized).into_response();
    }
    script
        .lock()
        .unwrap()
        .requests
        .push(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

fn known_node(script: &Shared) -> Node {
    script
        .lock()
        .unwrap()
        .node
        .clone()
        .unwrap_or_else(|| node("connected", 0))
}

fn invite() -> Value {
    json!({
        "id": "INV-1111-2222-3333", "kind": "single", "url": "https://relay.example/i#secret",
        "status": "open",
        "autoAccept": false, "expiresAt": "2026-11-27T14:05:00.000Z",
        "createdAt": "2026-11-20T14:03:00.000Z"
    })
}

async fn connections(State(script): State<Shared>) -> Json<Value> {
    Json(json!({"items": script.lock().unwrap().connections}))
}

async fn first_connection(script: Shared) -> Json<Value> {
    Json(script.lock().unwrap().connections[0].clone())
}

/// The cursor of a page is the number of items before it.
async fn messages(
    State(script): State<Shared>,
    Query(query): Query<MessagesQuery>,
) -> Json<Page<Message>> {
    let script = script.lock().unwrap();
    let start = query.after.map_or(0, |after| after.parse().unwrap());
    let limit = query.limit.unwrap() as usize;
    let end = start + limit.min(script.page_items.unwrap_or(limit));
    let items: Vec<_> = script
        .messages
        .iter()
        .take(end)
        .skip(start)
        .cloned()
        .collect();
    let next = (end < script.messages.len()).then(|| end.to_string());
    Json(Page { items, next })
}

async fn message(
    State(script): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Message>, Problem> {
    let script = script.lock().unwrap();
    let found = script.messages.iter().find(|message| message.id == id);
    found
        .cloned()
        .map(Json)
        .ok_or_else(|| Problem::new(ProblemCode::NotFound, format!("there is no message {id}")))
}

async fn stage(
    State(script): State<Shared>,
    Query(query): Query<StageQuery>,
    body: Bytes,
) -> Json<Attachment> {
    let mut script = script.lock().unwrap();
    script.staged.push((query.filename.clone(), body.len()));
    if let Some(path) = &script.overwritten_on_upload {
        std::fs::write(path, "something else").unwrap();
    }
    let id = format!("ATC-{}", script.staged.len());
    Json(attachment(
        &id,
        &query.filename,
        body.len() as u64,
        AttachmentStatus::Staged,
    ))
}

async fn listed(State(script): State<Shared>) -> Json<Page<AttachmentListItem>> {
    Json(Page {
        items: script.lock().unwrap().listed.clone(),
        next: None,
    })
}

async fn file(State(script): State<Shared>) -> Json<Attachment> {
    Json(script.lock().unwrap().files[0].clone())
}

async fn drop_staged(State(script): State<Shared>, Path(id): Path<String>) {
    script.lock().unwrap().deleted.push(id);
}

async fn send(
    State(script): State<Shared>,
    Json(request): Json<SendMessage>,
) -> Result<Json<Page<Message>>, Problem> {
    let mut script = script.lock().unwrap();
    if let Some(code) = script.send_error {
        return Err(code.into());
    }
    let items = request
        .to
        .iter()
        .zip(1..)
        .map(|(name, number)| outgoing(number, name, &request.content))
        .collect();
    script.sent.push(request);
    Ok(Json(Page { items, next: None }))
}

async fn events(State(script): State<Shared>) -> Response {
    let (events, is_finite, is_lost) = {
        let script = script.lock().unwrap();
        let is_finite = script.loses_events_after_send;
        let is_lost = is_finite && !script.sent.is_empty();
        (script.events.clone(), is_finite, is_lost)
    };
    assert!(!is_lost, "closes the connection without a response");
    let first = futures_util::stream::iter([Ok::<_, io::Error>(events)]);
    let body = if is_finite {
        Body::from_stream(first)
    } else {
        let rest = futures_util::stream::pending();
        Body::from_stream(futures_util::StreamExt::chain(first, rest))
    };
    ([("content-type", "text/event-stream")], body).into_response()
}

pub(super) fn attachment(id: &str, name: &str, size: u64, status: AttachmentStatus) -> Attachment {
    let id = id.to_owned();
    let (filename, safe_name) = (
        name.to_owned(),
        sealpost_node_core::filename::safe_name(name),
    );
    let direction = crate::api::model::Direction::In;
    let content_type = "application/pdf".to_owned();
    let dangers = Vec::new();
    Attachment {
        id,
        direction,
        filename,
        safe_name,
        content_type,
        claimed_type: None,
        dangers,
        has_preview: false,
        size,
        status,
        transferred: size,
        reason: None,
    }
}

pub(super) fn delivery(message: &str, contact: &str, status: &str) -> Delivery {
    serde_json::from_value(json!({
        "message": message, "connection": "CON-1111-2222-3333", "contact": contact,
        "status": status, "healing": false,
        "attempts": 0, "pendingAt": "2026-11-20T14:03:00.000Z"
    }))
    .unwrap()
}

pub(super) fn delivery_event(id: u64, delivery: &Delivery) -> String {
    format!(
        "id: {id}\nevent: delivery\ndata: {}\n\n",
        serde_json::to_string(delivery).unwrap()
    )
}

pub(super) fn outgoing(number: u32, contact: &str, content: &str) -> Message {
    let mut message = incoming(number, contact, content);
    message.direction = crate::api::model::Direction::Out;
    message.deliveries = vec![delivery(&message.id, contact, "pending")];
    message
}

pub(super) fn incoming(number: u32, contact: &str, content: &str) -> Message {
    serde_json::from_value(json!({
        "id": format!("CMG-1111-2222-3333-{number:05}"), "uuid": "u", "chat": "CHT-1111-2222-3333",
        "direction": "in",
        "sender": {"name": contact, "contact": contact}, "content": content,
        "contentType": "text/markdown",
        "contentHtml": "", "visibility": "public", "isDeleted": false, "attachments": [],
        "actionRequired": false,
        "isRead": false, "sentAt": "2026-11-20T14:02:00.000Z",
        "receivedAt": "2026-11-20T14:03:00.000Z", "deliveries": [],
        "revision": 1,
        "audit": {
            "created": {"at": "2026-11-20T14:03:00.000Z", "by": null},
            "updated": {"at": "2026-11-20T14:03:00.000Z", "by": null}
        }
    }))
    .unwrap()
}

pub(super) fn connection(id: &str, contact: &str, status: &str, direction: &str) -> Value {
    json!({
        "id": id, "contact": contact, "note": "", "status": status, "direction": direction,
        "fingerprint": "ab",
        "verified": false, "health": {"state": "ok", "lastContactAt": "2026-11-20T13:05:00.000Z"},
        "relay": "https://relay.example", "createdAt": "2026-11-20T12:00:00.000Z",
        "updatedAt": "2026-11-20T13:00:00.000Z"
    })
}

pub(super) fn node(state: &str, offset_ms: i64) -> Node {
    serde_json::from_value(json!({
        "name": "Acme", "fingerprint": "0123abcd", "version": "0.1.0",
        "relay": {"origin": "https://relay.example", "state": state, "clockOffsetMs": offset_ms},
        "deliveryMode": "pull", "address": "127.0.0.1:4680", "dataDirectory": "/srv/acme",
        "pendingCount": 1, "unreadCount": 2
    }))
    .unwrap()
}
