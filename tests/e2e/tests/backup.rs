//! Backup of a running node, its restore after the node is lost, and exchange of backups with the
//! program `age`.

use crate::support::{deliver, disk::SmallDisk, program, stop_all};
use anyhow::{Context as _, ensure};
use sealpost_demo::{
    api::digest,
    environment::{Environment, pair, send},
    files::Sample,
    node::{DeliveryMode, Home, Node},
    wait::wait_for,
};
use sealpost_node::{
    api::model::{Direction, HealthState, Message, RestorationState, SendMessage},
    cli::client::Client,
};
use sealpost_proto::DeliveryStatus;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};
use tokio::process::Command;

/// The example key pair of the age specification.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

/// Messages that Acme sends after the backup, before Bolt is lost.
const LATE_MESSAGES: usize = 500;
/// Messages that Acme sends while Bolt is restored.
const CONCURRENT_MESSAGES: usize = 100;
/// How long healing may take from the start of the restored node.
const HEALING_MAX: Duration = Duration::from_secs(60);

/// Files and commands of a test.
struct Files {
    directory: PathBuf,
    identity: String,
}

impl Files {
    fn new(env: &Environment) -> anyhow::Result<Self> {
        let identity = env.directory().join("identity.txt");
        write_secret(&identity, &format!("# the key of this test\n{IDENTITY}\n"))?;
        Ok(Self {
            directory: env.directory().to_owned(),
            identity: path_text(&identity)?,
        })
    }

    fn path(&self, name: &str) -> anyhow::Result<String> {
        path_text(&self.directory.join(name))
    }
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// Runs a command of the CLI, which must succeed, and returns its output.
async fn run(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.run_cli(args).await?;
    ensure_success(args, &output)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command of the CLI, which must fail with these words and a next step.
async fn expect_failure(home: &Home, args: &[&str], words: &str) -> anyhow::Result<()> {
    let output = home.run_cli(args).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && stderr.contains(words) && stderr.contains("next: "),
        "{args:?}: {stderr}"
    );
    Ok(())
}

fn ensure_success(args: &[&str], output: &Output) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {stderr}");
    Ok(())
}

/// Runs a program of the system, which must succeed, and returns its output.
async fn run_program(program: &str, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program).args(args).output().await;
    let output = output.with_context(|| format!("{program} is not installed"))?;
    ensure_success(args, &output)?;
    Ok(output.stdout)
}

async fn send_text(node: &Node, connection: &str, text: String) -> anyhow::Result<Message> {
    let request = SendMessage {
        to: vec![connection.to_owned()],
        content: text,
        ..SendMessage::default()
    };
    let sent = node.api()?.send(&request).await?;
    sent.into_iter().next().context("no message")
}

/// Waits until a node has received these messages, and checks that none of them occurs twice.
async fn wait_for_all(node: &Node, sent: &[Message]) -> anyhow::Result<()> {
    let expected: BTreeSet<&str> = sent.iter().map(|message| message.uuid.as_str()).collect();
    let api = node.api()?;
    wait_for("all messages arrive", async || {
        let received = api.list_messages(Direction::In).await?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for message in received {
            *counts.entry(message.uuid).or_default() += 1;
        }
        ensure!(counts.values().all(|count| *count == 1), "a message twice");
        Ok(expected
            .iter()
            .all(|uuid| counts.contains_key(*uuid))
            .then_some(()))
    })
    .await
}

async fn wait_until_healthy(node: &Node) -> anyhow::Result<()> {
    let api = node.api()?;
    wait_for("the connection is healed", async || {
        let connections = api.list_connections().await?;
        let is_healthy = connections
            .iter()
            .all(|connection| connection.health.state == HealthState::Ok);
        Ok(is_healthy.then_some(()))
    })
    .await
}

