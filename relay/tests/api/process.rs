//! Relay as a separate process, which can be signalled and killed.

use crate::support::ReservedAddress;
use rustix::process::{Pid, Signal, kill_process};
use sealpost_proto::Origin;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Relay process that is killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts a relay, waits until it listens, and returns its origin.
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
            .expect("the relay listens");
        (process, Origin::parse(origin).unwrap())
    }

    /// Starts a relay with open registration on a directory and an address, so that it can be
    /// restarted.
    pub(crate) fn serve_in(directory: &Path, address: &ReservedAddress) -> (Self, Origin) {
        Self::serve(|command| {
            command.args([
                "--registration",
                "open",
                "--admin-listen",
                "off",
                "--storage-reserve-bytes",
                "8 MiB",
            ]);
            command
                .args(["--listen", &address.address.to_string(), "--data"])
                .arg(directory);
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Kills the process with SIGKILL and waits for its end.
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
