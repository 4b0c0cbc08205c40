use super::*;
use axum::{Router, body::Body, response::Redirect, routing};
use http::StatusCode;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::net::{TcpListener, TcpSocket};

/// Far longer than a slow and busy machine takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Addresses that no stranger may reach.
const INSIDE: [Ipv4Addr; 12] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 255, 255, 254),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(192, 168, 1, 1),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
    Ipv4Addr::new(192, 0, 2, 1),
];

/// URLs written out, `PORT` being one on which this machine listens.
const WRITTEN: [&str; 70] = [
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://localhost%2e:PORT/",
    "http://loc\tal\nhost:PORT/",
    "http://ⓛocalhost:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127。0。0。1:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://0177.1:PORT/",
    "http://0x7f.1:PORT/",
    "http://0x7F.0x0.0x0.0x1:PORT/",
    "http://00000177.0.0.01:PORT/",
    "http://0:PORT/",
    "http://0.0:PORT/",
    "http://00:PORT/",
    "http://0x:PORT/",
    "http://[::]:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::FFFF:127.0.0.1]:PORT/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fe80::1%25eth0]:PORT/",
    "http://[febf:ffff::1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fd00:ec2::254]:PORT/",
    "http://[fdff:ffff:ffff::1]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://[ff0e::1]:PORT/",
    "http://[100::1]:PORT/",
    "http://[100:0:0:1::1]:PORT/",
    "http://[2001::1]:PORT/",
    "http://[2001:2::1]:PORT/",
    "http://[2001:10::1]:PORT/",
    "http://[2001:20::1]:PORT/",
    "http://[2001:db8::1]:PORT/",
    "http://[3fff::1]:PORT/",
    "http://[5f00::1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[4000::1]:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://user:password@127.0.0.1:PORT/",
    "http://example.com@127.0.0.1:PORT/",
    "http://example.com%40@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "http://example.com:80@127.0.0.1:PORT/",
    "http:\\\\127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:////127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://127.0.0.1:PORT?@example.com/",
    "http://127.0.0.1:PORT\\@example.com/",
    "https://127.0.0.1:PORT/",
    "https://localhost:PORT/",
    "http://168.63.129.16:PORT/",
    "http://192.0.0.192:PORT/",
    "http://100.100.100.200:PORT/",
    "http://192.88.99.1:PORT/",
    "ftp://127.0.0.1:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/",
];

/// Every way to write one IPv4 address into a URL.
fn notations(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let whole = address.to_bits();
    let (high, low) = (whole >> 16, whole & 0xffff);
    vec![
        format!("{address}"),
        format!("{whole}"),
        format!("{whole:#x}"),
        format!("0{whole:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", whole & 0xff_ffff),
        format!("{a}.{b}.{low}"),
        format!("{a:#x}.{b}.0{c:o}.{d}"),
        format!("[::ffff:{address}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[::{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::1]"),
        format!("[2001::{:x}:{:x}]", high ^ 0xffff, low ^ 0xffff),
    ]
}

fn urls(port: u16) -> Vec<String> {
    let port = port.to_string();
    let written = WRITTEN.iter().map(|url| url.replace("PORT", &port));
    let computed = INSIDE.into_iter().flat_map(notations).map(|host| format!("http://{host}:{port}/hook"));
    written.chain(computed).collect()
}

fn limits() -> Limits {
    Limits { connect: DEADLINE, whole: DEADLINE, answer_bytes: 1_000 }
}

fn loopback() -> Guard {
    Guard::new(vec!["127.0.0.0/8".parse().unwrap()])
}

/// Names mean what the test says.
fn resolver(addresses: &'static [IpAddr]) -> Resolve {
    Arc::new(move |_, port| {
        Box::pin(async move { Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()) })
    })
}

async fn get(client: &Client, url: &str) -> Result<Answer, CallError> {
    let url = Url::parse(url).map_err(|_| CallError::Url { reason: "it does not parse" })?;
    let request = Request { method: Method::GET, url: &url, headers: HeaderMap::new(), body: Bytes::new() };
    client.call(request).await
}

/// Serves on a loopback port until the test ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Counts connections and cuts each of them.
async fn count_connections() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, count)
}

