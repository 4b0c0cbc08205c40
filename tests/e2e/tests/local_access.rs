//! Access to the APIs on the same machine: which hosts they respond to, what their refusals look
//! like, and that neither tokens nor files reach other users.

use crate::support::{program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    environment::Environment, node::DeliveryMode, ports::reserve_port, process::Process,
    roles::Role, wait::wait_for,
};
use sealpost_node::cli::client::Client;
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Sends a request as it is and returns the status, the headers in lower case, and the body.
fn request(
    address: &str,
    request_line: &str,
    headers: &[&str],
) -> anyhow::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    let headers = headers.join("\r\n");
    write!(
        stream,
        "{request_line} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context(response.clone())?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_lowercase(), body.to_owned()))
}

fn read(directory: &Path, name: &str) -> anyhow::Result<String> {
    Ok(fs::read_to_string(directory.join(name))?.trim().to_owned())
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(path.metadata()?.permissions().mode() & 0o7777)
}

/// Listens on the address of a program that was stopped, as any user of the machine can.
fn squat(address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn ensure_untouched(squatter: &TcpListener) -> anyhow::Result<()> {
    let kind = squatter.accept().map_err(|error| error.kind());
    ensure!(
        kind.as_ref()
            .is_err_and(|kind| *kind == ErrorKind::WouldBlock),
        "a command connected to the address of a stopped program"
    );
    Ok(())
}

/// Node whose local API listens on a given address.
struct LocalNode<'a> {
    env: &'a Environment,
    directory: PathBuf,
}

impl LocalNode<'_> {
    async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let data = [OsStr::new("--data"), self.directory.as_os_str()];
        let args: Vec<_> = data
            .into_iter()
            .chain(args.iter().map(OsStr::new))
            .collect();
        self.env.program().output(Role::NodeCommand, &args).await
    }

    async fn init(&self, listen: &str) -> anyhow::Result<()> {
        let relay = self.env.relay.origin();
        let init = [
            "init", "--name", "Acme", "--relay", &relay, "--listen", listen,
        ];
        let output = self.run(&init).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }

    /// Starts the node and returns what its API says about it.
    async fn start(&self) -> anyhow::Result<(Process, Value)> {
        let data = self.directory.as_os_str();
        let args = [OsStr::new("--data"), data, OsStr::new("serve")];
        let log = self.env.directory().join("acme.log");
        let process = self.env.program().start("Acme", Role::Node, &args, &log)?;
        let node = wait_for("the daemon responds", async || {
            let Ok(client) = Client::open(&self.directory) else {
                return Ok(None);
            };
            Ok(client.get::<Value>(&["v1", "node"], &()).await.ok())
        });
        Ok((process, node.await?))
    }
}

#[tokio::test]
async fn stopped_programs_lose_no_token() -> anyhow::Result<()> {
    let mut env = Environment::new(program())?;
    let node_address = format!("127.0.0.1:{}", reserve_port()?);
    let relay_address = format!("127.0.0.1:{}", reserve_port()?);
    env.relay
        .set_extra_args(&["--admin-listen", &relay_address]);
    env.relay.start().await?;
    let node = LocalNode {
        env: &env,
        directory: env.directory().join("acme"),
    };
    node.init(&node_address).await?;
    let (process, shown) = node.start().await?;
    ensure!(shown["address"] == node_address, "{shown}");
    process.stop().await?;
    let squatter = squat(&node_address)?;
    for args in [&["status"][..], &["send", "--to", "Bolt", "-m", "secret"]] {
        let output = node.run(args).await?;
        ensure!(output.status.code() == Some(3), "{args:?}: {output:?}");
    }
    ensure_untouched(&squatter)?;
    env.relay.stop().await?;
    let squatter = squat(&relay_address)?;
    let data = env.relay.directory().as_os_str();
    for command in [&["stats"][..], &["stats", "--page"], &["accounts", "list"]] {
        let words = command.iter().map(OsStr::new);
        let args: Vec<_> = words.chain([OsStr::new("--data"), data]).collect();
        let output = env.program().output(Role::RelayCommand, &args).await?;
        ensure!(output.status.code() == Some(3), "{command:?}: {output:?}");
    }
    ensure_untouched(&squatter)?;
    env.finish().await
}

