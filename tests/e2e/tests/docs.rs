//! The operator's guide (`docs/operating.md`), command by command, as an administrator types it, in
//! an empty home directory. Only the ports differ, `/etc` and `/var` are below that directory, and
//! the relay's public name is its address here. Also the names of tests, error codes and fields that
//! the protocol and the threat model quote.
//!
//! The info string of a block of commands names its user (```` ```sh relay ````). `stays` means
//! that the last command stays in the foreground; the guide continues once the command has printed
//! the next block. `may fail` means that the last command exits with 0 or 1, depending on the
//! machine. A ```` ```text ```` block is the output of the commands before it, with `…` for
//! what differs between runs. A block that a test machine cannot run gives the reason (```` ```sh
//! elsewhere: systemd ````), which must be one of [`UNAVAILABLE`].

use crate::{
    architecture::sources::{find_files, workspace_root},
    support::{
        program,
        shell::{Block, PortMap, STDERR_LOG, Shell, code_blocks},
    },
};
use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{process::log_tail, roles::Role};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const GUIDE: &str = include_str!("../../../docs/operating.md");
const PROTOCOL: &str = include_str!("../../../docs/protocol.md");
const THREAT_MODEL: &str = include_str!("../../../docs/threat-model.md");
/// Requirements that a test machine does not meet: a service manager, a container engine, a public
/// name with its certificate.
const UNAVAILABLE: [&str; 3] = ["systemd", "container engine", "public name"];
/// The ports of the guide.
const PORTS: [&str; 7] = ["8440", "8441", "8443", "4680", "4681", "4690", "9090"];

/// Waits until a node that was started in the background responds.
const DAEMON_RESPONDS: &str = "until sealpost status >/dev/null 2>&1; do sleep 0.05; done";

/// Home directory with the programs and the open shells.
struct Workspace {
    home: PathBuf,
    ports: PortMap,
    shells: BTreeMap<String, Shell>,
    /// Output of the last block.
    printed: String,
}

impl Workspace {
    fn new(home: &Path) -> anyhow::Result<Self> {
        for directory in ["bin", "etc", "var/lib", "var/backups"] {
            fs::create_dir_all(home.join(directory))?;
        }
        program().write_script(&home.join("bin/sealpost"), Role::NodeCommand, &[])?;
        program().write_script(&home.join("bin/sealpost-relay"), Role::RelayCommand, &[])?;
        let ports = PortMap::reserve(PORTS)?;
        Ok(Self {
            home: home.to_owned(),
            ports,
            shells: BTreeMap::new(),
            printed: String::new(),
        })
    }

    /// Adapts paths, ports and names of the guide to this machine.
    fn adapt(&self, text: &str) -> String {
        let text = text.replace("https://relay.example", "http://127.0.0.1:8440");
        let text = self.ports.replace_in(&text);
        ["/etc/", "/var/"].into_iter().fold(text, |text, root| {
            let local = format!("{}{root}", self.home.display());
            text.split_inclusive(char::is_whitespace)
                .map(|word| match word.find(root) {
                    Some(at) if at == 0 || !word.as_bytes()[at - 1].is_ascii_alphanumeric() => {
                        word.replacen(root, &local, 1)
                    }
                    _ => word.to_owned(),
                })
                .collect()
        })
    }

    async fn open_shell(&mut self, user: &str) -> anyhow::Result<&mut Shell> {
        if !self.shells.contains_key(user) {
            let shell = Shell::start(&self.home).await?;
            self.shells.insert(user.to_owned(), shell);
        }
        self.shells.get_mut(user).context("no shell for this user")
    }

    /// Runs a block, or compares it with the output of the previous block.
    async fn run_block(&mut self, block: &Block, next: Option<&Block>) -> anyhow::Result<()> {
        let text = self.adapt(&block.text);
        match block.info.split_once(' ').unwrap_or((&block.info, "")) {
            ("sh", "") => bail!("state the user of this block, or why it cannot run here:\n{text}"),
            ("sh", info) => match (
                info.strip_prefix("elsewhere: "),
                info.strip_suffix(" stays"),
            ) {
                (Some(why), _) => ensure!(
                    UNAVAILABLE.contains(&why),
                    "not a reason to skip a block: {why}"
                ),
                (None, Some(user)) => {
                    let ready_line = next
                        .filter(|next| next.info == "text")
                        .context("the next block must be the line that reports readiness")?;
                    let ready_line = self.adapt(ready_line.text.trim_end());
                    self.open_shell(user)
                        .await?
                        .run_until(&text, &ready_line)
                        .await?;
                    self.printed = ready_line;
                }
                (None, None) => {
                    let (user, text) = match info.strip_suffix(" may fail") {
                        Some(user) => (user, format!("{} || [ $? = 1 ]", text.trim_end())),
                        None => (info, text),
                    };
                    let shell = self.open_shell(user).await?;
                    let printed = shell.run(&text).await?;
                    if text.contains("sealpost serve") {
                        shell.run(DAEMON_RESPONDS).await?;
                    }
                    self.printed = printed;
                }
            },
            ("text", _) => ensure_output_contains(&self.printed, &text)?,
            ("toml" | "ini" | "yaml" | "nginx" | "mermaid", file) => {
                self.write_file(file, &text)?
            }
            (other, _) => bail!("unknown kind of block: {other}"),
        }
        Ok(())
    }

