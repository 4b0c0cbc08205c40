//! The ceiling: a minimal store-and-forward server. It stores each POST durably (SQLite,
//! write-ahead log, one fsync for everything that has arrived since the last one), responds with
//! 200 and pushes it to the receiver. It has no authentication, retries or limits, so no relay on
//! this machine with this store and these libraries can be faster.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rusqlite::{Connection, params};
use sealpost_bench_support::connection;
use std::{
    path::Path,
    sync::{Arc, mpsc as std_mpsc},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
};

/// Concurrent pushes.
const CONCURRENT_PUSHES: usize = 64;

enum WriteCommand {
    Insert {
        body: Bytes,
        committed: oneshot::Sender<i64>,
    },
    Delete(i64),
}

struct Push {
    id: i64,
    body: Bytes,
}

type CommandSender = std_mpsc::Sender<WriteCommand>;

/// Serves until the process exits; stores messages in `directory` and pushes them to the URL
/// `target`.
pub(crate) async fn serve(
    listener: TcpListener,
    directory: &Path,
    target: &str,
) -> anyhow::Result<()> {
    let (commands, queue) = std_mpsc::channel();
    let database = open_database(directory)?;
    std::thread::Builder::new().spawn(move || run_writer(database, &queue))?;
    let (pushes, waiting) = mpsc::unbounded_channel();
    let waiting = Arc::new(Mutex::new(waiting));
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(256)
        .build_http();
    for _ in 0..CONCURRENT_PUSHES {
        tokio::spawn(run_pusher(
            client.clone(),
            target.to_owned(),
            Arc::clone(&waiting),
            commands.clone(),
        ));
    }
    connection::serve(listener, move |request| {
        let (commands, pushes) = (commands.clone(), pushes.clone());
        async move {
            let body = connection::read_body(request).await?;
            let (committed, id) = oneshot::channel();
            commands.send(WriteCommand::Insert {
                body: body.clone(),
                committed,
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

async fn run_pusher(
    client: Client<HttpConnector, Full<Bytes>>,
    target: String,
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<Push>>>,
    commands: CommandSender,
) -> anyhow::Result<()> {
    loop {
        let Some(Push { id, body }) = waiting.lock().await.recv().await else {
            return Ok(());
        };
        let response = client
            .request(Request::post(&target).body(Full::new(body))?)
            .await?;
        response.into_body().collect().await?;
        commands.send(WriteCommand::Delete(id))?;
    }
}

fn open_database(directory: &Path) -> anyhow::Result<Connection> {
    let database =
        Connection::open(directory.join("ceiling.db")).context("the ceiling's database")?;
    database.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    database.pragma_update(None, "synchronous", "full")?;
    database
        .execute_batch("CREATE TABLE messages (id INTEGER PRIMARY KEY, due INTEGER, body BLOB)")?;
    database.execute_batch("CREATE INDEX messages_due ON messages (due)")?;
    Ok(database)
}

/// Writes everything that has arrived since the last commit with the next one, and confirms it
/// afterwards.
fn run_writer(
    mut database: Connection,
    commands: &std_mpsc::Receiver<WriteCommand>,
) -> anyhow::Result<()> {
    let mut id = 0;
    while let Ok(first) = commands.recv() {
        let mut inserted = Vec::new();
        let transaction = database.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO messages (id, due, body) VALUES (?, ?, ?)")?;
            let mut remove = transaction.prepare_cached("DELETE FROM messages WHERE id = ?")?;
            for command in std::iter::once(first).chain(commands.try_iter()) {
                match command {
                    WriteCommand::Insert { body, committed } => {
                        id += 1;
                        insert.execute(params![id, id, &body[..]])?;
                        inserted.push((committed, id));
                    }
                    WriteCommand::Delete(id) => {
                        remove.execute([id])?;
                    }
                }
            }
        }
        transaction.commit()?;
        for (committed, id) in inserted {
            // A client that has disconnected does not wait for it.
            let _ = committed.send(id);
        }
    }
    Ok(())
}
