//! `/v1/messages`

use super::{ApiResult, Body, Params, page_items, page_with_cursors, parse_id};
use crate::{
    api::{
        model::{
            Deadline, Direction, Message, MessagesQuery, Order, Page, ReadMessage, SendMessage,
        },
        problem::{Problem, ProblemCode},
        render,
    },
    conversation,
    daemon::{Database, RunInfo},
    fault::Fault,
    identity::NodeIdentity,
    outbox::{self, OutgoingMessage},
    store::{
        Tx, attachments, connections, deliveries, files, messages, postings,
        requests::{self, StoredRequest},
    },
};
use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use http::StatusCode;
use sealpost_node_core::model::{
    AttachmentId, ChatId, ContentType, DisplayPosition, MessageId, MessageRowId, RefusalCode,
    SenderPosition, UserId,
};
use sealpost_node_core::text::{MessageText, TextRefusal};
use sealpost_proto::limits;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// `GET /v1/messages`
pub(super) async fn list(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Params(query): Params<MessagesQuery>,
) -> ApiResult<Json<Page<Message>>> {
    let mut filter = postings::Filter {
        chat: query.chat.map(|chat| parse_id("chat", &chat)).transpose()?,
        direction: query.direction,
        unread: query.unread.unwrap_or(false),
        is_descending: query.order == Some(Order::Desc),
        limit: page_items(query.limit) + 1,
        ..postings::Filter::default()
    };
    if let Some(cursor) = &query.after {
        continue_at(&mut filter, cursor)?;
    }
    let page = database
        .read(move |tx| load_page(tx, &filter, &identity.name))
        .await?;
    Ok(Json(page))
}

/// Loads a page. The filter's limit is one more than the number of items on the page.
fn load_page(
    tx: &Tx<'_>,
    filter: &postings::Filter,
    own_name: &str,
) -> Result<Page<Message>, Fault> {
    let rows = postings::load_page(tx, filter)?;
    let items = rows.iter().map(|row| {
        let cursor = format_cursor(row, filter.chat.is_some());
        Ok((cursor, load_view(tx, row, own_name)?))
    });
    page_with_cursors(items, filter.limit - 1)
}