    /// Writes a block with a file name to that file.
    fn write_file(&self, file: &str, text: &str) -> anyhow::Result<()> {
        if file.is_empty() {
            return Ok(());
        }
        let path = PathBuf::from(self.adapt(file));
        fs::create_dir_all(path.parent().context("the path has no parent directory")?)?;
        Ok(fs::write(path, text)?)
    }
}

/// Fails unless the output contains the wanted lines in order. `…` matches anything; runs of blanks
/// match one blank.
fn ensure_output_contains(printed: &str, wanted: &str) -> anyhow::Result<()> {
    let mut lines = printed.lines();
    for line in wanted.lines().filter(|line| !line.trim().is_empty()) {
        ensure!(
            lines.any(|printed| matches_pattern(printed, line)),
            "the guide shows:\n{line}\nThe output is:\n{printed}"
        );
    }
    Ok(())
}

fn matches_pattern(printed: &str, wanted: &str) -> bool {
    let normalize = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut rest, wanted) = (normalize(printed), normalize(wanted));
    let mut pieces = wanted.split('…').map(str::trim);
    match pieces
        .next()
        .and_then(|first| rest.strip_prefix(first).map(str::to_owned))
    {
        Some(after) => rest = after,
        None => return false,
    }
    let allows_more = wanted.ends_with('…');
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest[at + piece.len()..].to_owned(),
            None => return false,
        }
    }
    allows_more || rest.trim().is_empty()
}

#[tokio::test]
async fn operators_guide_works_as_written() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut workspace = Workspace::new(home.path())?;
    let blocks = code_blocks(GUIDE);
    for (number, block) in blocks.iter().enumerate() {
        let result = workspace.run_block(block, blocks.get(number + 1)).await;
        result.with_context(|| {
            format!(
                "{}\n{}",
                block.text,
                log_tail(&home.path().join(STDERR_LOG))
            )
        })?;
    }
    Ok(())
}

/// Returns the names of at least three words that a page has in backticks. The threat model quotes
/// only tests by such names, and the protocol error codes and fields too.
fn quoted_names(page: &str) -> BTreeSet<&str> {
    let is_name = |text: &&str| {
        text.matches('_').count() >= 2
            && text
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    page.split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn quoted_names_exist_in_the_code() -> anyhow::Result<()> {
    let files = find_files(&workspace_root(), &["rs"])?;
    let sources = files.iter().map(fs::read_to_string);
    let sources = sources.collect::<Result<Vec<_>, _>>()?.concat();
    let (names, tests) = (quoted_names(PROTOCOL), quoted_names(THREAT_MODEL));
    ensure!(names.len() > 5 && tests.len() > 30, "{names:?} {tests:?}");
    let missing_names = names.into_iter().filter(|name| !sources.contains(name));
    let missing_tests = tests
        .into_iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")));
    let missing: Vec<_> = missing_names.chain(missing_tests).collect();
    ensure!(missing.is_empty(), "not in the code: {missing:?}");
    Ok(())
}

#[test]
fn quoted_names_are_found() {
    let page = "`a_test_name` of `code` (`retry`, `two_words`):\n```json\n{\"not_a_name\": 1}\n```\n`A_B_C`";
    assert_eq!(quoted_names(page), BTreeSet::from(["a_test_name"]));
}

#[test]
fn output_is_compared_line_by_line() {
    assert!(
        ensure_output_contains(
            "NAME  STATE\nAcme   ready  3 s ago\n",
            "NAME STATE\nAcme ready …"
        )
        .is_ok()
    );
    assert!(ensure_output_contains("a\nb\nc\n", "a\nc").is_ok());
    assert!(ensure_output_contains("a\nb\n", "b\na").is_err());
    assert!(ensure_output_contains("Acme broken\n", "Acme ready …").is_err());
    assert!(ensure_output_contains("ready, more\n", "ready").is_err());
    assert!(ensure_output_contains("version 0.1.0 of it\n", "version … of it").is_ok());
}
