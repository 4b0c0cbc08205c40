use super::*;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record},
};
use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time::Instant,
};

/// Addresses of `large.example.`, too many for a datagram.
const LARGE: u8 = 200;

/// Name server on loopback that ignores queries for `silent` names.
struct NameServer {
    address: SocketAddr,
    queried: Arc<Mutex<BTreeSet<String>>>,
}

impl NameServer {
    async fn start() -> Self {
        let (stream, datagrams) = bind_both().await;
        let address = stream.local_addr().unwrap();
        let queried = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&queried);
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (bytes, client) = datagrams.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..bytes]).unwrap();
                let name = query.queries[0].name().to_string();
                seen.lock().unwrap().insert(name);
                if let Some(mut response) = respond(&query) {
                    if response.answers.len() > 16 {
                        response.answers.clear();
                        response.metadata.truncation = true;
                    }
                    let response = response.to_vec().unwrap();
                    datagrams.send_to(&response, client).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut client, _)) = stream.accept().await {
                tokio::spawn(async move {
                    while let Ok(bytes) = client.read_u16().await {
                        let mut query = vec![0; bytes.into()];
                        client.read_exact(&mut query).await.unwrap();
                        let response = respond(&Message::from_vec(&query).unwrap()).unwrap();
                        let response = response.to_vec().unwrap();
                        let bytes = u16::try_from(response.len()).unwrap();
                        client.write_u16(bytes).await.unwrap();
                        client.write_all(&response).await.unwrap();
                    }
                });
            }
        });
        Self { address, queried }
    }

    fn resolver(&self) -> Resolver {
        let mut server = NameServerConfig::udp_and_tcp(self.address.ip());
        for connection in &mut server.connections {
            connection.port = self.address.port();
        }
        Resolver::new(vec![server], Hosts::default()).unwrap()
    }
}

/// Binds both protocols to one port. A port that is free for TCP can be that of a query.
async fn bind_both() -> (TcpListener, UdpSocket) {
    loop {
        let stream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(datagrams) = UdpSocket::bind(stream.local_addr().unwrap()).await {
            return (stream, datagrams);
        }
    }
}

fn respond(query: &Message) -> Option<Message> {
    let question = &query.queries[0];
    let (name, kind) = (question.name().to_string(), question.query_type());
    let addresses = match (name.as_str(), kind) {
        ("dual.example.", RecordType::A) => vec![address(1), address(2)],
        ("dual.example.", RecordType::AAAA) => vec![Ipv6Addr::LOCALHOST.into()],
        ("ipv4-only.example." | "hook.", RecordType::A) => vec![address(1)],
        ("large.example.", RecordType::A) => (0..LARGE).map(address).collect(),
        ("ipv4-only.example.", _) => return None,
        (name, _) if name.starts_with("silent") => return None,
        _ => Vec::new(),
    };
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_available = true;
    if addresses.is_empty() {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    response.add_query(question.clone());
    response.add_answers(addresses.into_iter().map(|address| {
        let data: RData = address.into();
        Record::from_rdata(question.name().clone(), 60, data)
    }));
    Some(response)
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// The clock stands still while the silent lookups start, so none of them ends before the last one
/// has started, however slow the machine is.
#[tokio::test(start_paused = true)]
async fn silent_names_do_not_delay_others() {
    let server = NameServer::start().await;
    let resolver = Arc::new(server.resolver());
    let mut silent = JoinSet::new();
    for number in 0..600 {
        let resolver = Arc::clone(&resolver);
        silent.spawn(async move { resolver.resolve(&format!("silent-{number}.example")).await });
        // Few queries at a time, for which the socket of the name server has space.
        while number % 20 == 19 && server.queried.lock().unwrap().len() <= number {
            tokio::task::yield_now().await;
        }
    }
    tokio::select! {
        addresses = resolver.resolve("dual.example") => {
            let both = [address(1), Ipv6Addr::LOCALHOST.into(), address(2)];
            assert_eq!(addresses, both);
        }
        _ = silent.join_next() => panic!("a lookup waits until silent ones end"),
    }
    let unresolved = silent.join_all().await;
    assert!(unresolved.iter().all(Vec::is_empty));
}

#[tokio::test(start_paused = true)]
async fn silent_lookups_end_at_their_timeout() {
    let server = NameServer::start().await;
    let started = Instant::now();
    assert!(server.resolver().resolve("silent.example").await.is_empty());
    assert!(started.elapsed() <= NAME_LOOKUP_TIMEOUT);
}

#[tokio::test]
async fn silence_about_ipv6_does_not_hide_ipv4() {
    let server = NameServer::start().await;
    let addresses = server.resolver().resolve("ipv4-only.example").await;
    assert_eq!(addresses, [address(1)]);
}

#[tokio::test]
async fn long_responses_come_over_tcp_and_are_cut() {
    let server = NameServer::start().await;
    let addresses = server.resolver().resolve("large.example").await;
    assert_eq!(addresses.len(), ADDRESSES_RESOLVED_MAX);
}

#[tokio::test]
async fn names_are_absolute() {
    let server = NameServer::start().await;
    let resolver = server.resolver();
    assert_eq!(resolver.resolve("hook").await, [address(1)]);
    assert!(resolver.resolve("missing.example").await.is_empty());
    for invalid in ["", "a..b", &"a".repeat(64), "."] {
        assert!(resolver.resolve(invalid).await.is_empty(), "{invalid}");
    }
    let queried = server.queried.lock().unwrap();
    assert!(
        queried.iter().all(|name| name.ends_with('.')),
        "{queried:?}"
    );
    assert!(queried.contains("hook.") && queried.contains("missing.example."));
}

#[tokio::test]
async fn changed_hosts_files_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let [resolv_conf, hosts] = ["resolv.conf", "hosts"].map(|name| directory.path().join(name));
    let write = |path: &Path, text: &str, seconds: u64| {
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(modified).unwrap();
    };
    write(&resolv_conf, "nameserver 127.66.0.53\nsearch test\n", 1);
    write(
        &hosts,
        "192.0.2.1 Hook.test alias # comment\n::1 Hook.test\n",
        1,
    );
    let resolver = SystemResolver::new(&resolv_conf, &hosts);
    let both = [address(1), Ipv6Addr::LOCALHOST.into()];
    assert_eq!(resolver.resolve("hook.test").await, both);
    assert_eq!(resolver.resolve("alias").await, [address(1)]);
    write(&hosts, "192.0.2.2 hook.test\n", 2);
    assert_eq!(resolver.resolve("hook.test").await, [address(2)]);
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
    let resolver = SystemResolver::new(Path::new("/nowhere"), Path::new("/nowhere"));
    let addresses = resolver.resolve("localhost").await;
    assert_eq!(addresses[0], IpAddr::from(Ipv4Addr::LOCALHOST));
}