#[tokio::test]
async fn no_notation_reaches_inside() {
    let (port, connections) = count_connections().await;
    let client = Client::new(Guard::default(), limits()).unwrap();
    let urls = urls(port);
    assert!(urls.len() >= 150, "{}", urls.len());
    for url in urls {
        let error = get(&client, &url).await.expect_err(&url);
        let refused = matches!(error, CallError::Forbidden { .. } | CallError::Url { .. } | CallError::Dns);
        assert!(refused, "{url}: {error:?}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_same_port_is_reached_when_the_range_is_allowed() {
    let (port, connections) = count_connections().await;
    let client = Client::new(loopback(), limits()).unwrap();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.0.0.1."] {
        let error = get(&client, &format!("http://{host}:{port}/")).await.unwrap_err();
        assert_eq!(error, CallError::Http, "{host}");
    }
    assert!(connections.load(Ordering::SeqCst) >= 5);
}

#[tokio::test]
async fn a_name_that_also_points_inside_is_refused() {
    static MIXED: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let (port, connections) = count_connections().await;
    let client = Client::with_resolver(Guard::default(), limits(), resolver(&MIXED)).unwrap();
    let error = get(&client, &format!("http://rebinding.example:{port}/")).await.unwrap_err();
    assert_eq!(error, CallError::Forbidden { address: Ipv4Addr::LOCALHOST.into() });
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_literal_is_checked_by_the_connector_too() {
    let connector =
        GuardedConnector { guard: Arc::new(Guard::default()), resolve: resolver(&[]), connect_timeout: DEADLINE };
    for uri in ["http://127.0.0.1:1/", "http://[::1]:1/", "https://[::ffff:10.0.0.1]/"] {
        let outcome = tower::Service::call(&mut connector.clone(), uri.parse().unwrap()).await;
        assert!(matches!(outcome, Err(ConnectError::Forbidden { .. })), "{uri}");
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    let (port, connections) = count_connections().await;
    let elsewhere = format!("http://127.0.0.1:{port}/");
    let origin =
        serve(Router::new().route("/", routing::get(move || async move { Redirect::temporary(&elsewhere) }))).await;
    let answer = get(&Client::new(loopback(), limits()).unwrap(), &origin).await.unwrap();
    assert_eq!(answer.status, 307);
    assert!(answer.headers.contains_key(http::header::LOCATION));
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let router = Router::new()
        .route("/short", routing::get(|| async { "x".repeat(1_000) }))
        .route("/long", routing::get(|| async { "x".repeat(1_000_000) }));
    let origin = serve(router).await;
    let client = Client::new(loopback(), limits()).unwrap();
    let short = get(&client, &format!("{origin}/short")).await.unwrap();
    assert_eq!((short.body.len(), short.truncated), (1_000, false));
    let long = get(&client, &format!("{origin}/long")).await.unwrap();
    assert_eq!((long.body.len(), long.truncated), (1_000, true));
}

#[tokio::test]
async fn a_body_and_headers_arrive() {
    let echo = |headers: HeaderMap, body: Bytes| async move { (StatusCode::ACCEPTED, headers, Body::from(body)) };
    let origin = serve(Router::new().route("/", routing::post(echo))).await;
    let url = Url::parse(&format!("{origin}/?a=b#fragment")).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "call-1".parse().unwrap());
    let request = Request { method: Method::POST, url: &url, headers, body: Bytes::from_static(b"{}") };
    let answer = Client::new(loopback(), limits()).unwrap().call(request).await.unwrap();
    assert_eq!(
        (answer.status, &answer.body[..], &answer.headers["webhook-id"]),
        (202, &b"{}"[..], &"call-1".parse().unwrap())
    );
}

#[tokio::test]
async fn every_failure_has_its_name() {
    let client = Client::new(loopback(), limits()).unwrap();
    // Bound, so that nobody else gets it, and not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = get(&client, &format!("http://{}/", nobody.local_addr().unwrap())).await.unwrap_err();
    assert_eq!(refused, CallError::Connect { kind: io::ErrorKind::ConnectionRefused });

    let (rude, _) = count_connections().await;
    let cut = get(&client, &format!("http://127.0.0.1:{rude}/")).await.unwrap_err();
    assert_eq!(cut, CallError::Http);

    let plain = serve(Router::new()).await.replace("http:", "https:");
    assert!(matches!(get(&client, &plain).await, Err(CallError::Tls { .. })));

    let nowhere = Client::with_resolver(Guard::default(), limits(), resolver(&[])).unwrap();
    assert_eq!(get(&nowhere, "http://nowhere.example/").await.unwrap_err(), CallError::Dns);
}

#[tokio::test]
async fn a_silent_endpoint_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(loopback(), Limits { whole: Duration::from_millis(300), ..limits() }).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(get(&client, &format!("http://{address}/")).await.unwrap_err(), CallError::Timeout);
}

#[test]
fn reasons_for_strangers_name_no_address() {
    let error = CallError::Forbidden { address: Ipv4Addr::LOCALHOST.into() };
    assert!(error.to_string().contains("127.0.0.1"));
    assert!(!error.reason().contains("127"));
}
