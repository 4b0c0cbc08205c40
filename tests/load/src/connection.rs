//! One kept HTTP/1.1 connection as a client, and the serving of many.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming, client::conn::http1 as client, server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::io::Write as _;
use tokio::net::{TcpListener, TcpStream};

/// A client's connection; it opens when it is used, and again after a failure.
#[derive(Debug)]
pub(crate) struct Connection {
    authority: String,
    open: Option<client::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// To `host:port`.
    #[must_use]
    pub(crate) fn to(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            open: None,
        }
    }

    /// Sends one request and reads its whole answer.
    ///
    /// # Errors
    /// When the connection fails.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        request
            .headers_mut()
            .insert(http::header::HOST, self.authority.parse()?);
        let mut sender = match self.open.take() {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => self.connect().await?,
        };
        sender.ready().await?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.open = Some(sender);
        Ok((parts.status, body))
    }

    /// Sends a request without signature and insists on 200.
    ///
    /// # Errors
    /// When the connection fails or another status comes.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::from(body))?;
        let (status, body) = self.send(request).await?;
        anyhow::ensure!(
            status == StatusCode::OK,
            "{method} {path} answered {status}"
        );
        Ok(body)
    }

    async fn connect(&self) -> anyhow::Result<client::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("{} is gone", self.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its user sees the same error.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// Listens on a free port of loopback and says where, in the way the relay does.
///
/// # Errors
/// When there is none.
pub(crate) async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

/// Answers every request with what `answer` says, for ever.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve<A, F>(listener: TcpListener, answer: A) -> anyhow::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<Response<Full<Bytes>>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::spawn(async move {
            // A client that hangs up is no trouble.
            let _ = server::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

/// Reads the whole body of a request.
///
/// # Errors
/// When the client hangs up.
pub(crate) async fn body_of(request: Request<Incoming>) -> anyhow::Result<Bytes> {
    Ok(request.into_body().collect().await?.to_bytes())
}
