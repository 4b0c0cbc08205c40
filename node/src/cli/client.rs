//! Client of the local API.
//!
//! Two files in the data directory hold the daemon's address and token. The client uses plain HTTP,
//! and only to a loopback address.

use super::{error::CliError, events::EventStream, units::shell_quote};
use crate::{
    api::{
        model::{EventsQuery, Page, PageQuery},
        problem::Problem,
    },
    daemon::{ADDRESS_FILE, TOKEN_FILE},
};
use reqwest::{Method, RequestBuilder, Response, header};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use sealpost_proto::limits::{LOCAL_CONNECT_TIMEOUT, LOCAL_RESPONSE_TIMEOUT, PAGE_ITEMS_MAX};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;
use zeroize::Zeroizing;

/// Upper bound on the number of pages that [`Client::list`] reads.
const LIST_PAGES_MAX: usize = 100;

/// Client of the daemon that runs on one data directory.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// Shell command that starts the daemon, for the next step in errors.
    start_command: String,
}

impl Client {
    /// Reads the address and the token from the data directory, without connecting.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] when there is no node, or its daemon has never run.
    pub fn open(data: &Path) -> Result<Self, CliError> {
        let start_command = format!(
            "sealpost --data {} serve",
            shell_quote(&data.to_string_lossy())
        );
        let address = read_daemon_file(data, ADDRESS_FILE, &start_command)?;
        let token = read_daemon_file(data, TOKEN_FILE, &start_command)?;
        let address: SocketAddr = address
            .trim()
            .parse()
            .map_err(|_| incompatible_daemon("the address in the data directory is invalid"))?;
        if !address.ip().is_loopback() {
            return Err(incompatible_daemon(
                "the address in the data directory is not a loopback address",
            ));
        }
        let base = Url::parse(&format!("http://{address}/"))
            .map_err(|_| incompatible_daemon("the address in the data directory is invalid"))?;
        Ok(Self {
            http: http_client(token.trim())?,
            base,
            start_command,
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
        let cause = if error.is_connect() {
            "connection refused"
        } else if error.is_timeout() {
            "timed out"
        } else {
            "connection lost"
        };
        CliError::Unreachable {
            message: format!(
                "the daemon at {} does not respond: {cause}",
                self.base.authority()
            ),
            next: format!("start it: {}", self.start_command),
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
        serde_json::from_slice(&body).map_err(|_| incompatible_daemon("unexpected response body"))
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
            Err(_) => Err(incompatible_daemon(&format!(
                "response {status} without a reason"
            ))),
        }
    }
}

/// Creates an HTTP client for loopback: no proxy, no redirects, no trusted certificates.
fn http_client(token: &str) -> Result<reqwest::Client, CliError> {
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut value = header::HeaderValue::from_str(&bearer)
        .map_err(|_| incompatible_daemon("the token in the data directory is invalid"))?;
    value.set_sensitive(true);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| incompatible_daemon(&error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers([(header::AUTHORIZATION, value)].into_iter().collect())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(LOCAL_CONNECT_TIMEOUT)
        .build()
        .map_err(|error| incompatible_daemon(&error.to_string()))
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
            _ => CliError::failed(
                format!("cannot read {}: {error}", data.join(name).display()),
                "run the command as the user that runs the daemon",
            ),
        })
}

/// Returns whether a directory is not empty. Only the daemon can tell whether it holds a node.
fn may_be_node(data: &Path) -> bool {
    std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some())
}

fn incompatible_daemon(reason: &str) -> CliError {
    CliError::failed(
        format!("cannot communicate with the daemon: {reason}"),
        "use the same version of the daemon and of this command",
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

    #[test]
    fn token_is_sent_to_loopback_only() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(TOKEN_FILE), "t").unwrap();
        for address in ["192.0.2.1:4680", "example.org:4680", "0.0.0.0:4680"] {
            std::fs::write(directory.path().join(ADDRESS_FILE), address).unwrap();
            assert!(Client::open(directory.path()).is_err(), "{address}");
        }
    }
}
