//! The relay as a process of its own, which can be signalled and killed.

use crate::support::Reserved;
use rustix::process::{Pid, Signal, kill_process};
use sealpost_proto::Origin;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Ends the process also when the test fails.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts it, and waits until it listens; gives also where.
    pub(crate) fn serve(arguments: impl FnOnce(&mut Command)) -> (Self, Origin) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealpost-relay"));
        command.arg("serve").stdout(Stdio::piped());
        arguments(&mut command);
        let mut process = Self(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let origin = line
            .trim()
            .strip_prefix("listening on ")
            .expect("it listens");
        (process, Origin::parse(origin).unwrap())
    }

    /// An open relay on a folder and an address, so that it can be killed and started again.
    pub(crate) fn serve_in(folder: &Path, place: &Reserved) -> (Self, Origin) {
        Self::serve(|command| {
            command.args([
                "--registration",
                "open",
                "--admin-listen",
                "off",
                "--storage-reserve-bytes",
                "8388608",
            ]);
            command
                .args(["--listen", &place.address.to_string(), "--data"])
                .arg(folder);
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// SIGKILL, and no trace of it left.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
