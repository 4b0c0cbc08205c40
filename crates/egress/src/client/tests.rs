use super::*;
use axum::{Router, body::Body, routing};
use http::StatusCode;
use rustls::pki_types::PrivateKeyDer;
use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
};

/// Much longer than a slow and busy machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

mod forbidden;

fn limits() -> Limits {
    Limits {
        connect_timeout: DEADLINE,
        total_timeout: DEADLINE,
        response_bytes_max: 1_000,
    }
}

fn loopback() -> Guard {
    Guard::new(vec!["127.0.0.0/8".parse().unwrap()])
}

/// Resolves every name to these addresses.
fn resolver(addresses: &'static [IpAddr]) -> Resolve {
    Arc::new(move |_| Box::pin(async move { addresses.to_vec() }))
}

async fn get(client: &Client, url: &str) -> Result<Response, CallError> {
    let url = Url::parse(url).map_err(|_| CallError::Url {
        reason: "it does not parse",
    })?;
    let request = Request {
        method: Method::GET,
        url: &url,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    client.call(request).await
}

/// Serves on a loopback port until the test ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Counts connections and closes each of them.
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
async fn connector_checks_literal_addresses() {
    let connector = GuardedConnector {
        guard: Arc::new(Guard::default()),
        resolve: resolver(&[]),
        connect_timeout: DEADLINE,
    };
    for uri in [
        "http://127.0.0.1:1/",
        "http://[::1]:1/",
        "https://[::ffff:10.0.0.1]/",
    ] {
        let outcome = tower::Service::call(&mut connector.clone(), uri.parse().unwrap()).await;
        assert!(
            matches!(outcome, Err(ConnectError::Forbidden { .. })),
            "{uri}"
        );
    }
}

#[tokio::test]
async fn long_responses_are_truncated() {
    let router = Router::new()
        .route("/short", routing::get(|| async { "x".repeat(1_000) }))
        .route("/long", routing::get(|| async { "x".repeat(1_000_000) }));
    let origin = serve(router).await;
    let client = Client::new(loopback(), limits()).unwrap();
    let short = get(&client, &format!("{origin}/short")).await.unwrap();
    assert_eq!((short.body.len(), short.is_truncated), (1_000, false));
    let long = get(&client, &format!("{origin}/long")).await.unwrap();
    assert_eq!((long.body.len(), long.is_truncated), (1_000, true));
}

#[tokio::test]
async fn webhook_responses_are_limited_to_64_kib() {
    let limits = Limits::default();
    assert_eq!(
        (limits.response_bytes_max, limits.total_timeout),
        (65_536, Duration::from_secs(15))
    );
    let endless = || async {
        Body::from_stream(futures_util::stream::repeat(Ok::<
            _,
            std::convert::Infallible,
        >("x".repeat(1_000))))
    };
    let origin = serve(Router::new().route("/", routing::get(endless))).await;
    let client = Client::new(loopback(), limits).unwrap();
    let truncated = get(&client, &origin).await.unwrap();
    assert_eq!(
        (truncated.body.len(), truncated.is_truncated),
        (65_536, true)
    );
}

#[tokio::test]
async fn endless_slow_responses_time_out() {
    let slow_body = || async {
        Body::from_stream(futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, io::Error>("x"), ()))
        }))
    };
    let origin = serve(Router::new().route("/", routing::get(slow_body))).await;
    let client = Client::new(
        loopback(),
        Limits {
            total_timeout: Duration::from_millis(500),
            ..limits()
        },
    )
    .unwrap();
    assert_eq!(get(&client, &origin).await.unwrap_err(), CallError::Timeout);
}

#[tokio::test]
async fn requests_arrive_unchanged() {
    let echo = |headers: HeaderMap, body: Bytes| async move {
        (StatusCode::ACCEPTED, headers, Body::from(body))
    };
    let origin = serve(Router::new().route("/", routing::post(echo))).await;
    let url = Url::parse(&format!("{origin}/?a=b#fragment")).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "call-1".parse().unwrap());
    let request = Request {
        method: Method::POST,
        url: &url,
        headers,
        body: Bytes::from_static(b"{}"),
    };
    let response = Client::new(loopback(), limits())
        .unwrap()
        .call(request)
        .await
        .unwrap();
    assert_eq!(
        (
            response.status,
            &response.body[..],
            &response.headers["webhook-id"]
        ),
        (202, &b"{}"[..], &"call-1".parse().unwrap())
    );
}

#[tokio::test]
async fn failures_are_distinguished() {
    let client = Client::new(loopback(), limits()).unwrap();
    // Bound, so that no other process gets the port, but not listening.
    let unused = TcpSocket::new_v4().unwrap();
    unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = get(
        &client,
        &format!("http://{}/", unused.local_addr().unwrap()),
    )
    .await
    .unwrap_err();
    assert_eq!(
        refused,
        CallError::Connect {
            kind: io::ErrorKind::ConnectionRefused
        }
    );

    let (closing, _) = count_connections().await;
    let closed = get(&client, &format!("http://127.0.0.1:{closing}/"))
        .await
        .unwrap_err();
    assert_eq!(closed, CallError::Http);

    let plain = serve(Router::new()).await.replace("http:", "https:");
    assert!(matches!(
        get(&client, &plain).await,
        Err(CallError::Tls { .. })
    ));

    let nowhere = Client::with_resolver(Guard::default(), limits(), &[], resolver(&[])).unwrap();
    assert_eq!(
        get(&nowhere, "http://nowhere.example/").await.unwrap_err(),
        CallError::Dns
    );
}

/// Serves `204` over TLS on loopback with a certificate for `localhost`, and returns the port and the
/// certificate.
async fn serve_tls() -> (u16, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that refuses the certificate ends the handshake.
            if let Ok(mut stream) = acceptor.accept(socket).await {
                let response = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(response).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, certificate)
}

#[tokio::test]
async fn private_authorities_are_trusted_if_configured() {
    let (port, certificate) = serve_tls().await;
    let url = format!("https://localhost:{port}/");
    let resolve = || resolver(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let public = Client::with_resolver(loopback(), limits(), &[], resolve()).unwrap();
    let refused = get(&public, &url).await.unwrap_err();
    assert!(
        matches!(refused, CallError::Certificate { .. }),
        "{refused:?}"
    );
    let private = [certificate];
    let client = Client::with_resolver(loopback(), limits(), &private, resolve()).unwrap();
    assert_eq!(get(&client, &url).await.unwrap().status, 204);
    let other_name = format!("https://other.example:{port}/");
    let refused = get(&client, &other_name).await.unwrap_err();
    assert!(
        matches!(refused, CallError::Certificate { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn silent_endpoints_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(
        loopback(),
        Limits {
            total_timeout: Duration::from_millis(300),
            ..limits()
        },
    )
    .unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(
        get(&client, &format!("http://{address}/"))
            .await
            .unwrap_err(),
        CallError::Timeout
    );
}

#[test]
fn reasons_name_no_address() {
    let error = CallError::Forbidden {
        address: Ipv4Addr::LOCALHOST.into(),
    };
    assert!(error.to_string().contains("127.0.0.1"));
    assert!(!error.reason().contains("127"));
}
