//! The commands' side of the operator's API. It finds the relay by the two files in its data folder and turns every answer
//! into a shape or a [`CliError`].

use super::error::CliError;
use crate::admin::{
    ADDRESS_FILE, AdminListen, TOKEN_FILE,
    model::{Account, Accounts},
};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use sealpost_proto::{
    Problem, Timestamp,
    limits::{ADMIN_ANSWER_BYTES_MAX, LOCAL_ANSWER_TIMEOUT, LOCAL_CONNECT_TIMEOUT},
};
use sealpost_service::{http::JSON_TYPE, units::quoted};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

/// The operator's API of the relay that runs on one data folder.
pub(super) struct Client {
    place: AdminListen,
    token: Zeroizing<String>,
    start: String,
}

/// A connection, whatever carries it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is asked of a list.
pub(super) type Query<'a> = &'a [(&'a str, &'a str)];

impl Client {
    /// Reads where the relay listens. Does not connect yet.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] when no relay ever ran on the folder, or its API is off.
    pub(super) fn open(data: &Path) -> Result<Self, CliError> {
        let start = format!(
            "start the relay: sealpost-relay serve --data {}",
            quoted(&data.to_string_lossy())
        );
        let place = read(data, ADDRESS_FILE, &start)?;
        let place = match place.parse() {
            Ok(AdminListen::Tcp(address)) => AdminListen::Tcp(reachable(address)),
            Ok(place @ AdminListen::Unix(_)) => place,
            Ok(AdminListen::Off) => {
                let what = "the operator's API of this relay is off";
                return Err(CliError::unreachable(
                    what,
                    "start the relay without --admin-listen off",
                ));
            }
            Err(error) => {
                return Err(CliError::unreachable(
                    format!("{ADDRESS_FILE} says \"{place}\": {error}"),
                    start,
                ));
            }
        };
        Ok(Self {
            place,
            token: Zeroizing::new(read(data, TOKEN_FILE, &start)?),
            start,
        })
    }

    /// The address of the status page, which brings the token along in its fragment; none where no browser gets.
    pub(super) fn page_url(&self) -> Result<String, CliError> {
        match &self.place {
            AdminListen::Tcp(address) => Ok(format!("http://{address}/#token={}", *self.token)),
            AdminListen::Unix(_) | AdminListen::Off => Err(CliError::usage(
                format!("no browser reaches {}", self.place),
                "set admin.listen to an address, or use sealpost-relay stats",
            )),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, CliError> {
        self.resource(Method::GET, path, query, None::<&()>).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        self.resource(Method::POST, path, &[], body).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.resource(Method::PUT, path, &[], Some(body)).await
    }

    /// `DELETE`, for what became of it.
    pub(super) async fn drop<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, CliError> {
        self.resource(Method::DELETE, path, query, None::<&()>)
            .await
    }

    /// `DELETE`, for nothing.
    pub(super) async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.ask(Method::DELETE, path, &[], None::<&()>)
            .await
            .map(drop)
    }

    /// The account whose id begins like this, and the relay's clock.
    pub(super) async fn account(&self, prefix: &str) -> Result<(Account, Timestamp), CliError> {
        let found: Accounts = self
            .get("accounts", &[("prefix", prefix), ("limit", "2")])
            .await?;
        match &found.accounts[..] {
            [one] => Ok((one.clone(), found.relay_time)),
            [] => Err(CliError::not_found(format!(
                "no account has an id that begins with {prefix}"
            ))),
            _ => Err(CliError::usage(
                format!("more than one account has an id that begins with {prefix}"),
                "type more of it",
            )),
        }
    }

    async fn resource<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        let answer = self.ask(method, path, query, body).await?;
        serde_json::from_slice(&answer)
            .map_err(|_| self.foreign("its answer does not have the form of this version"))
    }

    async fn ask(
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
            .header(header::HOST, self.host())
            .header(header::AUTHORIZATION, format!("Bearer {}", *self.token))
            .header(header::CONTENT_TYPE, JSON_TYPE)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| CliError::usage("this cannot be asked", "correct the command"))?;
        let (status, answer) = self.exchange(request).await?;
        if status.is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<Problem>(&answer) {
            Ok(problem) => Err(CliError::Refused(problem)),
            Err(_) => Err(self.foreign(&format!("it answered {status} without saying why"))),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CliError> {
        let connecting = async {
            Ok::<Box<dyn Stream>, io::Error>(match &self.place {
                AdminListen::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                AdminListen::Unix(path) => Box::new(UnixStream::connect(path).await?),
                AdminListen::Off => return Err(io::ErrorKind::NotConnected.into()),
            })
        };
        let stream = self.within(LOCAL_CONNECT_TIMEOUT, connecting).await?;
        self.within(LOCAL_ANSWER_TIMEOUT, answer(stream, request))
            .await
    }

    fn host(&self) -> String {
        match &self.place {
            AdminListen::Tcp(address) => address.to_string(),
            AdminListen::Unix(_) | AdminListen::Off => "localhost".to_owned(),
        }
    }

    async fn within<T, E: ToString>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CliError> {
        let cause = match timeout(limit, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        let what = format!("the relay does not answer at {}: {cause}", self.place);
        Err(CliError::unreachable(what, self.start.clone()))
    }

    fn foreign(&self, what: &str) -> CliError {
        let what = format!("what answers at {} is not this relay: {what}", self.place);
        CliError::unreachable(what, "use the program of the version that runs")
    }
}

async fn answer(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ADMIN_ANSWER_BYTES_MAX)
        .collect()
        .await?;
    Ok((status, body.to_bytes()))
}

fn read(data: &Path, name: &str, start: &str) -> Result<String, CliError> {
    match std::fs::read_to_string(data.join(name)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CliError::unreachable(
            format!("no relay runs on {}", data.display()),
            start,
        )),
        Err(error) => {
            let next = "run this as the relay's user, or with sudo";
            Err(CliError::unreachable(
                format!("{} cannot be read: {error}", data.join(name).display()),
                next,
            ))
        }
    }
}

/// A relay that listens everywhere is asked at home.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
