//! Protection of a node's data key: by a key file, a passphrase or a credential, changed while the
//! node is stopped, and killed while it is changed.

use crate::support::{program, seed_from_env_or_clock, stop_all};
use anyhow::{Context as _, bail, ensure};
use rand_core::{Rng as _, SeedableRng as _};
use sealpost_demo::{
    environment::Environment,
    node::{DeliveryMode, Home, Node},
    roles::Role,
    wait::WAIT_TIMEOUT,
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

const PASSPHRASE: &str = "correct horse battery";
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
/// Changes that are killed.
const KILLS: u32 = 12;

/// Files of a test.
struct Files(PathBuf);

impl Files {
    fn path(&self, name: &str) -> anyhow::Result<String> {
        let path = self.0.join(name);
        Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
    }

    /// Writes a secret and returns its path.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.path(name)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

async fn run(home: &Home, args: &[&str]) -> anyhow::Result<String> {
    let output = home.run_cli(args).await?;
    ensure_success(args, &output)?;
    Ok(String::from_utf8(output.stdout)?)
}

fn ensure_success(args: &[&str], output: &Output) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {stderr}");
    Ok(())
}

async fn expect_failure(home: &Home, args: &[&str], words: [&str; 2]) -> anyhow::Result<()> {
    ensure_failure(args, &home.run_cli(args).await?, words)
}

/// Checks that a command has failed with these words and with these in its next step.
fn ensure_failure(args: &[&str], output: &Output, words: [&str; 2]) -> anyhow::Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (message, next) = stderr.split_once("next: ").context("no next step")?;
    ensure!(
        !output.status.success() && message.contains(words[0]) && next.contains(words[1]),
        "{args:?}: {stderr}"
    );
    Ok(())
}

/// Names the passphrase file in the settings of a node.
fn set_passphrase_file(node: &Node, path: &str) -> anyhow::Result<()> {
    let config = node.home().directory().join("node.toml");
    Ok(fs::write(
        config,
        format!("[key]\npassphrase_file = {path:?}\n"),
    )?)
}

/// Runs a command of the CLI in a session without a terminal.
async fn run_without_terminal(env: &Environment, args: &[&str]) -> anyhow::Result<Output> {
    let script = env.directory().join("without-terminal");
    if !script.exists() {
        env.program()
            .write_script(&script, Role::NodeCommand, &[])?;
    }
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(script).args(args);
    Ok(command.stdin(Stdio::null()).output().await?)
}

#[tokio::test]
async fn protection_is_changed_in_every_way() -> anyhow::Result<()> {
    let credentials = tempfile::tempdir()?;
    let program = program().with_variable("CREDENTIALS_DIRECTORY", credentials.path());
    let env = Environment::with_relay(program).await?;
    let files = Files(env.directory().to_owned());
    let right = files.write("right", &format!("{PASSPHRASE}\n"))?;
    let wrong = files.write("wrong", "incorrect horse battery\n")?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let before = acme.api()?.fetch_node().await?;
    let to_passphrase = ["key", "change", "--to", "passphrase"];
    let with_file = [&to_passphrase[..], &["--key-passphrase-file", &right]].concat();
    let running = ["in use by another process", "stop the node"];
    expect_failure(acme.home(), &with_file, running).await?;
    acme.stop().await?;

    run(acme.home(), &with_file).await?;
    let data = acme.home().directory().to_owned();
    ensure!(!data.join("key").exists(), "the key file remains");
    let shown = run(acme.home(), &["key", "show"]).await?;
    ensure!(shown.contains("64 MiB, 3 passes, 4 lanes"), "{shown}");
    let serve = ["--data", data.to_str().context("UTF-8")?, "serve"];
    let output = run_without_terminal(&env, &serve).await?;
    ensure_failure(&serve, &output, ["no terminal", "key.passphrase_file"])?;
    set_passphrase_file(&acme, &wrong)?;
    let refused = ["the passphrase is wrong", "try the passphrase again"];
    expect_failure(acme.home(), &["serve"], refused).await?;
    set_passphrase_file(&acme, &right)?;
    acme.start().await?;
    let backup = files.path("running.age")?;
    run(acme.home(), &["backup", &backup, "--recipient", RECIPIENT]).await?;
    acme.stop().await?;

    let text = run(acme.home(), &["key", "generate"]).await?;
    let key = files.write("credential", &text)?;
    let to_credential = ["key", "change", "--to", "credential", "--key-file", &key];
    run(acme.home(), &to_credential).await?;
    let missing = ["no credential sealpost-key", "LoadCredentialEncrypted="];
    expect_failure(acme.home(), &["serve"], missing).await?;
    let passed = credentials.path().join("sealpost-key");
    fs::copy(&key, &passed)?;
    // systemd grants access with an access control list, whose mask is shown as the group's bits.
    fs::set_permissions(&passed, fs::Permissions::from_mode(0o440))?;
    acme.start().await?;
    acme.stop().await?;

    let outside = files.path("outside.key")?;
    let to_file = ["key", "change", "--to", "key-file"];
    let to_outside = [&to_file[..], &["--key-file", &outside]].concat();
    run(acme.home(), &to_outside).await?;
    fs::remove_file(&passed)?;
    acme.start().await?;
    acme.stop().await?;
    let moved = files.path("moved.key")?;
    fs::rename(&outside, &moved)?;
    let missing = ["outside.key is missing", "restore it from a copy"];
    expect_failure(acme.home(), &["serve"], missing).await?;
    run(
        acme.home(),
        &[&to_file[..], &["--current-key-file", &moved]].concat(),
    )
    .await?;
    acme.start().await?;
    let after = acme.api()?.fetch_node().await?;
    ensure!(after.fingerprint == before.fingerprint);
    stop_all(env, [acme]).await
}

