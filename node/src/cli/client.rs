//! Client of the local API.
//!
//! The client connects to the Unix socket in the data directory, never to a TCP port: while the
//! daemon is stopped, any user of the machine could listen on its port and receive the token and the
//! messages. Only the owner of the data directory can create the socket.

use super::{error::CliError, events::EventStream, units::shell_quote};
use crate::{
    api::{
        model::{EventsQuery, Page, PageQuery},
        problem::Problem,
    },
    daemon::{SOCKET_FILE, TOKEN_FILE},
};
use reqwest::{Method, RequestBuilder, Response, header};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use sealpost_proto::limits::{LOCAL_CONNECT_TIMEOUT, LOCAL_RESPONSE_TIMEOUT, PAGE_ITEMS_MAX};
use sealpost_service::http::SocketPath;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;
use zeroize::Zeroizing;

/// Upper bound on the number of pages that [`Client::list`] reads.
const LIST_PAGES_MAX: usize = 100;

/// Base of all URLs. The host only fills the header `Host`.
const BASE: &str = "http://localhost/";

/// Client of the daemon that runs on one data directory.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// Data directory, for errors.
    data: PathBuf,
    /// Shell command that starts the daemon, for the next step in errors.
    start_command: String,
    /// Has to exist as long as `http`, which connects to it.
    _socket: SocketPath,
}

impl Client {
    /// Reads the token from the data directory, without connecting.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] when there is no node, or its daemon has never run.
    pub fn open(data: &Path) -> Result<Self, CliError> {
        let start_command = format!(
            "sealpost --data {} serve",
            shell_quote(&data.to_string_lossy())
        );
        let token = read_daemon_file(data, TOKEN_FILE, &start_command)?;
        let socket = SocketPath::new(&data.join(SOCKET_FILE))
            .map_err(|error| unreadable(&data.join(SOCKET_FILE), &error))?;
        Ok(Self {
            http: http_client(token.trim(), &socket)?,
            base: Url::parse(BASE).map_err(|error| communication_error(&error.to_string()))?,
            data: data.to_owned(),
            start_command,
            _socket: socket,
        })
    }

    /// Gets a resource.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, CliError> {
        self.resource(
            self.request(Method::GET, path)
                .query(query)
                .timeout(LOCAL_RESPONSE_TIMEOUT),
        )
        .await
    }

    /// Gets all pages of a list, up to [`LIST_PAGES_MAX`].
    pub async fn list<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Page<T>, CliError> {
        let mut list = Page {
            items: Vec::new(),
            next: None,
        };
        for _ in 0..LIST_PAGES_MAX {
            let query = PageQuery {
                limit: Some(PAGE_ITEMS_MAX),
                after: list.next.take(),
            };
            let page: Page<T> = self.get(path, &query).await?;
            list.items.extend(page.items);
            list.next = page.next;
            if list.next.is_none() {
                break;
            }
        }
        Ok(list)
    }

    /// Gets up to `limit` items of a list. `query` builds the query of a page from the number of
    /// items and the cursor. A page may hold fewer items than requested, so several may be needed.
    pub async fn list_up_to<T: DeserializeOwned, Q: Serialize>(
        &self,
        path: &[&str],
        limit: u32,
        query: impl Fn(u32, Option<String>) -> Q,
    ) -> Result<Page<T>, CliError> {
        let mut list: Page<T> = self.get(path, &query(limit, None)).await?;
        while let Some(after) = list.next.take() {
            let items = u32::try_from(list.items.len()).unwrap_or(u32::MAX);
            let Some(missing) = limit.checked_sub(items).filter(|missing| *missing > 0) else {
                list.next = Some(after);
                break;
            };
            let page: Page<T> = self.get(path, &query(missing, Some(after))).await?;
            list.next = page.next.filter(|_| !page.items.is_empty());
            list.items.extend(page.items);
        }
        Ok(list)
    }

    /// Posts JSON and returns the resource in the response.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.resource(
            self.request(Method::POST, path)
                .json(body)
                .timeout(LOCAL_RESPONSE_TIMEOUT),
        )
        .await
    }

    /// Posts a body of known length, without a timeout, and returns the resource in the response.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        length: u64,
        body: reqwest::Body,
    ) -> Result<T, CliError> {
        let request = self.request(Method::POST, path).query(query);
        let request = request
            .header(header::CONTENT_LENGTH, length)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(body);
        self.resource(request).await
    }

    /// Deletes a resource.
    pub async fn delete(&self, path: &[&str]) -> Result<(), CliError> {
        self.send(
            self.request(Method::DELETE, path)
                .timeout(LOCAL_RESPONSE_TIMEOUT),
        )
        .await
        .map(drop)
    }

    /// Gets a response whose body the caller reads, without a timeout.
    pub async fn content(&self, path: &[&str]) -> Result<Response, CliError> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Opens the event stream, after a given event or from now on.
    pub async fn events(&self, after: Option<u64>) -> Result<EventStream, CliError> {
        let request = self
            .request(Method::GET, &["v1", "events"])
            .query(&EventsQuery { after });
        Ok(EventStream::new(
            self.send(request.header(header::ACCEPT, "text/event-stream"))
                .await?,
        ))
    }

    /// Creates the error for a failed connection to the daemon.
    #[must_use]
    pub fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let kind = find_io_error(error).map(io::Error::kind);
        if error.is_connect() && kind == Some(io::ErrorKind::PermissionDenied) {
            let error = io::ErrorKind::PermissionDenied.into();
            return unreadable(&self.data.join(SOCKET_FILE), &error);
        }
        let is_stopped = error.is_connect()
            && matches!(
                kind,
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            );
        let cause = if is_stopped {
            "connection refused"
        } else if error.is_timeout() {
            "timed out"
        } else if error.is_connect() {
            "cannot connect"
        } else {
            "connection lost"
        };
        CliError::Unreachable {
            message: format!(
                "the daemon of {} does not respond: {cause}",
                self.data.display()
            ),
            next: if is_stopped {
                format!("start it: {}", self.start_command)
            } else {
                "check its log; restart it if it hangs or has stopped".to_owned()
            },
        }
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        self.http.request(method, url)
    }

    async fn resource<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let body = self
            .send(request)
            .await?
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|_| communication_error("unexpected response body"))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(communication_error(&format!(
                "response {status} without a reason"
            ))),
        }
    }
}

