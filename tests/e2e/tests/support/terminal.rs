//! A terminal in which the commands of a document are typed, and the code blocks of a document.

use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{ports::free_port, wait::PATIENCE};
use std::{collections::BTreeMap, fs::File, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// What a shell prints behind each block, with the block's exit code.
const MARK: &str = "the block ended with";

/// The file with what the commands print on standard error.
pub(crate) const COMPLAINTS: &str = "stderr.log";

/// A terminal in which commands are typed.
pub(crate) struct Terminal {
    shell: Child,
    keyboard: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    pub(crate) async fn open(home: &Path) -> anyhow::Result<Self> {
        let path = format!("{}:/usr/bin:/bin", home.join("bin").display());
        let mut shell = Command::new("bash")
            .arg("--norc")
            .env_clear()
            .envs([("HOME", home.as_os_str()), ("PATH", path.as_ref())])
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(
                File::options()
                    .append(true)
                    .create(true)
                    .open(home.join(COMPLAINTS))?,
            )
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (mut keyboard, screen) = (
            shell.stdin.take().context("stdin")?,
            shell.stdout.take().context("stdout")?,
        );
        keyboard
            .write_all(format!("trap 'printf \"\\n%s %s\\n\" \"{MARK}\" $?' EXIT\n").as_bytes())
            .await?;
        Ok(Self {
            shell,
            keyboard,
            screen: BufReader::new(screen).lines(),
        })
    }

    /// Types a block whose commands end; returns what they print.
    pub(crate) async fn run(&mut self, block: &str) -> anyhow::Result<String> {
        let typed = format!("set -e\n{block}\nset +e\nprintf '\\n%s %s\\n' '{MARK}' \"$?\"\n");
        self.keyboard.write_all(typed.as_bytes()).await?;
        let mut printed = String::new();
        while let Some(line) = timeout(PATIENCE, self.screen.next_line()).await?? {
            if let Some(code) = line.strip_prefix(MARK) {
                ensure!(
                    code.trim() == "0",
                    "a command failed in:\n{block}\nIt printed:\n{printed}"
                );
                return Ok(printed);
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        bail!("the shell ended in:\n{block}")
    }

    /// Types a block whose last command stays in the foreground, and waits for a line of it.
    pub(crate) async fn run_until(&mut self, block: &str, wanted: &str) -> anyhow::Result<()> {
        self.keyboard
            .write_all(format!("{block}\n").as_bytes())
            .await?;
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
        let group = self
            .shell
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// The ports of a document, and free ones in their places.
pub(crate) struct Ports(BTreeMap<&'static str, u16>);

impl Ports {
    pub(crate) fn instead_of<const N: usize>(written: [&'static str; N]) -> anyhow::Result<Self> {
        Ok(Self(
            written
                .into_iter()
                .map(|port| Ok((port, free_port()?)))
                .collect::<anyhow::Result<_>>()?,
        ))
    }

    /// The text with free ports, none of them replaced again: `:46801` begins like `:4680`.
    pub(crate) fn put_into(&self, text: &str) -> String {
        let mark =
            |text: String, port: &&str| text.replace(&format!(":{port}"), &format!(":{{{port}}}"));
        let marked = self.0.keys().fold(text.to_owned(), mark);
        self.0.iter().fold(marked, |text, (port, free)| {
            text.replace(&format!("{{{port}}}"), &free.to_string())
        })
    }
}

/// A code block of a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands behind the opening fence.
    pub(crate) info: String,
    /// Its lines.
    pub(crate) text: String,
}

/// The code blocks of a Markdown document, in order.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in document.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, Some(info)) => {
                open = Some(Block {
                    info: info.to_owned(),
                    text: String::new(),
                })
            }
            (None, None) => {}
        }
    }
    blocks
}