async fn wait_until_delivered(node: &Node, sent: &[Message]) -> anyhow::Result<()> {
    for message in sent {
        node.api()?
            .wait_for_status(&message.id, DeliveryStatus::Delivered)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn restored_node_receives_everything_once() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files::new(&env)?;
    let acme = env.start_node("Acme", DeliveryMode::Webhook).await?;
    let mut bolt = env.start_node("Bolt", DeliveryMode::Pull).await?;
    let connected = pair(&acme, &bolt).await?;
    let (to_bolt, to_acme) = (&connected.inviter.id, &connected.invitee.id);
    let attachment = |name: &str| Sample {
        name: name.to_owned(),
        content: name.as_bytes().repeat(9_999),
    };
    let first = send(&acme.api()?, to_bolt, "first", &[attachment("before.bin")]).await?;
    let received = bolt.api()?.wait_for_message(&first.uuid).await?;
    bolt.api()?.mark_read(&received.id).await?;
    deliver(&bolt, &acme, to_acme, "an answer").await?;

    let backup = files.path("bolt.age")?;
    run(bolt.home(), &["backup", &backup, "--recipient", RECIPIENT]).await?;
    let verified = run(
        bolt.home(),
        &["backup", "verify", &backup, "--identity", &files.identity],
    )
    .await?;
    ensure!(
        verified.contains("Bolt") && verified.contains("1 file"),
        "{verified}"
    );

    let mut sent = vec![first];
    let late = attachment("after.bin");
    sent.push(
        send(
            &acme.api()?,
            to_bolt,
            "late file",
            std::slice::from_ref(&late),
        )
        .await?,
    );
    for number in 0..LATE_MESSAGES {
        sent.push(send_text(&acme, to_bolt, format!("late {number}")).await?);
    }
    let mut answers = Vec::new();
    for number in 0..9 {
        answers.push(send_text(&bolt, to_acme, format!("late answer {number}")).await?);
    }
    wait_until_delivered(&acme, &sent).await?;
    wait_until_delivered(&bolt, &answers).await?;
    bolt.stop().await?;
    fs::remove_dir_all(bolt.home().directory())?;
    let restore = ["restore", &backup, "--identity", &files.identity];
    run(bolt.home(), &restore).await?;

    let started = Instant::now();
    let concurrent = async {
        let mut sent = Vec::new();
        for number in 0..CONCURRENT_MESSAGES {
            sent.push(send_text(&acme, to_bolt, format!("concurrent {number}")).await?);
        }
        anyhow::Ok(sent)
    };
    let (concurrent, start) = tokio::join!(concurrent, bolt.start());
    start?;
    sent.extend(concurrent?);
    let answer = send_text(&bolt, to_acme, "after the restore".to_owned()).await?;
    wait_until_healthy(&acme).await?;
    wait_until_healthy(&bolt).await?;
    wait_for_all(&bolt, &sent).await?;
    let elapsed = started.elapsed();
    ensure!(elapsed < HEALING_MAX, "healed after {elapsed:?}");
    answers.push(answer);
    wait_for_all(&acme, &answers).await?;
    wait_until_delivered(&acme, &sent).await?;
    check_restored(&bolt, &sent, &late).await?;
    deliver(&acme, &bolt, to_bolt, "as before").await?;
    deliver(&bolt, &acme, to_acme, "as before, too").await?;
    stop_all(env, [acme, bolt]).await
}

/// Checks the files, the status and the system message of the restored node.
async fn check_restored(bolt: &Node, sent: &[Message], late: &Sample) -> anyhow::Result<()> {
    let api = bolt.api()?;
    for (message, name) in [(&sent[0], "before.bin"), (&sent[1], "after.bin")] {
        let received = api.wait_for_message(&message.uuid).await?;
        let file = received.attachments.first().context("no file")?;
        let content = name.as_bytes().repeat(9_999);
        ensure!(
            api.download_digest(&file.id).await? == digest(&content),
            "{name}"
        );
    }
    ensure!(late.name == "after.bin");
    let received = api.list_messages(Direction::In).await?;
    let is_sent = |uuid: &str| sent.iter().any(|message| message.uuid == uuid);
    let others: Vec<&Message> = received.iter().filter(|one| !is_sent(&one.uuid)).collect();
    let [system] = others.as_slice() else {
        anyhow::bail!("{} messages that nobody sent", others.len());
    };
    ensure!(system.is_system && system.content.contains("was restored on"));
    let node = api.fetch_node().await?;
    let restoration = node.restoration.context("the restore is not reported")?;
    ensure!(
        restoration.state == RestorationState::Done,
        "{restoration:?}"
    );
    ensure!(restoration.connections == 1 && restoration.healing == 0);
    let shown = run(bolt.home(), &["show", &system.id]).await?;
    ensure!(shown.contains("Sealpost (about Acme)"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn event_positions_from_before_a_restore_are_gone() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files::new(&env)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let backup = files.path("acme.age")?;
    run(acme.home(), &["backup", &backup, "--recipient", RECIPIENT]).await?;
    acme.stop().await?;
    fs::remove_dir_all(acme.home().directory())?;
    run(
        acme.home(),
        &["restore", &backup, "--identity", &files.identity],
    )
    .await?;
    acme.start().await?;
    let client = Client::open(acme.home().directory())?;
    let error = client.events(Some(9)).await.map(drop).unwrap_err();
    ensure!(error.code() == "events_gone", "{error}");
    let after = error.to_string();
    let after: String = after.chars().filter(char::is_ascii_digit).collect();
    client.events(Some(after.parse()?)).await?;
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn backups_are_exchanged_with_age() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files::new(&env)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let (backup, archive) = (files.path("acme.age")?, files.path("acme.tar")?);
    run(acme.home(), &["backup", &backup, "--recipient", RECIPIENT]).await?;
    run_program(
        "age",
        &["-d", "-i", &files.identity, "-o", &archive, &backup],
    )
    .await?;
    let listed = String::from_utf8(run_program("tar", &["tf", &archive]).await?)?;
    let expected = ["backup.json", "key", "data-key", "node.db", "SHA256SUMS"];
    ensure!(listed.lines().eq(expected), "{listed}");
    let again = files.path("again.age")?;
    run_program("age", &["-r", RECIPIENT, "-o", &again, &archive]).await?;
    acme.stop().await?;
    let before = fs::read(acme.home().directory().join("key"))?;
    fs::remove_dir_all(acme.home().directory())?;
    run(
        acme.home(),
        &["restore", &again, "--identity", &files.identity],
    )
    .await?;
    ensure!(fs::read(acme.home().directory().join("key"))? != before);
    acme.start().await?;
    acme.wait_until_connected().await?;
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn unusable_backups_say_what_to_do() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files::new(&env)?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let home = acme.home();
    let (right, wrong) = (files.path("right.txt")?, files.path("wrong.txt")?);
    write_secret(Path::new(&right), "correct horse\n")?;
    write_secret(Path::new(&wrong), "wrong horse\n")?;
    let backup = files.path("acme.age")?;
    let create = ["backup", &backup, "--passphrase-file", &right];
    run(home, &create).await?;
    expect_failure(home, &create, "exists already").await?;
    let verify = ["backup", "verify", &backup, "--passphrase-file"];
    run(home, &[&verify[..], &[&right]].concat()).await?;
    expect_failure(
        home,
        &[&verify[..], &[&wrong]].concat(),
        "passphrase is wrong",
    )
    .await?;
    let restore = ["restore", &backup, "--passphrase-file"];
    let restore_right = [&restore[..], &[&right]].concat();
    expect_failure(home, &restore_right, "in use by another process").await?;
    expect_failure(
        home,
        &["restore", &right, "--passphrase-file", &right],
        "not an age file",
    )
    .await?;

    let elsewhere = files.path("elsewhere")?;
    let other = Path::new(&elsewhere);
    let into = |args: &[&str]| {
        let args: Vec<String> = ["--data", &elsewhere]
            .iter()
            .chain(args)
            .map(|&arg| arg.to_owned())
            .collect();
        args
    };
    for (args, words) in [
        ([&restore[..], &[&wrong]].concat(), "passphrase is wrong"),
        (
            [&restore_right[..], &["--fingerprint", "00"]].concat(),
            "is of the node",
        ),
    ] {
        let args = into(&args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        expect_failure_anywhere(&env, &args, words).await?;
        ensure!(!other.exists(), "a refused restore wrote something");
    }
    fs::create_dir(other)?;
    fs::write(other.join("mine"), "")?;
    let args = into(&restore_right);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    expect_failure_anywhere(&env, &args, "is not empty").await?;
    ensure!(fs::read_dir(other)?.count() == 1);
    stop_all(env, [acme]).await
}

/// Like [`expect_failure`], on the data directory that the arguments name.
async fn expect_failure_anywhere(
    env: &Environment,
    args: &[&str],
    words: &str,
) -> anyhow::Result<()> {
    let args: Vec<&std::ffi::OsStr> = args.iter().map(std::ffi::OsStr::new).collect();
    let role = sealpost_demo::roles::Role::NodeCommand;
    let output = env.program().output(role, &args).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && stderr.contains(words) && stderr.contains("next: "),
        "{args:?}: {stderr}"
    );
    Ok(())
}

#[tokio::test]
async fn backup_on_a_full_disk_leaves_nothing() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(8)? else {
        return Ok(());
    };
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    disk.fill()?;
    let backup = path_text(&disk.path().join("acme.age"))?;
    let create = ["backup", &backup, "--recipient", RECIPIENT];
    expect_failure(acme.home(), &create, "No space left on device").await?;
    let names: Vec<_> = fs::read_dir(disk.path())?.collect();
    ensure!(names.len() == 1, "{names:?}");
    disk.free_space()?;
    run(acme.home(), &create).await?;
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn scheduled_backups_are_reported() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files::new(&env)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    acme.stop().await?;
    let config = acme.home().directory().join("node.toml");
    let (target, passphrase) = (files.path("backups")?, files.path("passphrase")?);
    let incomplete = "[backup]\nevery = \"1 day\"\n";
    fs::write(&config, incomplete)?;
    expect_failure(acme.home(), &["serve"], "set backup.directory too").await?;
    expect_failure(acme.home(), &["serve"], "next:  correct the setting").await?;
    write_secret(Path::new(&passphrase), "correct horse\n")?;
    fs::write(
        &config,
        format!("{incomplete}directory = {target:?}\npassphrase_file = {passphrase:?}\n"),
    )?;
    acme.start().await?;
    let api = acme.api()?;
    wait_for("the failure is reported", async || {
        let backup = api.fetch_node().await?.backup.context("no backups")?;
        Ok(backup.failure)
    })
    .await?;
    let status = run(acme.home(), &["status"]).await?;
    ensure!(status.contains("failed: "), "{status}");
    acme.stop().await?;
    fs::create_dir(&target)?;
    acme.start().await?;
    let api = acme.api()?;
    wait_for("the backup is reported", async || {
        let backup = api.fetch_node().await?.backup.context("no backups")?;
        ensure!(backup.failure.is_none(), "{backup:?}");
        Ok(backup.last_at)
    })
    .await?;
    let made: Vec<_> = fs::read_dir(&target)?.collect::<Result<_, _>>()?;
    let [made] = made.as_slice() else {
        anyhow::bail!("{} backups", made.len());
    };
    let made = path_text(&made.path())?;
    let verify = ["backup", "verify", &made, "--passphrase-file", &passphrase];
    run(acme.home(), &verify).await?;
    stop_all(env, [acme]).await
}
