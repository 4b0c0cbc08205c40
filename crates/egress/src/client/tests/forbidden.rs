//! Every way to write an address that no stranger may reach, from `tests/forbidden.json`: none of them connects.

use super::*;
use crate::IpRange;
use serde::Deserialize;
use std::{process::Command, sync::Mutex};

/// One URL.
#[derive(Deserialize)]
struct Vector {
    /// As a stranger writes it; `PORT` is where this machine listens.
    url: String,
    /// What is special about it.
    why: String,
    /// Where it leads, for those that are URLs at all.
    address: Option<IpAddr>,
    /// What its name resolves to.
    #[serde(default)]
    resolves: Vec<IpAddr>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../tests/forbidden.json")).unwrap()
}

impl Vector {
    /// Calls it through a client with this guard.
    async fn call(&self, guard: Guard, port: u16) -> Result<Answer, CallError> {
        let answers = self.resolves.clone();
        let resolve: Resolve = Arc::new(move |_, port| {
            let found: Vec<_> = answers
                .iter()
                .map(|address| SocketAddr::new(*address, port))
                .collect();
            Box::pin(async move {
                if found.is_empty() {
                    Err(io::ErrorKind::NotFound.into())
                } else {
                    Ok(found)
                }
            })
        });
        let client = Client::with_resolver(guard, limits(), resolve).unwrap();
        get(&client, &self.url.replace("PORT", &port.to_string())).await
    }

    fn leads_into(&self, range: IpRange) -> bool {
        self.address.is_some_and(|address| range.contains(address))
    }
}

impl std::fmt::Display for Vector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}: {}", self.url, self.resolves, self.why)
    }
}

/// Listens on one port of all addresses of this machine, counts connections and cuts each of them.
struct Canary {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// Whether it also listens on `::1`.
    v6: bool,
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
                v6: v6.is_some(),
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
async fn no_notation_reaches_inside() {
    let canary = Canary::listen().await;
    let vectors = vectors();
    assert!(vectors.len() >= 150, "{}", vectors.len());
    for vector in vectors {
        let error = vector
            .call(Guard::default(), canary.port)
            .await
            .expect_err(&vector.to_string());
        match (vector.address, &error) {
            // It was understood, and refused for where it leads.
            (Some(leads_to), CallError::Forbidden { address }) => {
                assert_eq!(address.to_canonical(), leads_to, "{vector}");
            }
            (Some(_), other) => panic!("{vector}: {other:?}"),
            (None, error) => assert!(is_refusal(error), "{vector}: {error:?}"),
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn an_allowed_range_opens_exactly_itself() {
    let canary = Canary::listen().await;
    for (range, can_listen) in [
        ("127.0.0.0/8", true),
        ("127.0.0.2/32", true),
        ("::1/128", canary.v6),
    ] {
        if !can_listen {
            eprintln!("NOT TESTED, because this machine has no IPv6: what {range} opens");
            continue;
        }
        let range: IpRange = range.parse().unwrap();
        let mut opened = 0;
        // A name that also points elsewhere would be called there.
        for vector in vectors()
            .into_iter()
            .filter(|vector| vector.resolves.len() < 2)
        {
            let before = canary.connections();
            let error = vector
                .call(Guard::new(vec![range]), canary.port)
                .await
                .expect_err("the canary answers nobody");
            let reached = canary.connections() > before;
            assert_eq!(
                reached,
                vector.leads_into(range),
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
async fn a_name_is_asked_once_for_each_connection_and_checked_each_time() {
    let closes = || async { ([(http::header::CONNECTION, "close")], "here") };
    let origin = serve(Router::new().route("/", routing::get(closes))).await;
    let port: u16 = origin.rsplit(':').next().unwrap().parse().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::LOCALHOST,
    ];
    let noting = Arc::clone(&asked);
    let resolve: Resolve = Arc::new(move |name, port| {
        let mut asked = noting.lock().unwrap();
        let answer = answers[asked.len()];
        asked.push(name);
        Box::pin(async move { Ok(vec![SocketAddr::new(answer.into(), port)]) })
    });
    let client = Client::with_resolver(loopback(), limits(), resolve).unwrap();
    let url = format!("http://rebinding.example:{port}/");
    assert_eq!(get(&client, &url).await.unwrap().status, 200);
    let forbidden = CallError::Forbidden {
        address: answers[1].into(),
    };
    assert_eq!(
        get(&client, &url).await.unwrap_err(),
        forbidden,
        "the second answer leads inside"
    );
    assert_eq!(get(&client, &url).await.unwrap().status, 200);
    assert_eq!(
        asked.lock().unwrap().len(),
        3,
        "what was checked is what was connected to"
    );
}

#[tokio::test]
async fn redirects_into_the_inside_are_answers() {
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
        let answer = get(&Client::new(loopback(), limits()).unwrap(), &origin)
            .await
            .unwrap();
        assert_eq!(answer.status, status);
    }
    assert_eq!(canary.connections(), 0);
}

/// The environment of a process cannot be changed safely, so another test runs again in one that names a proxy.
#[tokio::test]
async fn a_proxy_in_the_environment_is_not_asked() {
    let canary = Canary::listen().await;
    let proxy = format!("http://127.0.0.1:{}", canary.port);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "client::tests::a_body_and_headers_arrive"]);
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
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(canary.connections(), 0);
}