#[tokio::test]
async fn new_nodes_choose_their_protection() -> anyhow::Result<()> {
    let credentials = tempfile::tempdir()?;
    let program = program().with_variable("CREDENTIALS_DIRECTORY", credentials.path());
    let env = Environment::with_relay(program).await?;
    let files = Files(env.directory().to_owned());
    let right = files.write("right", PASSPHRASE)?;
    let short = files.write("short", "eleven char\n")?;
    let (origin, parent) = (env.relay.origin(), env.directory().to_owned());
    let init = async |name: &str, args: &[&str]| {
        Node::init_with_args(env.program(), &parent, name, &origin, args).await
    };
    let passphrase = ["--protection", "passphrase", "--key-passphrase-file"];
    let refused = init("Short", &[&passphrase[..], &[&short]].concat()).await;
    let refused = refused.err().context("a short passphrase was accepted")?;
    ensure!(
        format!("{refused:#}").contains("at least 12"),
        "{refused:#}"
    );
    ensure!(!parent.join("short/data-key").exists());
    let mut acme = init("Acme", &[&passphrase[..], &[&right]].concat()).await?;
    set_passphrase_file(&acme, &right)?;
    acme.start().await?;

    let outside = files.path("bolt.key")?;
    let mut bolt = init("Bolt", &["--key-file", &outside]).await?;
    bolt.start().await?;
    let shown = run(bolt.home(), &["key", "show"]).await?;
    ensure!(shown.contains(&outside), "{shown}");
    let text = run(bolt.home(), &["key", "generate"]).await?;
    let key = credentials.path().join("sealpost-key");
    fs::write(&key, text)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400))?;
    let mut core = init("Core", &["--protection", "credential"]).await?;
    core.start().await?;

    let backup = files.path("acme.age")?;
    let secret = ["--passphrase-file", &right];
    run(
        acme.home(),
        &[&["backup", &backup][..], &secret[..]].concat(),
    )
    .await?;
    acme.stop().await?;
    fs::remove_dir_all(acme.home().directory())?;
    let restore = [
        &["restore", &backup][..],
        &secret[..],
        &passphrase,
        &[&right],
    ]
    .concat();
    run(acme.home(), &restore).await?;
    ensure!(!acme.home().directory().join("key").exists());
    // The restored settings name the file of the passphrase.
    acme.start().await?;
    stop_all(env, [acme, bolt, core]).await
}

#[tokio::test]
async fn killed_changes_leave_a_node_that_opens() -> anyhow::Result<()> {
    let seed = seed_from_env_or_clock()?;
    println!("SEALPOST_SEED={seed}");
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    let env = Environment::with_relay(program()).await?;
    let files = Files(env.directory().to_owned());
    let passphrase = files.write("passphrase", PASSPHRASE)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    acme.stop().await?;
    set_passphrase_file(&acme, &passphrase)?;
    let to_passphrase = ["--to", "passphrase", "--key-passphrase-file", &passphrase];
    let changes = [&to_passphrase[..], &["--to", "key-file"]];
    let started = Instant::now();
    for change in changes {
        run(acme.home(), &[&["key", "change"][..], change].concat()).await?;
    }
    let duration = started.elapsed() / 2;
    let log = env.directory().join("change.log");
    for kill in 0..KILLS {
        let change = [&["key", "change"][..], changes[kill as usize % 2]].concat();
        let process = acme.home().start_cli(&change, &log)?;
        tokio::time::sleep(duration * (rng.next_u32() % 110) / 100).await;
        process.kill().await?;
        let backup = files.path(&format!("{kill}.age"))?;
        let args = ["backup", &backup, "--recipient", RECIPIENT];
        run(acme.home(), &args)
            .await
            .with_context(|| format!("after kill {kill}"))?;
    }
    acme.start().await?;
    let leftover = acme.home().directory().join("key.next");
    ensure!(!leftover.exists(), "a staged key file remains");
    stop_all(env, [acme]).await
}

/// Command of the CLI on a terminal of its own.
struct Terminal {
    process: Child,
    output: String,
}

