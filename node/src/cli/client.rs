//! The CLI's side of the local API. It finds the daemon by the two files in the data folder, speaks plain HTTP to a
//! loopback address only, and turns every answer into a shape or a [`CliError`].

use super::{error::CliError, events::Events, units::quoted};
use crate::api::{
    model::{EventsQuery, Page, PageQuery},
    problem::Problem,
};
use reqwest::{Method, RequestBuilder, Response, header};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use sealpost_proto::limits::{LOCAL_ANSWER_TIMEOUT, LOCAL_CONNECT_TIMEOUT, PAGE_ITEMS_MAX};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;
use zeroize::Zeroizing;

/// The file with the address of the local API, as `host:port`.
pub const ADDRESS_FILE: &str = "api-address";
/// The file with the token of the local API, mode 0600.
pub const TOKEN_FILE: &str = "api-token";

/// Pages of a list that are read as a whole.
const LIST_PAGES_MAX: usize = 100;

/// The local API of one data folder's daemon.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    start_command: String,
}

impl Client {
    /// Reads where the daemon of a data folder listens. Does not connect yet.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] when there is no node, or its daemon never ran.
    pub fn open(data: &Path) -> Result<Self, CliError> {
        let start_command = format!("sealpost --data {} serve", quoted(&data.to_string_lossy()));
        let address = read(data, ADDRESS_FILE, &start_command)?;
        let token = read(data, TOKEN_FILE, &start_command)?;
        let address: SocketAddr = address
            .trim()
            .parse()
            .map_err(|_| foreign("the address in its data folder does not parse"))?;
        if !address.ip().is_loopback() {
            return Err(foreign(
                "the address in its data folder is not a loopback address",
            ));
        }
        let base = Url::parse(&format!("http://{address}/"))
            .map_err(|_| foreign("its address does not parse"))?;
        Ok(Self {
            http: http_client(token.trim())?,
            base,
            start_command,
        })
    }

    /// `GET`, for a resource.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, CliError> {
        self.resource(
            self.request(Method::GET, path)
                .query(query)
                .timeout(LOCAL_ANSWER_TIMEOUT),
        )
        .await
    }

    /// `GET`, for a whole list, up to [`LIST_PAGES_MAX`] pages.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
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

    /// `POST` with JSON, for a resource.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.resource(
            self.request(Method::POST, path)
                .json(body)
                .timeout(LOCAL_ANSWER_TIMEOUT),
        )
        .await
    }

    /// `POST` with raw bytes of a known length, for a resource. Takes as long as it takes.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
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

    /// `DELETE`.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
    pub async fn delete(&self, path: &[&str]) -> Result<(), CliError> {
        self.send(
            self.request(Method::DELETE, path)
                .timeout(LOCAL_ANSWER_TIMEOUT),
        )
        .await
        .map(drop)
    }

    /// `GET`, for bytes.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
    pub async fn content(&self, path: &[&str]) -> Result<Response, CliError> {
        self.send(self.request(Method::GET, path)).await
    }

    /// The event stream, from now or after an event.
    ///
    /// # Errors
    /// What the daemon refuses, or [`CliError::Unreachable`].
    pub async fn events(&self, after: Option<u64>) -> Result<Events, CliError> {
        let request = self
            .request(Method::GET, &["v1", "events"])
            .query(&EventsQuery { after });
        Ok(Events::new(
            self.send(request.header(header::ACCEPT, "text/event-stream"))
                .await?,
        ))
    }

    /// What a lost connection means.
    #[must_use]
    pub fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let cause = if error.is_connect() {
            "nothing listens there"
        } else if error.is_timeout() {
            "it took too long"
        } else {
            "the connection broke"
        };
        let authority = self.base.authority();
        let what = format!("the daemon does not answer at {authority}: {cause}");
        CliError::Unreachable {
            what,
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
        serde_json::from_slice(&body)
            .map_err(|_| foreign("its answer does not have the form of this version"))
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
            Err(_) => Err(foreign(&format!("it answered {status} without saying why"))),
        }
    }
}

/// Loopback only: no proxy, no redirect, and no certificate is ever good.
fn http_client(token: &str) -> Result<reqwest::Client, CliError> {
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut value = header::HeaderValue::from_str(&bearer)
        .map_err(|_| foreign("the token in its data folder does not parse"))?;
    value.set_sensitive(true);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| foreign(&error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers([(header::AUTHORIZATION, value)].into_iter().collect())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(LOCAL_CONNECT_TIMEOUT)
        .build()
        .map_err(|error| foreign(&error.to_string()))
}

fn read(data: &Path, name: &str, start_command: &str) -> Result<Zeroizing<String>, CliError> {
    std::fs::read_to_string(data.join(name))
        .map(Zeroizing::new)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !is_node(data) => CliError::Unreachable {
                what: format!("there is no node in {}", data.display()),
                next: format!(
                    "make one: sealpost --data {} init --name NAME --relay ORIGIN",
                    quoted(&data.to_string_lossy())
                ),
            },
            io::ErrorKind::NotFound => CliError::Unreachable {
                what: format!("the daemon of {} never ran", data.display()),
                next: format!("start it: {start_command}"),
            },
            _ => CliError::refused(
                format!("{} cannot be read: {error}", data.join(name).display()),
                "run the command as the user of the daemon",
            ),
        })
}

/// A folder with anything in it may be a node; the daemon knows better.
fn is_node(data: &Path) -> bool {
    std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some())
}

fn foreign(what: &str) -> CliError {
    CliError::refused(
        format!("the daemon cannot be understood: {what}"),
        "run the same version of daemon and command",
    )
}

/// The data folder when nobody names one: `$XDG_DATA_HOME/sealpost`, else `~/.local/share/sealpost`.
///
/// # Errors
/// [`CliError::Usage`] without a home.
pub fn default_data_folder() -> Result<PathBuf, CliError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let share = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    share.map(|share| share.join("sealpost")).ok_or_else(|| {
        CliError::usage(
            "there is no home folder",
            "name the data folder with --data DIR",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_node_it_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = Client::open(folder.path()).err().unwrap();
        assert!(
            error.to_string().starts_with("there is no node in"),
            "{error}"
        );
        std::fs::write(folder.path().join("node.db"), "").unwrap();
        let error = Client::open(folder.path()).err().unwrap();
        assert!(error.to_string().ends_with("never ran"), "{error}");
        assert!(error.next().ends_with("serve"), "{}", error.next());
    }

    #[test]
    fn the_token_never_leaves_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKEN_FILE), "t").unwrap();
        for address in ["192.0.2.1:4680", "example.org:4680", "0.0.0.0:4680"] {
            std::fs::write(folder.path().join(ADDRESS_FILE), address).unwrap();
            assert!(Client::open(folder.path()).is_err(), "{address}");
        }
    }
}
