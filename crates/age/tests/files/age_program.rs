//! Files exchanged with the `age` program (Debian package `age`), in both directions.
//!
//! Without the program, these tests report on standard error that they were not run; `tests/run`
//! installs it.

use crate::support::{
    CHUNK_BYTES, IDENTITIES, content, encrypt, identity, passphrase, rng, unlock,
};
use sealpost_age::{EncryptedFile, Encryptor, Identity, Recipient, WorkFactor};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Sizes at which chunks end, and one within a chunk.
const SIZES: [usize; 6] = [
    0,
    1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES + 500,
];
const PASSPHRASE: &str = "correct horse battery staple";

/// The `age` program, and a directory for its files.
struct AgeProgram {
    directory: TempDir,
}

impl AgeProgram {
    /// Returns `None`, and reports it, if the program is not installed.
    fn find() -> Option<Self> {
        let version = Command::new("age").arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            // Not `eprintln`, which the test harness captures.
            let message = "NOT RUN: exchange of files with `age`, which is not installed";
            let _ = writeln!(io::stderr(), "{message}");
            return None;
        }
        let directory = TempDir::new().unwrap();
        Some(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Decrypts a file with an identity. Returns the plaintext if `age` succeeds.
    fn decrypt(&self, file: &[u8], identity: &str) -> Option<Vec<u8>> {
        let key = self.write("key", identity.as_bytes());
        let mut command = Command::new("age");
        command.arg("--decrypt").arg("--identity").arg(key);
        let output = command.arg(self.write("file", file)).output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    fn encrypt(&self, plaintext: &[u8], recipients: &[Recipient]) -> Vec<u8> {
        let mut command = Command::new("age");
        for recipient in recipients {
            command.arg("--recipient").arg(recipient.to_string());
        }
        let output = command.arg(self.write("plaintext", plaintext)).output();
        require_success(output.unwrap()).stdout
    }

    /// Runs `age` on a file with lines typed at its terminal, and returns what it writes to another
    /// file if it succeeds.
    fn run_at_terminal(&self, option: &str, input: &Path, typed: &str) -> Option<Vec<u8>> {
        let output = self.path("output");
        let _ = fs::remove_file(&output);
        let command = format!("age {option} -o {} {}", output.display(), input.display());
        // Reads passphrases from the terminal only, so `script` provides one.
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Stays open, because `script` would send an end of input.
        let mut terminal = script.stdin.take().unwrap();
        terminal.write_all(typed.as_bytes()).unwrap();
        let status = script.wait().unwrap();
        drop(terminal);
        status.success().then(|| fs::read(output).unwrap())
    }
}

fn require_success(output: Output) -> Output {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "age failed: {message}");
    output
}

#[test]
fn age_decrypts_what_is_encrypted_to_recipients() {
    let Some(age) = AgeProgram::find() else {
        return;
    };
    for size in SIZES {
        let plaintext = content(size);
        let recipients = [0, 1].map(|index| identity(index).recipient());
        let output = Vec::new();
        let mut encryptor = Encryptor::for_recipients(output, &recipients, &mut rng(3)).unwrap();
        encryptor.write_all(&plaintext).unwrap();
        let file = encryptor.finish().unwrap();
        for identity in &IDENTITIES[..2] {
            let decrypted = age.decrypt(&file, identity);
            assert!(decrypted.as_ref() == Some(&plaintext), "{size} bytes");
        }
        assert_eq!(age.decrypt(&file, IDENTITIES[2]), None);
    }
}

#[test]
fn age_refuses_truncated_files() {
    let Some(age) = AgeProgram::find() else {
        return;
    };
    let file = encrypt(&content(2 * CHUNK_BYTES));
    for len in [file.len() - 1, file.len() - CHUNK_BYTES - 16] {
        assert_eq!(age.decrypt(&file[..len], IDENTITIES[0]), None);
    }
}

#[test]
fn files_of_age_decrypt_for_each_recipient() {
    let Some(age) = AgeProgram::find() else {
        return;
    };
    let recipients = [0, 1, 2].map(|index| identity(index).recipient());
    for size in SIZES {
        let plaintext = content(size);
        let file = age.encrypt(&plaintext, &recipients);
        for index in 0..recipients.len() {
            let mut decrypted = Vec::new();
            let mut decryptor = unlock(&file, identity(index)).unwrap();
            decryptor.read_to_end(&mut decrypted).unwrap();
            assert!(decrypted == plaintext, "{size} bytes");
        }
    }
}

#[test]
fn keys_of_age_keygen_are_accepted() {
    if AgeProgram::find().is_none() {
        return;
    }
    let output = require_success(Command::new("age-keygen").output().unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let recipient = Recipient::parse(line("# public key: ").unwrap()).unwrap();
    let key = text.lines().find(|line| line.starts_with("AGE-")).unwrap();
    assert_eq!(Identity::parse(key).unwrap().recipient(), recipient);
    assert_eq!(line("# public key: "), Some(recipient.to_string().as_str()));
}

#[test]
fn age_decrypts_with_the_passphrase() {
    let Some(age) = AgeProgram::find() else {
        return;
    };
    let plaintext = content(CHUNK_BYTES + 1);
    let (passphrase, work_factor) = (passphrase(PASSPHRASE), WorkFactor::default());
    let mut encryptor =
        Encryptor::for_passphrase(Vec::new(), &passphrase, work_factor, &mut rng(4)).unwrap();
    encryptor.write_all(&plaintext).unwrap();
    let file = age.write("file", &encryptor.finish().unwrap());
    let decrypt = |typed: &str| age.run_at_terminal("--decrypt", &file, typed);
    assert!(decrypt(&format!("{PASSPHRASE}\n")) == Some(plaintext));
    assert_eq!(decrypt("wrong\n"), None);
}

#[test]
fn file_of_age_decrypts_with_the_passphrase() {
    let Some(age) = AgeProgram::find() else {
        return;
    };
    let plaintext = content(CHUNK_BYTES + 1);
    let input = age.write("plaintext", &plaintext);
    let typed = format!("{PASSPHRASE}\n{PASSPHRASE}\n");
    let file = age.run_at_terminal("--passphrase", &input, &typed).unwrap();
    let Ok(EncryptedFile::Passphrase(file)) = EncryptedFile::read(file.as_slice()) else {
        panic!("the file has a passphrase");
    };
    assert_eq!(file.work_factor(), WorkFactor::default());
    let mut decrypted = Vec::new();
    let mut decryptor = file.unlock(&passphrase(PASSPHRASE)).unwrap();
    decryptor.read_to_end(&mut decrypted).unwrap();
    assert!(decrypted == plaintext);
}
