//! Notations of addresses that must not be reachable, from `tests/forbidden.json`.

use super::*;
use crate::IpRange;
use serde::Deserialize;
use std::{process::Command, sync::Mutex};

/// One URL of the list.
#[derive(Deserialize)]
struct Vector {
    /// The URL; `PORT` stands for the port on which this machine listens.
    url: String,
    /// What is special about the notation.
    why: String,
    /// Address of the URL, if it is a valid URL.
    address: Option<IpAddr>,
    /// Addresses to which its name resolves.
    #[serde(default)]
    resolves: Vec<IpAddr>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../tests/forbidden.json")).unwrap()
}

impl Vector {
    /// Calls the URL through a client with this guard.
    async fn call(&self, guard: Guard, port: u16) -> Result<Response, CallError> {
        let addresses = self.resolves.clone();
        let resolve: Resolve = Arc::new(move |_| {
            let found = addresses.clone();
            Box::pin(async move { found })
        });
        let client = Client::with_resolver(guard, limits(), &[], resolve).unwrap();
        get(&client, &self.url.replace("PORT", &port.to_string())).await
    }

    fn is_in(&self, range: IpRange) -> bool {
        self.address.is_some_and(|address| range.contains(address))
    }
}

impl std::fmt::Display for Vector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}: {}", self.url, self.resolves, self.why)
    }
}

/// Listener on one port of all addresses of this machine that counts connections and closes them.
struct Canary {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// Whether it also listens on `::1`.
    is_v6: bool,
}

impl Canary {
    async fn listen() -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        loop {
            let v4 = TcpListener::bind("0.0.0.0:0").await.unwrap();
            let port = v4.local_addr().unwrap().port();
            let v6 = match TcpListener::bind(("::1", port)).await {
                Ok(listener) => Some(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(_) => None,
            };
            let canary = Self {
                port,
                connections,
                is_v6: v6.is_some(),
            };
            [Some(v4), v6]
                .into_iter()
                .flatten()
                .for_each(|listener| canary.count(listener));
            return canary;
        }
    }

    fn count(&self, listener: TcpListener) {
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                connections.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn is_refusal(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Forbidden { .. } | CallError::Url { .. } | CallError::Dns
    )
}

#[tokio::test]
async fn no_notation_reaches_private_addresses() {
    let canary = Canary::listen().await;
    let vectors = vectors();
    assert!(vectors.len() >= 150, "{}", vectors.len());
    for vector in vectors {
        let error = vector
            .call(Guard::default(), canary.port)
            .await
            .expect_err(&vector.to_string());
        match (vector.address, &error) {
            // The URL was parsed and refused because of its address.
            (Some(expected), CallError::Forbidden { address }) => {
                assert_eq!(address.to_canonical(), expected, "{vector}");
            }
            (Some(_), other) => panic!("{vector}: {other:?}"),
            (None, error) => assert!(is_refusal(error), "{vector}: {error:?}"),
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn allowed_ranges_permit_only_themselves() {
    let canary = Canary::listen().await;
    for (range, can_listen) in [
        ("127.0.0.0/8", true),
        ("127.0.0.2/32", true),
        ("::1/128", canary.is_v6),
    ] {
        if !can_listen {
            eprintln!("NOT TESTED, because this machine has no IPv6: {range}");
            continue;
        }
        let range: IpRange = range.parse().unwrap();
        let mut opened = 0;
        // A name with further addresses could be called there.
        for vector in vectors()
            .into_iter()
            .filter(|vector| vector.resolves.len() < 2)
        {
            let before = canary.connections();
            let error = vector
                .call(Guard::new(vec![range]), canary.port)
                .await
                .expect_err("the canary sends no response");
            let reached = canary.connections() > before;
            assert_eq!(
                reached,
                vector.is_in(range),
                "{vector} with {range}: {error:?}"
            );
            assert!(
                reached || is_refusal(&error),
                "{vector} with {range}: {error:?}"
            );
            opened += usize::from(reached);
        }
        assert!(opened > 0, "{range}");
    }
}

#[tokio::test]
async fn names_are_resolved_once_per_connection() {
    let closes = || async { ([(http::header::CONNECTION, "close")], "here") };
    let origin = serve(Router::new().route("/", routing::get(closes))).await;
    let port: u16 = origin.rsplit(':').next().unwrap().parse().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let addresses = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::LOCALHOST,
    ];
    let noting = Arc::clone(&asked);
    let resolve: Resolve = Arc::new(move |name| {
        let mut asked = noting.lock().unwrap();
        let address = addresses[asked.len()];
        asked.push(name);
        Box::pin(async move { vec![address.into()] })
    });
    let client = Client::with_resolver(loopback(), limits(), &[], resolve).unwrap();
    let url = format!("http://rebinding.example:{port}/");
    assert_eq!(get(&client, &url).await.unwrap().status, 200);
    let forbidden = CallError::Forbidden {
        address: addresses[1].into(),
    };
    assert_eq!(
        get(&client, &url).await.unwrap_err(),
        forbidden,
        "the second address is private"
    );
    assert_eq!(get(&client, &url).await.unwrap().status, 200);
    assert_eq!(
        asked.lock().unwrap().len(),
        3,
        "the client connects to the checked address"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let canary = Canary::listen().await;
    let port = canary.port;
    for status in [301, 302, 303, 307, 308] {
        let to = move || async move {
            let status = StatusCode::from_u16(status).unwrap();
            (
                status,
                [(http::header::LOCATION, format!("http://127.0.0.1:{port}/"))],
            )
        };
        let origin = serve(Router::new().route("/", routing::any(to))).await;
        let response = get(&Client::new(loopback(), limits()).unwrap(), &origin)
            .await
            .unwrap();
        assert_eq!(response.status, status);
    }
    assert_eq!(canary.connections(), 0);
}

/// A process cannot change its environment safely, so another test runs again in a process whose
/// environment names a proxy.
#[tokio::test]
async fn proxy_variables_are_ignored() {
    let canary = Canary::listen().await;
    let proxy = format!("http://127.0.0.1:{}", canary.port);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "client::tests::requests_arrive_unchanged"]);
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        again.env(name, &proxy);
    }
    again.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = tokio::task::spawn_blocking(move || again.output())
        .await
        .unwrap()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}"
    );
    assert_eq!(canary.connections(), 0);
}
