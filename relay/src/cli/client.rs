//! Client of the admin API. It connects to the relay's socket in the data directory, sends the token
//! from there, and turns every response into a typed value or a [`CliError`].

use super::error::CliError;
use crate::{
    admin::{
        ADDRESS_FILE, SOCKET_FILE, TOKEN_FILE,
        model::{Account, Accounts},
    },
    config::AdminListen,
};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use sealpost_proto::{
    Problem, Timestamp,
    limits::{ADMIN_RESPONSE_BYTES_MAX, LOCAL_CONNECT_TIMEOUT, LOCAL_RESPONSE_TIMEOUT},
};
use sealpost_service::{
    http::{JSON_TYPE, SocketPath},
    units::shell_quote,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

/// Client of the admin API of one relay.
pub(super) struct Client {
    data: PathBuf,
    token: Zeroizing<String>,
}

/// Query parameters of a request.
pub(super) type Query<'a> = &'a [(&'a str, &'a str)];

impl Client {
    /// Reads the token of the relay. Does not connect yet.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] if no relay ever ran on the directory.
    pub(super) fn open(data: &Path) -> Result<Self, CliError> {
        Ok(Self {
            data: data.to_owned(),
            token: Zeroizing::new(read_file(data, TOKEN_FILE)?),
        })
    }

    /// Returns the URL of the status page with the token in its fragment. The relay must have
    /// responded before: otherwise another program could listen on its address.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the API has no TCP address, which is all that browsers can open.
    pub(super) fn page_url(&self) -> Result<String, CliError> {
        let listen = read_file(&self.data, ADDRESS_FILE)?;
        match listen.parse() {
            Ok(AdminListen::Tcp(address)) => {
                let address = to_connectable(address);
                Ok(format!("http://{address}/#token={}", *self.token))
            }
            _ => Err(CliError::usage(
                format!("a browser cannot open the admin listener ({listen})"),
                "set admin.listen to an address, or use sealpost-relay stats",
            )),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, CliError> {
        self.request_json(Method::GET, path, query, None::<&()>)
            .await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        self.request_json(Method::POST, path, &[], body).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.request_json(Method::PUT, path, &[], Some(body)).await
    }

    /// Sends `DELETE` to a route that returns a result.
    pub(super) async fn delete_with_result<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, CliError> {
        self.request_json(Method::DELETE, path, query, None::<&()>)
            .await
    }

    /// Sends `DELETE` to a route that returns no body.
    pub(super) async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.request(Method::DELETE, path, &[], None::<&()>)
            .await
            .map(drop)
    }

    /// Finds the only account whose id starts with the prefix, and returns it with the relay's
    /// time.
    pub(super) async fn find_account(
        &self,
        prefix: &str,
    ) -> Result<(Account, Timestamp), CliError> {
        let found: Accounts = self
            .get("accounts", &[("prefix", prefix), ("limit", "2")])
            .await?;
        match &found.accounts[..] {
            [one] => Ok((one.clone(), found.relay_time)),
            [] => Err(CliError::not_found(format!(
                "no account id starts with {prefix}"
            ))),
            _ => Err(CliError::usage(
                format!("more than one account id starts with {prefix}"),
                "use a longer prefix",
            )),
        }
    }

    async fn request_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        let response = self.request(method, path, query, body).await?;
        serde_json::from_slice(&response)
            .map_err(|_| self.unexpected_response("this version cannot parse the response"))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, CliError> {
        let mut target = format!("/admin/v1/{path}");
        if !query.is_empty() {
            target = format!(
                "{target}?{}",
                Serializer::new(String::new()).extend_pairs(query).finish()
            );
        }
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(io::Error::from)?
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", *self.token))
            .header(header::CONTENT_TYPE, JSON_TYPE)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| {
                CliError::usage("an argument is not valid in a URL", "correct the command")
            })?;
        let (status, response) = self.exchange(request).await?;
        if status.is_success() {
            return Ok(response);
        }
        match serde_json::from_slice::<Problem>(&response) {
            Ok(problem) => Err(CliError::Refused(problem)),
            Err(_) => Err(self.unexpected_response(&format!("status {status} without a reason"))),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CliError> {
        let stream = self.with_timeout(LOCAL_CONNECT_TIMEOUT, self.connect());
        let stream = stream.await??;
        self.with_timeout(LOCAL_RESPONSE_TIMEOUT, send(stream, request))
            .await?
            .map_err(|error| self.no_response(&error.to_string()))
    }

    async fn connect(&self) -> Result<UnixStream, CliError> {
        let path = self.data.join(SOCKET_FILE);
        let stream = async { UnixStream::connect(SocketPath::new(&path)?.as_path()).await };
        stream.await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => not_running(&self.data),
            io::ErrorKind::PermissionDenied => unreadable(&path, &error),
            _ => self.no_response(&error.to_string()),
        })
    }

    async fn with_timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, CliError> {
        timeout(limit, work)
            .await
            .map_err(|_| self.no_response("timed out"))
    }

    fn no_response(&self, cause: &str) -> CliError {
        let message = format!(
            "the relay on {} does not respond: {cause}",
            self.data.display()
        );
        CliError::unreachable(message, "check its log; restart it if it hangs")
    }

    fn unexpected_response(&self, cause: &str) -> CliError {
        let message = format!("unexpected response from the relay: {cause}");
        CliError::failed(message, "use the sealpost-relay version that is running")
    }
}

async fn send(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ADMIN_RESPONSE_BYTES_MAX)
        .collect()
        .await?;
    Ok((status, body.to_bytes()))
}

fn read_file(data: &Path, name: &str) -> Result<String, CliError> {
    match std::fs::read_to_string(data.join(name)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_running(data)),
        Err(error) => Err(unreadable(&data.join(name), &error)),
    }
}

fn not_running(data: &Path) -> CliError {
    let message = format!("no relay is running on {}", data.display());
    CliError::unreachable(message, start_hint(data))
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(
        format!("cannot open {}: {error}", path.display()),
        "run the command as the relay's user, or with sudo",
    )
}

fn start_hint(data: &Path) -> String {
    let data = shell_quote(&data.to_string_lossy());
    format!("start the relay: sealpost-relay serve --data {data}")
}

/// Replaces an unspecified address such as `0.0.0.0`, on which a relay can listen, by loopback.
fn to_connectable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
