//! The operator's guide (`docs/operating.md`), command by command, as an administrator types it, in an empty home folder.
//! Only ports are others, `/etc` and `/var` stand below that folder, and the relay's public name is its address here.
//!
//! A block of commands says whose terminal it is for (```` ```sh relay ````); `stays` behind it means that its last command
//! stays in the foreground, and the guide goes on when it has said what the next block shows. A block ```` ```text ```` is
//! what the commands before it print, with `…` for what differs from run to run. A block that needs what a test machine has
//! not says so (```` ```sh elsewhere: systemd ````), and why is one of [`ELSEWHERE`].

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{process::tail, roles::Role};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use support::program;
use terminal::{Block, COMPLAINTS, Ports, Terminal, blocks};

const GUIDE: &str = include_str!("../../../docs/operating.md");
/// What a machine of the tests has not: a service manager that runs, a container engine, a public name with its certificate.
const ELSEWHERE: [&str; 3] = ["systemd", "container engine", "public name"];
/// The ports of the guide.
const PORTS: [&str; 7] = ["8440", "8441", "8443", "4680", "4681", "4690", "9090"];

/// What a person sees before going on behind a node that was started in the background.
const ANSWERS: &str = "until sealpost status >/dev/null 2>&1; do sleep 0.05; done";

/// A home folder with the programs, and the terminals that are open in it.
struct Desk {
    home: PathBuf,
    ports: Ports,
    terminals: BTreeMap<String, Terminal>,
    /// What the last block printed.
    printed: String,
}

impl Desk {
    fn set_up(home: &Path) -> anyhow::Result<Self> {
        for folder in ["bin", "etc", "var/lib", "var/backups"] {
            fs::create_dir_all(home.join(folder))?;
        }
        program().write_script(&home.join("bin/sealpost"), Role::NodeCommand, &[])?;
        program().write_script(&home.join("bin/sealpost-relay"), Role::RelayCommand, &[])?;
        let ports = Ports::instead_of(PORTS)?;
        Ok(Self {
            home: home.to_owned(),
            ports,
            terminals: BTreeMap::new(),
            printed: String::new(),
        })
    }

    /// What is typed here for what the guide says.
    fn adapt(&self, text: &str) -> String {
        let text = text.replace("https://relay.example", "http://127.0.0.1:8440");
        let text = self.ports.put_into(&text);
        ["/etc/", "/var/"].into_iter().fold(text, |text, root| {
            let here = format!("{}{root}", self.home.display());
            text.split_inclusive(char::is_whitespace)
                .map(|word| match word.find(root) {
                    Some(at) if at == 0 || !word.as_bytes()[at - 1].is_ascii_alphanumeric() => {
                        word.replacen(root, &here, 1)
                    }
                    _ => word.to_owned(),
                })
                .collect()
        })
    }

    async fn terminal(&mut self, who: &str) -> anyhow::Result<&mut Terminal> {
        if !self.terminals.contains_key(who) {
            let terminal = Terminal::open(&self.home).await?;
            self.terminals.insert(who.to_owned(), terminal);
        }
        self.terminals.get_mut(who).context("a terminal")
    }

    /// Types a block, or looks at what the one before has printed.
    async fn follow(&mut self, block: &Block, next: Option<&Block>) -> anyhow::Result<()> {
        let text = self.adapt(&block.text);
        match block.info.split_once(' ').unwrap_or((&block.info, "")) {
            ("sh", "") => bail!("say for whom this block is, or why it does not run here:\n{text}"),
            ("sh", info) => match (
                info.strip_prefix("elsewhere: "),
                info.strip_suffix(" stays"),
            ) {
                (Some(why), _) => ensure!(
                    ELSEWHERE.contains(&why),
                    "no reason to leave a block out: {why}"
                ),
                (None, Some(who)) => {
                    let said = next
                        .filter(|next| next.info == "text")
                        .context("what it says when it is ready")?;
                    let said = self.adapt(said.text.trim_end());
                    self.terminal(who).await?.run_until(&text, &said).await?;
                    self.printed = said;
                }
                (None, None) => {
                    let terminal = self.terminal(info).await?;
                    let printed = terminal.run(&text).await?;
                    if text.contains("sealpost serve") {
                        terminal.run(ANSWERS).await?;
                    }
                    self.printed = printed;
                }
            },
            ("text", _) => shows(&self.printed, &text)?,
            ("toml" | "yaml" | "nginx" | "mermaid", file) => self.keep(file, &text)?,
            (other, _) => bail!("the guide has no blocks of this kind: {other}"),
        }
        Ok(())
    }

    /// A block with the name of a file is that file.
    fn keep(&self, file: &str, text: &str) -> anyhow::Result<()> {
        if file.is_empty() {
            return Ok(());
        }
        let path = PathBuf::from(self.adapt(file));
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, text)?)
    }
}

/// Whether the lines stand in what was printed, in this order; `…` is anything, blanks count once.
fn shows(printed: &str, wanted: &str) -> anyhow::Result<()> {
    let mut lines = printed.lines();
    for line in wanted.lines().filter(|line| !line.trim().is_empty()) {
        ensure!(
            lines.any(|printed| fits(printed, line)),
            "the guide shows:\n{line}\nBut this was printed:\n{printed}"
        );
    }
    Ok(())
}

fn fits(printed: &str, wanted: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut rest, wanted) = (words(printed), words(wanted));
    let mut pieces = wanted.split('…').map(str::trim);
    match pieces
        .next()
        .and_then(|first| rest.strip_prefix(first).map(str::to_owned))
    {
        Some(behind) => rest = behind,
        None => return false,
    }
    let ends_open = wanted.ends_with('…');
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest[at + piece.len()..].to_owned(),
            None => return false,
        }
    }
    ends_open || rest.trim().is_empty()
}

#[tokio::test]
async fn the_operators_guide_works_as_it_stands() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut desk = Desk::set_up(home.path())?;
    let blocks = blocks(GUIDE);
    for (number, block) in blocks.iter().enumerate() {
        let followed = desk.follow(block, blocks.get(number + 1)).await;
        followed
            .with_context(|| format!("{}\n{}", block.text, tail(&home.path().join(COMPLAINTS))))?;
    }
    Ok(())
}

#[test]
fn an_output_is_compared_line_by_line() {
    assert!(
        shows(
            "NAME  STATE\nAcme   ready  3 s ago\n",
            "NAME STATE\nAcme ready …"
        )
        .is_ok()
    );
    assert!(shows("a\nb\nc\n", "a\nc").is_ok());
    assert!(shows("a\nb\n", "b\na").is_err());
    assert!(shows("Acme broken\n", "Acme ready …").is_err());
    assert!(shows("ready, more\n", "ready").is_err());
    assert!(shows("version 0.1.0 of it\n", "version … of it").is_ok());
}