#[tokio::test]
async fn every_loopback_address_is_accepted() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    // The path is longer than the address of a Unix socket.
    let directory = env.directory().join("d".repeat(60)).join("e".repeat(60));
    let node = LocalNode {
        env: &env,
        directory,
    };
    node.init("127.0.0.2:0").await?;
    let (process, shown) = node.start().await?;
    let address = shown["address"].as_str().context("no address")?;
    let port = address
        .strip_prefix("127.0.0.2:")
        .context("another address")?;
    let token = format!(
        "Authorization: Bearer {}",
        read(&node.directory, "api-token")?
    );
    for (host, expected) in [
        (address.to_owned(), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("LocalHost.:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("evil.example:{port}"), 403),
        (format!("127.0.0.2.evil.example:{port}"), 403),
        ("127.0.0.2:1".to_owned(), 403),
    ] {
        let host = format!("Host: {host}");
        let (status, ..) = request(address, "GET /v1/node", &[&host, &token])?;
        ensure!(status == expected, "{host}: {status}");
    }
    process.stop().await?;
    env.finish().await
}

#[tokio::test]
async fn listeners_refuse_with_problem_documents() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let node = acme.api()?.fetch_node().await?;
    let webhook = node.webhook_url.context("no webhook")?;
    let webhook = webhook
        .trim_start_matches("http://")
        .trim_end_matches("/sealpost");
    let relay = env.relay.origin();
    let relay = relay.trim_start_matches("http://");
    let admin = read(env.relay.directory(), "admin-address")?;
    let node_token = format!(
        "Authorization: Bearer {}",
        read(acme.home().directory(), "api-token")?
    );
    let admin_token = format!(
        "Authorization: Bearer {}",
        read(env.relay.directory(), "admin-token")?
    );
    for (address, token, method, paths) in [
        (
            &*node.address,
            &node_token,
            "PUT",
            ["/v1/messages", "/v1/messages/"],
        ),
        (webhook, &node_token, "GET", ["/sealpost", "/sealpost/"]),
        (relay, &node_token, "PUT", ["/v1/account", "/v1/mailboxes/"]),
        (
            &admin,
            &admin_token,
            "PUT",
            ["/admin/v1/stats", "/admin/v1/queues/"],
        ),
    ] {
        let [path, prefix] = paths;
        let host = format!("Host: {address}");
        for (line, expected) in [
            (format!("{method} {path}"), 405),
            (format!("GET {prefix}%zz"), 400),
            (format!("GET {prefix}%ff"), 400),
            (format!("GET {path}?after=%e4"), 400),
            (format!("GET {path}?after=%2"), 400),
            (
                format!("GET {path}/no/such/path"),
                if address == webhook { 405 } else { 404 },
            ),
        ] {
            let (status, head, body) = request(address, &line, &[&host, token])?;
            ensure!(status == expected, "{address} {line}: {status} {body}");
            ensure!(
                head.contains("content-type: application/problem+json"),
                "{address} {line}: {head}"
            );
            ensure!(
                status != 405 || head.contains("\r\nallow: "),
                "{line}: {head}"
            );
            let problem: Value = serde_json::from_str(&body).context(body)?;
            ensure!(
                problem["code"].is_string() && problem["status"] == status,
                "{problem}"
            );
        }
    }
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn data_of_other_users_stays_private() -> anyhow::Result<()> {
    let mut env = Environment::with_relay(program()).await?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    acme.stop().await?;
    env.relay.stop().await?;
    let (node, relay) = (
        acme.home().directory().to_owned(),
        env.relay.directory().to_owned(),
    );
    ensure!(mode(&node)? == 0o700 && mode(&relay)? == 0o700);
    for (directory, command, role) in [
        (&node, "serve", Role::NodeCommand),
        (&relay, "serve", Role::RelayCommand),
    ] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        let args = [
            OsStr::new(command),
            OsStr::new("--data"),
            directory.as_os_str(),
        ];
        let output = env.program().output(role, &args).await?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let remedy = format!("run chmod 700 {}", directory.display());
        ensure!(
            !output.status.success() && stderr.contains(&remedy),
            "{stderr}"
        );
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    for inner in [node.join("files"), relay.join("blobs")] {
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755))?;
    }
    env.relay.start().await?;
    acme.start().await?;
    for (path, expected) in [
        (node.join("files"), 0o700),
        (node.join("api.sock"), 0o600),
        (relay.join("blobs"), 0o700),
        (relay.join("admin.sock"), 0o600),
    ] {
        ensure!(mode(&path)? == expected, "{}", path.display());
    }
    stop_all(env, [acme]).await
}

/// The umask of a shell that starts the programs, which could leave everything to others.
#[tokio::test]
async fn umask_does_not_open_directories() -> anyhow::Result<()> {
    let env = Environment::new(program())?;
    let script = env.directory().join("sealpost-relay");
    program().write_script(&script, Role::RelayCommand, &[])?;
    let data = env.directory().join("relay");
    let line = "umask 000; exec \"$0\" serve --listen 127.0.0.1:0 --admin-listen off --data \"$1\"";
    let mut relay = Command::new("sh")
        .args([
            OsStr::new("-c"),
            OsStr::new(line),
            script.as_os_str(),
            data.as_os_str(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut started = [0];
    relay
        .stdout
        .take()
        .context("no output")?
        .read_exact(&mut started)?;
    ensure!(mode(&data)? == 0o700 && mode(&data.join("blobs"))? == 0o700);
    relay.kill()?;
    relay.wait()?;
    env.finish().await
}
