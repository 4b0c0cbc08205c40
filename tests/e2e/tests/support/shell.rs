//! Shells that run the commands of a document, and the code blocks of a document.

use anyhow::{Context as _, bail, ensure};
use sealpost_demo::{ports::reserve_port, wait::WAIT_TIMEOUT};
use std::{collections::BTreeMap, fs::File, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Marker that a shell prints after each block, followed by the block's exit code.
const END_MARKER: &str = "the block ended with";

/// Name of the file with the standard error of the commands.
pub(crate) const STDERR_LOG: &str = "stderr.log";

/// Shell that runs blocks of commands.
pub(crate) struct Shell {
    process: Child,
    stdin: ChildStdin,
    stdout_lines: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    pub(crate) async fn start(home: &Path) -> anyhow::Result<Self> {
        let path = format!("{}:/usr/bin:/bin", home.join("bin").display());
        let mut process = Command::new("bash")
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
                    .open(home.join(STDERR_LOG))?,
            )
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (mut stdin, stdout) = (
            process.stdin.take().context("no standard input")?,
            process.stdout.take().context("no standard output")?,
        );
        stdin
            .write_all(
                format!("trap 'printf \"\\n%s %s\\n\" \"{END_MARKER}\" $?' EXIT\n").as_bytes(),
            )
            .await?;
        Ok(Self {
            process,
            stdin,
            stdout_lines: BufReader::new(stdout).lines(),
        })
    }

    /// Runs a block whose commands exit; returns their output.
    pub(crate) async fn run(&mut self, block: &str) -> anyhow::Result<String> {
        let script =
            format!("set -e\n{block}\nset +e\nprintf '\\n%s %s\\n' '{END_MARKER}' \"$?\"\n");
        self.stdin.write_all(script.as_bytes()).await?;
        let mut printed = String::new();
        while let Some(line) = timeout(WAIT_TIMEOUT, self.stdout_lines.next_line()).await?? {
            if let Some(code) = line.strip_prefix(END_MARKER) {
                ensure!(
                    code.trim() == "0",
                    "a command failed in:\n{block}\nIt printed:\n{printed}"
                );
                return Ok(printed);
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        bail!("the shell exited in:\n{block}")
    }

    /// Runs a block whose last command stays in the foreground, and waits until it prints `wanted`.
    pub(crate) async fn run_until(&mut self, block: &str, wanted: &str) -> anyhow::Result<()> {
        self.stdin
            .write_all(format!("{block}\n").as_bytes())
            .await?;
        while let Some(line) = timeout(WAIT_TIMEOUT, self.stdout_lines.next_line()).await?? {
            if line.contains(wanted) {
                return Ok(());
            }
        }
        bail!("the shell exited before it printed \"{wanted}\":\n{block}")
    }
}

impl Drop for Shell {
    /// Kills the whole process group, including background processes.
    fn drop(&mut self) {
        let group = self
            .process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Map from the ports of a document to reserved ports.
pub(crate) struct PortMap(BTreeMap<&'static str, u16>);

impl PortMap {
    pub(crate) fn reserve<const N: usize>(
        document_ports: [&'static str; N],
    ) -> anyhow::Result<Self> {
        Ok(Self(
            document_ports
                .into_iter()
                .map(|port| Ok((port, reserve_port()?)))
                .collect::<anyhow::Result<_>>()?,
        ))
    }

    /// Replaces the ports in a text. It uses placeholders, because a new port such as `:46801` may
    /// contain an old one such as `:4680`.
    pub(crate) fn replace_in(&self, text: &str) -> String {
        let insert_placeholder =
            |text: String, port: &&str| text.replace(&format!(":{port}"), &format!(":{{{port}}}"));
        let with_placeholders = self.0.keys().fold(text.to_owned(), insert_placeholder);
        self.0
            .iter()
            .fold(with_placeholders, |text, (port, reserved)| {
                text.replace(&format!("{{{port}}}"), &reserved.to_string())
            })
    }
}

/// Code block of a Markdown document.
#[derive(Debug)]
pub(crate) struct Block {
    /// Text after the opening fence.
    pub(crate) info: String,
    /// Lines of the block.
    pub(crate) text: String,
}

/// Returns the code blocks of a Markdown document in order.
pub(crate) fn code_blocks(document: &str) -> Vec<Block> {
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