/// Creates an HTTP client for the socket: no proxy, no redirects, no trusted certificates.
fn http_client(token: &str, socket: &SocketPath) -> Result<reqwest::Client, CliError> {
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut value = header::HeaderValue::from_str(&bearer)
        .map_err(|_| communication_error("the token in the data directory is invalid"))?;
    value.set_sensitive(true);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| communication_error(&error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers([(header::AUTHORIZATION, value)].into_iter().collect())
        .unix_socket(socket.as_path())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(LOCAL_CONNECT_TIMEOUT)
        .build()
        .map_err(|error| communication_error(&error.to_string()))
}

fn read_daemon_file(
    data: &Path,
    name: &str,
    start_command: &str,
) -> Result<Zeroizing<String>, CliError> {
    std::fs::read_to_string(data.join(name))
        .map(Zeroizing::new)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !may_be_node(data) => CliError::Unreachable {
                message: format!("there is no node in {}", data.display()),
                next: format!(
                    "create one: sealpost --data {} init --name NAME --relay ORIGIN",
                    shell_quote(&data.to_string_lossy())
                ),
            },
            io::ErrorKind::NotFound => CliError::Unreachable {
                message: format!("the daemon of {} has never run", data.display()),
                next: format!("start it: {start_command}"),
            },
            _ => unreadable(&data.join(name), &error),
        })
}

/// Finds the error of the operating system that caused another error.
fn find_io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(
        format!("cannot read {}: {error}", path.display()),
        "run the command as the user that runs the daemon",
    )
}

/// Returns whether a directory is not empty. Only the daemon can tell whether it holds a node.
fn may_be_node(data: &Path) -> bool {
    std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some())
}

fn communication_error(reason: &str) -> CliError {
    CliError::failed(
        format!("cannot communicate with the daemon: {reason}"),
        "restart the daemon, and use the same version of the daemon and of this command",
    )
}

/// Returns the default data directory: `$XDG_DATA_HOME/sealpost`, else `~/.local/share/sealpost`.
pub fn default_data_directory() -> Result<PathBuf, CliError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let share = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    share.map(|share| share.join("sealpost")).ok_or_else(|| {
        CliError::usage(
            "there is no home directory",
            "set the data directory with --data DIR",
        )
    })
}

/// Returns the command line of this program for a data directory, which is named unless it is the
/// default one.
pub fn command_line(data: &Path, command: &str) -> String {
    if default_data_directory().is_ok_and(|default| default == data) {
        return format!("sealpost {command}");
    }
    let data = shell_quote(&data.to_string_lossy());
    format!("sealpost --data {data} {command}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_node_error_names_the_next_step() {
        let directory = tempfile::tempdir().unwrap();
        let error = Client::open(directory.path()).err().unwrap();
        assert!(
            error.to_string().starts_with("there is no node in"),
            "{error}"
        );
        std::fs::write(directory.path().join("node.db"), "").unwrap();
        let error = Client::open(directory.path()).err().unwrap();
        assert!(error.to_string().ends_with("has never run"), "{error}");
        assert!(error.next().ends_with("serve"), "{}", error.next());
    }
}
