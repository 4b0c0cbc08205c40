//! The plain server: it writes a PUT to a file with an fsync and reads a GET from it, without
//! authentication, hashes or limits.

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    routing::put,
};
use futures_util::StreamExt as _;
use std::{io::Write as _, path::PathBuf, sync::Arc};
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
    net::TcpListener,
};
use tokio_util::io::ReaderStream;

/// Buffer size for reads and writes.
const BUFFER_BYTES: usize = 1024 * 1024;

type Directory = State<Arc<PathBuf>>;

/// Serves until the process exits; stores uploads in `directory`.
pub(crate) async fn serve(directory: PathBuf) -> anyhow::Result<()> {
    let routes = Router::new().route("/{name}", put(upload).get(download));
    let app = routes
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(directory));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, app).await?)
}

async fn upload(State(directory): Directory, Path(name): Path<String>, body: Body) -> StatusCode {
    match write(directory.join(name), body).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn write(path: PathBuf, body: Body) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path).await?);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece?).await?;
    }
    file.flush().await?;
    Ok(file.get_ref().sync_all().await?)
}

async fn download(
    State(directory): Directory,
    Path(name): Path<String>,
) -> Result<Body, StatusCode> {
    let file = File::open(directory.join(name))
        .await
        .map_err(|_| StatusCode::NOT_FOUND)?;
    Ok(Body::from_stream(ReaderStream::with_capacity(
        file,
        BUFFER_BYTES,
    )))
}