/// `GET /v1/messages/{id}`
pub(super) async fn show(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Message>> {
    Ok(Json(
        database
            .read(move |tx| load_with_html(tx, parse_id("message", &id)?, &identity.name))
            .await?,
    ))
}

/// Builds the cursor of the list after a posting: where its chat shows it, or when it arrived in a
/// list of all chats.
fn format_cursor(row: &postings::Posting, is_chat: bool) -> String {
    if is_chat {
        let DisplayPosition {
            sort,
            sender,
            number,
        } = row.position;
        format!("{sort}:{}:{}:{number}", sender.life, sender.seq)
    } else {
        format!("{}:{}", row.message.key.as_i64(), row.id.chat)
    }
}

/// Makes a list continue at a cursor.
fn continue_at(filter: &mut postings::Filter, cursor: &str) -> ApiResult<()> {
    let parts: Vec<_> = cursor.split(':').collect();
    match *parts.as_slice() {
        [sort, life, seq, number] if filter.chat.is_some() => {
            filter.after_shown = parse_position([sort, life, seq, number]);
        }
        [message, chat] if filter.chat.is_none() => filter.after = parse_arrival(message, chat),
        _ => {}
    }
    if filter.after.is_none() && filter.after_shown.is_none() {
        return Err(Problem::new(ProblemCode::Malformed, "the cursor is invalid").into());
    }
    Ok(())
}

fn parse_position(parts: [&str; 4]) -> Option<DisplayPosition> {
    let [sort, life, seq, number] = parts.map(str::parse);
    let sender = SenderPosition {
        life: life.ok()?,
        seq: seq.ok()?,
    };
    Some(DisplayPosition {
        sort: sort.ok()?,
        sender,
        number: number.ok()?,
    })
}

fn parse_arrival(message: &str, chat: &str) -> Option<postings::Cursor> {
    Some(postings::Cursor {
        message: MessageRowId::from_i64(message.parse().ok()?),
        chat: ChatId::parse(chat).ok()?,
    })
}

/// Loads a message as lists and events show it.
///
/// # Errors
/// Refuses with `not_found`.
pub(super) fn load(tx: &Tx<'_>, id: MessageId, own_name: &str) -> Result<Message, Fault> {
    load_view(tx, &find_posting(tx, id)?, own_name)
}

/// Loads a message with its HTML. Lists do without: the HTML can be longer than the text.
fn load_with_html(tx: &Tx<'_>, id: MessageId, own_name: &str) -> Result<Message, Fault> {
    let posting = find_posting(tx, id)?;
    Ok(Message {
        content_html: Some(messages::load_html(tx, &posting.message)?),
        ..load_view(tx, &posting, own_name)?
    })
}

fn find_posting(tx: &Tx<'_>, id: MessageId) -> Result<postings::Posting, Fault> {
    postings::load(tx, id)?.ok_or_else(|| Fault::not_found("message", id))
}

fn load_view(tx: &Tx<'_>, posting: &postings::Posting, own_name: &str) -> Result<Message, Fault> {
    let key = posting.message.key;
    let files = attachments::load_for_message(tx, key)?;
    let deliveries = match posting.direction {
        Direction::Out => deliveries::load_for_message(tx, key)?,
        Direction::In => Vec::new(),
    };
    Ok(render::message(posting, &files, &deliveries, own_name))
}

/// `POST /v1/messages/{id}/read`: marks a message as read, with those that its chat shows above it.
pub(super) async fn mark_read(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<ReadMessage>> {
    let read = database
        .write(move |tx| {
            let id = parse_id("message", &id)?;
            let read_count = conversation::mark_read(tx, UserId::FIRST, id)?;
            Ok(ReadMessage {
                message: load_with_html(tx, id, &identity.name)?,
                read_count,
            })
        })
        .await?;
    Ok(Json(read))
}

/// `POST /v1/messages`: responds once the message is on disk.
pub(super) async fn send(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    State(run_info): State<Arc<RunInfo>>,
    Body(send): Body<SendMessage>,
) -> ApiResult<impl IntoResponse> {
    validate(&send)?;
    let files_bytes_max = run_info.message_files_bytes_max;
    let items = database
        .write(move |tx| {
            let sent = send_once(tx, &identity, &send, files_bytes_max)?;
            sent.iter()
                .map(|id| load(tx, *id, &identity.name))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    Ok((StatusCode::CREATED, Json(Page { items, next: None })))
}

fn validate(send: &SendMessage) -> ApiResult<()> {
    if send.attachments.len() > limits::FILES_PER_MESSAGE_MAX {
        let detail = format!(
            "{} files, the limit is {}",
            send.attachments.len(),
            limits::FILES_PER_MESSAGE_MAX
        );
        return Err(Problem::new(ProblemCode::TooManyFiles, detail).into());
    }
    if send.client_id.as_ref().is_some_and(String::is_empty) {
        return Err(Problem::new(ProblemCode::Malformed, "the client id is empty").into());
    }
    if send.to.is_empty() {
        return Err(Problem::new(ProblemCode::Malformed, "a message needs a recipient").into());
    }
    if send.to.len() > limits::RECIPIENTS_PER_MESSAGE_MAX {
        let detail = format!(
            "{} recipients, the limit is {}",
            send.to.len(),
            limits::RECIPIENTS_PER_MESSAGE_MAX
        );
        return Err(Problem::new(ProblemCode::TooManyRecipients, detail).into());
    }
    MessageText::parse(send.content.clone(), !send.attachments.is_empty()).map_err(|refusal| {
        let code = match refusal {
            TextRefusal::Empty => ProblemCode::TextEmpty,
            TextRefusal::TooLong { .. } => ProblemCode::TextTooLong,
        };
        Problem::new(code, refusal.to_string())
    })?;
    Ok(())
}

/// Sends a message and returns its ids. If the same request has run before, returns the ids of the
/// message that it sent.
fn send_once(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    send: &SendMessage,
    files_bytes_max: u64,
) -> Result<Vec<MessageId>, Fault> {
    if let Some(sent) = find_sent(tx, send)? {
        return Ok(sent);
    }
    let sent = outbox::send(
        tx,
        identity,
        &to_outgoing_message(tx, send)?,
        files_bytes_max,
    )?;
    store_request(tx, send, &sent)?;
    Ok(sent)
}

fn to_outgoing_message(tx: &Tx<'_>, send: &SendMessage) -> Result<OutgoingMessage, Fault> {
    let mut to = Vec::with_capacity(send.to.len());
    for recipient in &send.to {
        let id = connections::resolve(tx, recipient)?;
        if !to.contains(&id) {
            to.push(id);
        }
    }
    let reply_to = send.reply_to.as_deref();
    let resolve = |deadline: &Option<Deadline>| Some(deadline.as_ref()?.resolve(tx.relay_now));
    Ok(OutgoingMessage {
        to,
        content: send.content.clone(),
        content_type: send.content_type.unwrap_or(ContentType::Markdown),
        attachments: parse_attachments(send)?,
        reply_to: reply_to.map(|id| parse_id("message", id)).transpose()?,
        action_required: send.action_required,
        deliver_by: resolve(&send.deliver_by),
        read_by: resolve(&send.read_by),
    })
}

fn parse_attachments(send: &SendMessage) -> Result<Vec<AttachmentId>, Fault> {
    let ids = send.attachments.iter();
    ids.map(|id| parse_id("file", id)).collect()
}

/// Returns the digest by which a repeated request is recognised. A client that repeats a request may
/// have staged its files again, so their names and contents count and not their ids.
///
/// # Errors
/// Refuses with `not_found` if a file is unknown.
fn request_digest(tx: &Tx<'_>, send: &SendMessage) -> Result<[u8; 32], Fault> {
    let mut files = Vec::with_capacity(send.attachments.len());
    for id in parse_attachments(send)? {
        let file = outbox::load_outgoing_file(tx, id)?;
        let content = files::load_content_digest(tx, file.id)?;
        files.push((file.descriptor.name, content));
    }
    let request = SendMessage {
        attachments: Vec::new(),
        ..send.clone()
    };
    let json = serde_json::to_vec(&(request, files));
    let json = json.map_err(|error| Fault::failed(error.to_string()))?;
    Ok(Sha256::digest(json).into())
}

/// Returns the ids of the message that the same request has sent before.
fn find_sent(tx: &Tx<'_>, send: &SendMessage) -> Result<Option<Vec<MessageId>>, Fault> {
    let Some(client_id) = &send.client_id else {
        return Ok(None);
    };
    let Some(stored) = requests::load(tx, client_id)? else {
        return Ok(None);
    };
    if stored.digest != request_digest(tx, send)? {
        let detail = "another message was sent with this client id";
        let next = "use a new client id for another message";
        return Err(Fault::refused_with_next(
            RefusalCode::Conflict,
            detail,
            next,
        ));
    }
    Ok(Some(stored.sent))
}

fn store_request(tx: &Tx<'_>, send: &SendMessage, sent: &[MessageId]) -> Result<(), Fault> {
    let Some(client_id) = &send.client_id else {
        return Ok(());
    };
    let request = StoredRequest {
        digest: request_digest(tx, send)?,
        sent: sent.to_vec(),
    };
    requests::insert(tx, client_id, &request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connected_pair, settle};
    use sealpost_node_core::model::ConnectionId;
    use std::time::Duration;

    fn request(to: ConnectionId, content: &str, client_id: Option<&str>) -> SendMessage {
        SendMessage {
            to: vec![to.to_string()],
            content: content.to_owned(),
            client_id: client_id.map(str::to_owned),
            ..SendMessage::default()
        }
    }

    #[test]
    fn client_id_is_idempotent_for_one_request_only() {
        let mut pair = connected_pair(600);
        let mut send = |request: SendMessage| {
            pair.acme.commit(|tx, identity| {
                send_once(tx, identity, &request, limits::MESSAGE_FILES_BYTES_MAX)
            })
        };
        let once = send(request(pair.to_bolt, "hello", Some("one"))).unwrap();
        assert_eq!(
            send(request(pair.to_bolt, "hello", Some("one"))).unwrap(),
            once
        );
        let refused = send(request(pair.to_bolt, "something else", Some("one")));
        assert!(
            matches!(refused, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict)
        );
        assert_ne!(
            send(request(pair.to_bolt, "hello", Some("two"))).unwrap(),
            once
        );
        assert_ne!(send(request(pair.to_bolt, "hello", None)).unwrap(), once);
        assert_eq!(pair.acme.query_number("SELECT count(*) FROM messages"), 3);
    }

    #[test]
    fn repeated_request_may_stage_its_files_again() {
        let mut pair = connected_pair(605);
        let mut send = |name: &str, bytes: u64, deadline: &str| {
            let file = pair.acme.stage_with(bytes, name, "", None);
            let attachment = pair.acme.file(file).attachment;
            let request = SendMessage {
                attachments: vec![attachment.to_string()],
                deliver_by: Some(deadline.parse().unwrap()),
                ..request(pair.to_bolt, "hello", Some("one"))
            };
            pair.acme.advance(Duration::from_secs(1));
            pair.acme.commit(|tx, identity| {
                send_once(tx, identity, &request, limits::MESSAGE_FILES_BYTES_MAX)
            })
        };
        let first = send("a.pdf", 100, "2h").unwrap();
        assert_eq!(send("a.pdf", 100, "2h").unwrap(), first);
        for (name, bytes, deadline) in [
            ("b.pdf", 100, "2h"),
            ("a.pdf", 101, "2h"),
            ("a.pdf", 100, "3h"),
        ] {
            let refused = send(name, bytes, deadline);
            assert!(
                matches!(refused, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict),
                "{name} {bytes} {deadline}"
            );
        }
        assert_eq!(pair.acme.query_number("SELECT count(*) FROM messages"), 1);
    }

    #[test]
    fn long_messages_end_a_page_early() {
        let mut pair = connected_pair(609);
        let text = "x".repeat(limits::MESSAGE_TEXT_BYTES_MAX);
        let count = limits::PAGE_BYTES_MAX / text.len() + 3;
        let ids: Vec<_> = (0..count)
            .map(|_| pair.acme.send(pair.to_bolt, &text).to_string())
            .collect();
        for chat in [None, Some(pair.acme.connection(pair.to_bolt).chat.unwrap())] {
            let mut filter = postings::Filter {
                chat,
                limit: 501,
                ..postings::Filter::default()
            };
            let mut listed = Vec::new();
            loop {
                let page = pair.acme.step(|tx, _| load_page(tx, &filter, "Acme"));
                let bytes = serde_json::to_vec(&page).unwrap().len();
                assert!(bytes < limits::PAGE_BYTES_MAX + 1_000, "{bytes}");
                listed.extend(page.items.into_iter().map(|message| message.id));
                let Some(next) = page.next else { break };
                assert!(continue_at(&mut filter, &next).is_ok(), "{next}");
            }
            assert_eq!(listed, ids);
        }
    }

    #[test]
    fn empty_client_id_is_refused() {
        let pair = connected_pair(607);
        let to = pair.to_bolt;
        assert!(validate(&request(to, "hello", Some(""))).is_err());
        assert!(validate(&request(to, "hello", Some("1"))).is_ok());
    }

    #[test]
    fn unknown_recipient_refuses_the_whole_request() {
        let mut pair = connected_pair(610);
        let mut two = request(pair.to_bolt, "hello", Some("one"));
        two.to.push("nobody".to_owned());
        let refused = pair
            .acme
            .commit(|tx, identity| send_once(tx, identity, &two, limits::MESSAGE_FILES_BYTES_MAX));
        assert!(
            matches!(refused, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::NotFound)
        );
        assert_eq!(pair.acme.query_number("SELECT count(*) FROM messages"), 0);
    }

    #[test]
    fn html_is_stored_for_single_messages() {
        let mut pair = connected_pair(620);
        let send = SendMessage {
            content_type: Some(ContentType::Plain),
            ..request(pair.to_bolt, "**<b>**", None)
        };
        let html = "<p>**&lt;b&gt;**</p>\n";
        let id = pair
            .acme
            .step(|tx, identity| send_once(tx, identity, &send, limits::MESSAGE_FILES_BYTES_MAX))
            [0];
        let listed = pair.acme.step(|tx, _| load(tx, id, "Acme"));
        assert_eq!(listed.content_html, None);
        let shown = pair.acme.step(|tx, _| load_with_html(tx, id, "Acme"));
        assert_eq!(shown.content_html.as_deref(), Some(html));
        settle(&mut pair.acme, &mut pair.bolt);
        let received = pair.bolt.received().remove(0);
        assert_eq!(received.message.content_type, ContentType::Plain);
        let stored = pair
            .bolt
            .step(|tx, _| messages::load_html(tx, &received.message));
        assert_eq!(stored, html);
    }
}