impl Terminal {
    fn start(env: &Environment, name: &str, home: &Home, command: &str) -> anyhow::Result<Self> {
        let script = env.directory().join(name);
        let args = [OsStr::new("--data"), home.directory().as_os_str()];
        env.program()
            .write_script(&script, Role::NodeCommand, &args)?;
        let command = format!("'{}' {command}; stty -a", script.display());
        let mut process = Command::new("script");
        process
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(Self {
            process: process.spawn().context("`script` is not installed")?,
            output: String::new(),
        })
    }

    /// Waits for a question and types an answer.
    async fn answer(&mut self, question: &str, answer: &str) -> anyhow::Result<()> {
        let read = async {
            let stdout = self.process.stdout.as_mut().context("no output")?;
            while !self.output.contains(question) {
                let mut buffer = [0; 1024];
                let len = stdout.read(&mut buffer).await?;
                if len == 0 {
                    bail!("no question {question:?} in {:?}", self.output);
                }
                self.output += &String::from_utf8_lossy(&buffer[..len]);
            }
            anyhow::Ok(())
        };
        timeout(WAIT_TIMEOUT, read).await??;
        let stdin = self.process.stdin.as_mut().context("no input")?;
        Ok(stdin.write_all(answer.as_bytes()).await?)
    }

    /// Waits for the end of the command and returns everything that the terminal showed.
    async fn finish(mut self) -> anyhow::Result<String> {
        let mut rest = Vec::new();
        let stdout = self.process.stdout.as_mut().context("no output")?;
        timeout(WAIT_TIMEOUT, stdout.read_to_end(&mut rest)).await??;
        self.output += &String::from_utf8_lossy(&rest);
        Ok(self.output)
    }
}

/// Whether the terminal shows again what is typed, according to `stty`.
fn shows_input(output: &str) -> bool {
    output.contains(" echo ") && (output.contains(" isig ") || output.contains("\nisig "))
}

#[tokio::test]
async fn passphrases_are_typed_without_being_shown() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    acme.stop().await?;
    let change = "key change --to passphrase";
    let mut terminal = Terminal::start(&env, "typed", acme.home(), change)?;
    let typed = format!("{PASSPHRASE}\n");
    terminal
        .answer("New passphrase of the node: ", &typed)
        .await?;
    terminal
        .answer("The same passphrase again: ", &typed)
        .await?;
    let output = terminal.finish().await?;
    ensure!(output.contains("A passphrase protects"), "{output}");
    ensure!(!output.contains(PASSPHRASE), "the passphrase was shown");
    ensure!(shows_input(&output), "{output}");

    let back = "key change --to key-file";
    let mut terminal = Terminal::start(&env, "interrupted", acme.home(), back)?;
    terminal.answer("Passphrase of the node: ", "\u{3}").await?;
    let output = terminal.finish().await?;
    ensure!(
        output.contains("interrupted") && shows_input(&output),
        "{output}"
    );
    let mut terminal = Terminal::start(&env, "wrong", acme.home(), back)?;
    terminal
        .answer("Passphrase of the node: ", "incorrect horse\n")
        .await?;
    let output = terminal.finish().await?;
    ensure!(output.contains("the passphrase is wrong"), "{output}");
    ensure!(!acme.home().directory().join("key").exists());
    let mut terminal = Terminal::start(&env, "right", acme.home(), back)?;
    terminal.answer("Passphrase of the node: ", &typed).await?;
    let output = terminal.finish().await?;
    ensure!(output.contains("protects the data key"), "{output}");
    acme.start().await?;
    stop_all(env, [acme]).await
}

/// Two secrets on standard input follow each other.
#[tokio::test]
async fn passphrases_are_read_from_standard_input() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let files = Files(env.directory().to_owned());
    let first = files.write("first", PASSPHRASE)?;
    let mut acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    acme.stop().await?;
    let to_passphrase = ["key", "change", "--to", "passphrase"];
    let with_file = [&to_passphrase[..], &["--key-passphrase-file", &first]].concat();
    run(acme.home(), &with_file).await?;
    let script = env.directory().join("piped");
    let args = [OsStr::new("--data"), acme.home().directory().as_os_str()];
    env.program()
        .write_script(&script, Role::NodeCommand, &args)?;
    let mut piped = Command::new(&script);
    piped
        .args(to_passphrase)
        .args([
            "--current-passphrase-file",
            "-",
            "--key-passphrase-file",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let mut process = piped.spawn()?;
    let mut stdin = process.stdin.take().context("no input")?;
    let both = format!("{PASSPHRASE}\nanother horse battery\n");
    stdin.write_all(both.as_bytes()).await?;
    drop(stdin);
    let status = timeout(Duration::from_secs(60), process.wait()).await??;
    ensure!(status.success());
    let second = files.write("second", "another horse battery")?;
    set_passphrase_file(&acme, &second)?;
    acme.start().await?;
    stop_all(env, [acme]).await
}
