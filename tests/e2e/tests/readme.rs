//! The README's first exchange, as a newcomer types it: the commands of its code blocks, word for word, in three shells in an
//! empty home folder. Only the port numbers are others, because those of the README may be taken on this machine.
//!
//! A block says whose terminal it is for (```` ```sh acme ````). The block `install` is compared and not run: it builds for
//! minutes what this package has built already.

mod support;

use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{ports::free_port, process::tail, roles::Role, wait::PATIENCE};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::Stdio,
};
use support::program;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

const README: &str = include_str!("../../../README.md");
const INSTALL: &str = "\
cargo install --locked --path relay    # sealpost-relay
cargo install --locked --path node     # sealpost: the daemon and the command line
";
/// What a shell prints behind each block, with the block's exit code.
const MARK: &str = "the block ended with";

/// The file with what the commands print on standard error.
const COMPLAINTS: &str = "stderr.log";

/// A terminal in which commands are typed.
struct Terminal {
    shell: Child,
    keyboard: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    async fn open(home: &Path) -> anyhow::Result<Self> {
        let path = format!("{}:/usr/bin:/bin", home.join("bin").display());
        let mut shell = Command::new("bash")
            .arg("--norc")
            .env_clear()
            .envs([("HOME", home.as_os_str()), ("PATH", path.as_ref())])
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().append(true).create(true).open(home.join(COMPLAINTS))?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (mut keyboard, screen) = (shell.stdin.take().context("stdin")?, shell.stdout.take().context("stdout")?);
        keyboard.write_all(format!("trap 'printf \"\\n%s %s\\n\" \"{MARK}\" $?' EXIT\n").as_bytes()).await?;
        Ok(Self { shell, keyboard, screen: BufReader::new(screen).lines() })
    }

    /// Types a block whose commands end; returns what they print.
    async fn run(&mut self, block: &str) -> anyhow::Result<String> {
        let typed = format!("set -e\n{block}\nset +e\nprintf '\\n%s %s\\n' '{MARK}' \"$?\"\n");
        self.keyboard.write_all(typed.as_bytes()).await?;
        let mut printed = String::new();
        while let Some(line) = timeout(PATIENCE, self.screen.next_line()).await?? {
            if let Some(code) = line.strip_prefix(MARK) {
                ensure!(code.trim() == "0", "a command failed in:\n{block}\nIt printed:\n{printed}");
                return Ok(printed);
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        bail!("the shell ended in:\n{block}")
    }

    /// Types a block whose last command stays in the foreground, and waits for a line of it.
    async fn run_until(&mut self, block: &str, wanted: &str) -> anyhow::Result<()> {
        self.keyboard.write_all(format!("{block}\n").as_bytes()).await?;
        while let Some(line) = timeout(PATIENCE, self.screen.next_line()).await?? {
            if line.contains(wanted) {
                return Ok(());
            }
        }
        bail!("it ended before it said \"{wanted}\":\n{block}")
    }
}

impl Drop for Terminal {
    /// What runs in the background of a closed terminal goes with it.
    fn drop(&mut self) {
        let group = self.shell.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// The blocks of the README that are marked, in order.
fn blocks() -> Vec<(String, String)> {
    let (mut blocks, mut open) = (Vec::new(), None::<(String, String)>);
    for line in README.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => text.extend([line, "\n"]),
            (None, Some(info)) => open = Some((info.to_owned(), String::new())),
            (None, None) => {}
        }
    }
    let mark = |(info, text): (String, String)| Some((info.strip_prefix("sh ")?.to_owned(), text));
    blocks.into_iter().filter_map(mark).collect()
}

/// The README's ports, and free ones.
fn ports() -> anyhow::Result<BTreeMap<&'static str, String>> {
    ["8440", "4680", "4681", "4690"].into_iter().map(|port| Ok((port, free_port()?.to_string()))).collect()
}

fn with_free_ports(block: &str, ports: &BTreeMap<&'static str, String>) -> String {
    let mut block = ports
        .iter()
        .fold(block.to_owned(), |text, (port, free)| text.replace(&format!(":{port}"), &format!(":{free}")));
    // The defaults, which the README does not write.
    block =
        block.replace("sealpost-relay serve", &format!("sealpost-relay serve --listen 127.0.0.1:{}", ports["8440"]));
    if block.contains("init --name Acme") {
        block = block.replace("init --name Acme", &format!("init --name Acme --listen 127.0.0.1:{}", ports["4680"]));
    }
    block
}

/// What a person sees on the screen before going on with a block.
fn awaited(block: &str) -> Option<&'static str> {
    const AWAITED: [(&str, &str); 4] = [
        ("sealpost invite", "until sealpost status >/dev/null 2>&1; do sleep 0.05; done"),
        ("sealpost connect ", "until sealpost status >/dev/null 2>&1; do sleep 0.05; done"),
        ("connections accept", "until sealpost connections | grep -q Bolt; do sleep 0.05; done"),
        ("files save", "until sealpost inbox --json | grep -q '\"ready\"'; do sleep 0.05; done"),
    ];
    AWAITED.into_iter().find(|(command, _)| block.contains(command)).map(|(_, wait)| wait)
}

#[tokio::test]
async fn the_first_exchange_of_the_readme_works_as_it_stands() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    exchange(home.path()).await.with_context(|| tail(&home.path().join(COMPLAINTS)))
}

async fn exchange(home: &Path) -> anyhow::Result<()> {
    let (bin, ports) = (home.join("bin"), ports()?);
    fs::create_dir(&bin)?;
    program().write_script(&bin.join("sealpost"), Role::NodeCommand, &[])?;
    program().write_script(&bin.join("sealpost-relay"), Role::RelayCommand, &[])?;
    let mut terminals = BTreeMap::new();
    let mut printed = BTreeMap::<String, String>::new();
    for (who, block) in blocks() {
        let block = with_free_ports(&block, &ports);
        if who == "install" {
            assert_eq!(block, INSTALL);
            continue;
        }
        if !terminals.contains_key(&who) {
            terminals.insert(who.clone(), Terminal::open(home).await?);
        }
        let terminal = terminals.get_mut(&who).context("a terminal")?;
        if who == "relay" {
            terminal.run_until(&block, "listening on").await?;
            continue;
        }
        if let Some(wait) = awaited(&block) {
            terminal.run(wait).await?;
        }
        printed.entry(who).or_default().push_str(&terminal.run(&block).await?);
    }
    let (acme, bolt) = (&printed["acme"], &printed["bolt"]);
    assert!(acme.contains("Bolt here, about order 4711") && acme.contains("Accepted."), "{acme}");
    assert!(bolt.contains("Please see") && bolt.contains("order.txt"), "{bolt}");
    assert_eq!(fs::read_to_string(home.join("received/order.txt"))?, "forty housings\n");
    Ok(())
}
