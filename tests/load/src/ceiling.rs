//! The ceiling: a bare store-and-forward program. It takes a POST, writes it down durably (SQLite, write-ahead log, one
//! fsync for whatever has arrived since the last one), answers 200 and pushes it to the receiver. No authentication, no
//! retries, no limits: what is above it no relay on this machine with this store and these libraries can reach.

use crate::connection;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rusqlite::{Connection, params};
use std::{
    path::Path,
    sync::{Arc, mpsc as std_mpsc},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
};

/// Pushes at a time.
const PUSHES: usize = 64;

enum Order {
    Keep {
        body: Bytes,
        kept: oneshot::Sender<i64>,
    },
    Drop(i64),
}

struct Push {
    id: i64,
    body: Bytes,
}

type Orders = std_mpsc::Sender<Order>;

/// Serves until the process ends. What is kept stands in `folder`, and is pushed to the URL `target`.
///
/// # Errors
/// When the database or the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    folder: &Path,
    target: &str,
) -> anyhow::Result<()> {
    let (orders, arrived) = std_mpsc::channel();
    let database = open(folder)?;
    std::thread::Builder::new().spawn(move || write(database, &arrived))?;
    let (pushes, waiting) = mpsc::unbounded_channel();
    let waiting = Arc::new(Mutex::new(waiting));
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(256)
        .build_http();
    for _ in 0..PUSHES {
        tokio::spawn(push(
            client.clone(),
            target.to_owned(),
            Arc::clone(&waiting),
            orders.clone(),
        ));
    }
    connection::serve(listener, move |request| {
        let (orders, pushes) = (orders.clone(), pushes.clone());
        async move {
            let body = connection::body_of(request).await?;
            let (kept, id) = oneshot::channel();
            orders.send(Order::Keep {
                body: body.clone(),
                kept,
            })?;
            pushes.send(Push {
                id: id.await?,
                body,
            })?;
            Ok(Response::new(Full::default()))
        }
    })
    .await
}

async fn push(
    client: Client<HttpConnector, Full<Bytes>>,
    target: String,
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<Push>>>,
    orders: Orders,
) -> anyhow::Result<()> {
    loop {
        let Some(Push { id, body }) = waiting.lock().await.recv().await else {
            return Ok(());
        };
        let answer = client
            .request(Request::post(&target).body(Full::new(body))?)
            .await?;
        answer.into_body().collect().await?;
        orders.send(Order::Drop(id))?;
    }
}

fn open(folder: &Path) -> anyhow::Result<Connection> {
    let database = Connection::open(folder.join("ceiling.db")).context("the ceiling's database")?;
    database.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    database.pragma_update(None, "synchronous", "full")?;
    database
        .execute_batch("CREATE TABLE messages (id INTEGER PRIMARY KEY, due INTEGER, body BLOB)")?;
    database.execute_batch("CREATE INDEX messages_due ON messages (due)")?;
    Ok(database)
}

/// Everything that has arrived since the last commit goes into the next one, and is answered after it.
fn write(mut database: Connection, arrived: &std_mpsc::Receiver<Order>) -> anyhow::Result<()> {
    let mut id = 0;
    while let Ok(first) = arrived.recv() {
        let mut answers = Vec::new();
        let transaction = database.transaction()?;
        {
            let mut keep = transaction
                .prepare_cached("INSERT INTO messages (id, due, body) VALUES (?, ?, ?)")?;
            let mut remove = transaction.prepare_cached("DELETE FROM messages WHERE id = ?")?;
            for order in std::iter::once(first).chain(arrived.try_iter()) {
                match order {
                    Order::Keep { body, kept } => {
                        id += 1;
                        keep.execute(params![id, id, &body[..]])?;
                        answers.push((kept, id));
                    }
                    Order::Drop(id) => {
                        remove.execute([id])?;
                    }
                }
            }
        }
        transaction.commit()?;
        for (kept, id) in answers {
            // A client that hung up does not wait for it.
            let _ = kept.send(id);
        }
    }
    Ok(())
}
