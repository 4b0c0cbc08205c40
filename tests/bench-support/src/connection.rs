//! A persistent HTTP/1.1 client connection, and a minimal HTTP/1.1 server.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming, client::conn::http1 as client, server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Client connection that opens on first use and reopens after a failure.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    open: Option<client::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Creates a connection to `host:port`.
    #[must_use]
    pub fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            open: None,
        }
    }

    /// Sends one request and reads the whole response.
    pub async fn send(
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

    /// Sends an unsigned request; any status but 200 is an error.
    pub async fn request_ok(
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
            "{method} {path} failed with {status}"
        );
        Ok(body)
    }

    async fn connect(&self) -> anyhow::Result<client::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("{} is unreachable", self.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The sender of the request gets the same error.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// Serves every request with `handler`, forever.
pub async fn serve<H, F>(listener: TcpListener, handler: H) -> anyhow::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<Response<Full<Bytes>>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        tokio::spawn(async move {
            // A client that disconnects is not an error.
            let _ = server::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(handler))
                .await;
        });
    }
}

/// Reads the whole body of a request.
pub async fn read_body(request: Request<Incoming>) -> anyhow::Result<Bytes> {
    Ok(request.into_body().collect().await?.to_bytes())
}
