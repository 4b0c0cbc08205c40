//! Many who are slow or ask for too much, and the others, who do not notice.

use super::*;
use axum::body::{Body, Bytes};
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::convert::Infallible;

const SLOW: usize = 1_000;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn large() -> Router {
    let body = Bytes::from(vec![0; 8 * 1024 * 1024]);
    hello().route("/large", routing::get(move || async move { body }))
}

async fn connect(server: &Server, begin: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(begin).await.unwrap();
    stream
}

async fn until(server: &Server, holds: impl Fn(&ListenerCounts) -> bool) {
    let waiting = async {
        while !holds(&server.counts) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {:?}", server.counts));
}

/// Whether an ordinary request is answered, by a client that opens a connection for it.
async fn is_answered(server: &Server) -> bool {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let asked = stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    asked.is_ok() && read_all(&mut stream).await.contains("200 OK")
}

/// Every way of being slow that needs no request of its own.
fn ways_to_be_slow() -> [&'static [u8]; 6] {
    let half_a_hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: x\r\nMore: and more",
        half_a_hello,
        GET,
        PREFACE,
    ]
}

#[tokio::test]
async fn a_thousand_slow_connections_do_not_disturb_the_others_and_are_closed() {
    raise();
    let limits = ListenerLimits {
        connections: 2 * SLOW,
        rest: SHORT * 10,
        write_stall: SHORT * 10,
        ..limits()
    };
    let limits = ListenerLimits {
        first_byte: SHORT * 10,
        header_read: SHORT * 10,
        ..limits
    };
    let server = start(large(), limits).await;
    let mut slow = Vec::new();
    for begin in ways_to_be_slow().iter().cycle().take(SLOW - 100) {
        slow.push(connect(&server, begin).await);
    }
    for _ in 0..100 {
        slow.push(connect(&server, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await);
    }
    let client = Client::builder(TokioExecutor::new())
        .build::<HttpConnector, Empty<Bytes>>(HttpConnector::new());
    let url: hyper::Uri = format!("http://{}/", server.address).parse().unwrap();
    let mut answered = 0;
    // Ordinary requests, as long as anybody slow is there.
    while server.counts.open() > 1 || answered < 100 {
        let response = timeout(DEADLINE, client.get(url.clone()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), 200);
        answered += 1;
        assert!(is_answered(&server).await);
    }
    assert_eq!(
        (server.counts.refused_full(), server.counts.pushed_out()),
        (0, 0)
    );
    drop(slow);
}

#[tokio::test]
async fn a_byte_now_and_then_is_not_enough() {
    let quick = ListenerLimits {
        first_byte: SHORT,
        header_read: SHORT,
        rest: SHORT,
        ..limits()
    };
    let server = start(hello(), quick).await;
    let half_a_frame = [PREFACE, b"\0\x10\0\x01\x04\0\0\0\x01"].concat();
    for begin in [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        half_a_frame.as_slice(),
        b"",
    ] {
        let mut stream = connect(&server, begin).await;
        let dripping = async {
            while stream.write_all(b"a").await.is_ok() {
                sleep(SHORT / 10).await;
            }
        };
        timeout(DEADLINE, dripping)
            .await
            .expect("the server hangs up");
    }
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off_and_who_takes_it_slowly_is_not() {
    const ASK: &[u8] = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let stall = SHORT * 15;
    let server = start(
        large(),
        ListenerLimits {
            write_stall: stall,
            rest: DEADLINE,
            ..limits()
        },
    )
    .await;
    let (idle, mut steady) = (connect(&server, ASK).await, connect(&server, ASK).await);
    let (begun, mut taken, mut buffer) = (Instant::now(), 0, vec![0; 64 * 1024]);
    loop {
        let read = timeout(DEADLINE, steady.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        if read == 0 {
            break;
        }
        taken += read;
        // In all longer than the stall, so that only the steps can have saved it.
        sleep(SHORT / 5).await;
    }
    assert!(
        taken > 8 * 1024 * 1024 && begun.elapsed() > stall,
        "{taken}"
    );
    until(&server, |counts| counts.open() == 0).await;
    drop(idle);
}

#[tokio::test]
async fn an_http_2_client_that_gives_no_room_for_an_answer_is_cut_off() {
    let server = start(
        large(),
        ListenerLimits {
            header_read: SHORT,
            rest: SHORT,
            ..limits()
        },
    )
    .await;
    // Its settings: windows of no size. Then a request (HPACK: GET http / x) for which there is no room.
    let no_room = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01\x78";
    let mut stream = connect(&server, &[no_room.as_slice(), request].concat()).await;
    let mut heard = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut heard))
        .await
        .expect("the server hangs up");
    assert!(
        heard.windows(2).any(|window| window == b"\x01\x04"),
        "headers of an answer: {heard:?}"
    );
}

#[tokio::test]
async fn a_flood_of_streams_that_are_reset_ends_the_connection() {
    let server = start(
        hello(),
        ListenerLimits {
            rest: DEADLINE,
            ..limits()
        },
    )
    .await;
    let mut stream = connect(&server, PREFACE).await;
    let (mut reader, mut writer) = stream.split();
    let flood = async {
        for id in (1_u32..2_000_000).step_by(2) {
            let mut frames = b"\0\0\x06\x01\x05".to_vec();
            frames.extend(id.to_be_bytes());
            frames.extend(b"\x82\x86\x84\x41\x01\x78\0\0\x04\x03\0");
            frames.extend(id.to_be_bytes());
            frames.extend(8_u32.to_be_bytes());
            if writer.write_all(&frames).await.is_err() {
                return;
            }
        }
        panic!("a million resets were taken");
    };
    let mut sink = tokio::io::sink();
    let hearing = async {
        let _ = tokio::io::copy(&mut reader, &mut sink).await;
    };
    timeout(DEADLINE, async { tokio::join!(flood, hearing) })
        .await
        .expect("the server hangs up");
    assert!(is_answered(&server).await);
}

#[tokio::test]
async fn those_who_rest_longest_make_room() {
    let patient = ListenerLimits {
        first_byte: DEADLINE,
        header_read: DEADLINE,
        rest: DEADLINE,
        ..limits()
    };
    let server = start(hello(), patient).await;
    let mut held = Vec::new();
    for _ in 0..patient.connections {
        held.push(connect(&server, b"").await);
    }
    until(&server, |counts| counts.open() == 3).await;
    let deadline = Instant::now() + DEADLINE;
    // At first nobody has rested long, and the new one goes.
    while !is_answered(&server).await {
        assert!(Instant::now() < deadline, "nobody made room");
    }
    assert_eq!(server.counts.pushed_out(), 1);
    assert_eq!(read_all(&mut held[0]).await, "", "the first one went");
    until(&server, |counts| counts.open() == 2).await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_makes_room() {
    let patient = ListenerLimits {
        write_stall: DEADLINE,
        rest: DEADLINE,
        ..limits()
    };
    // In pieces: one alone would be handed over whole, and nothing of it be ours any more.
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let pieces = move || {
        let pieces = std::iter::repeat_n(Ok::<_, Infallible>(piece.clone()), 256);
        async move { Body::from_stream(futures_util::stream::iter(pieces)) }
    };
    let server = start(hello().route("/pieces", routing::get(pieces)), patient).await;
    let mut idle = Vec::new();
    for _ in 0..patient.connections {
        idle.push(
            connect(
                &server,
                b"GET /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        );
    }
    until(&server, |counts| counts.open() == 3).await;
    let deadline = Instant::now() + DEADLINE / 2;
    while !is_answered(&server).await {
        assert!(
            Instant::now() < deadline,
            "what it does not take is not ours to do"
        );
    }
    assert_eq!(server.counts.pushed_out(), 1);
    drop(idle);
}

#[tokio::test]
async fn who_has_a_request_under_way_does_not_make_room() {
    let release = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&release);
    let wait = move || {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.acquire().await.unwrap().forget();
            "done"
        }
    };
    let router = hello().route("/wait", routing::get(wait));
    let server = start(router, limits()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(
            connect(
                &server,
                b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        );
    }
    until(&server, |counts| counts.open() == 3).await;
    let begun = Instant::now();
    while begun.elapsed() < 2 * sealpost_proto::limits::MAKE_ROOM_AFTER_REST {
        assert!(!is_answered(&server).await);
    }
    assert!(server.counts.refused_full() > 0);
    release.add_permits(3);
    for mut stream in held {
        assert!(read_all(&mut stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn one_address_has_its_share_and_this_machine_is_not_counted() {
    let counts = Arc::<ListenerCounts>::default();
    let places = Places::new(100, 2, counts);
    let take = |ip: &str| {
        places.take(
            Some((ip.parse::<std::net::IpAddr>().unwrap(), 1).into()),
            &Presence::new(),
        )
    };
    let first = take("192.0.2.1").unwrap_or_else(|_| panic!("free"));
    let _second = take("::ffff:192.0.2.1").unwrap_or_else(|_| panic!("free"));
    assert_eq!(take("192.0.2.1").err(), Some(NoPlace::Network));
    let _other = take("192.0.2.2").unwrap_or_else(|_| panic!("free"));
    drop(first);
    let _again = take("192.0.2.1").unwrap_or_else(|_| panic!("its place came back"));
    let _network = [take("2001:db8::1").ok(), take("2001:db8::2").ok()];
    assert_eq!(take("2001:db8::ffff:3").err(), Some(NoPlace::Network));
    assert!(take("2001:db8:0:1::1").is_ok());
    let local: Vec<_> = (0..10).map(|_| take("127.0.0.1").ok()).collect();
    assert!(local.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_connection_ends_when_it_is_old() {
    let server = start(
        hello(),
        ListenerLimits {
            age: SHORT,
            header_read: DEADLINE,
            ..limits()
        },
    )
    .await;
    let answer = ask(server.address, std::str::from_utf8(GET).unwrap()).await;
    assert!(answer.contains("200 OK"), "{answer}");
}

fn raise() {
    assert!(
        crate::raise_open_files() > 2 * SLOW + 100,
        "the test needs {} open files",
        2 * SLOW + 100
    );
}
