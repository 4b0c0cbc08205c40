#!/usr/bin/env python3
"""Runs every test binary many times, to find flaky tests.

    repeat.py RUNS [FILTER]

Runs each binary alone RUNS times, then all binaries concurrently RUNS times, so that each one runs on
a busy machine. FILTER selects the binaries whose name contains it. Prints each failure with
the file that has its output, and exits with 1 if there was one.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time


def build_test_binaries(name_filter):
    """Builds the tests; returns (name, executable, package directory) of each test binary."""
    build = ["cargo", "test", "--locked", "--workspace", "--no-run", "--message-format=json"]
    output = subprocess.run(build, check=True, stdout=subprocess.PIPE).stdout
    binaries = []
    for line in output.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-artifact" or not message["profile"]["test"] or not message["executable"]:
            continue
        directory = pathlib.Path(message["manifest_path"]).parent
        name = f"{directory.name}::{message['target']['name']}"
        if name_filter in name:
            binaries.append((name, message["executable"], directory))
    return sorted(binaries)


class Runs:
    """Counts failures and keeps the output of each."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="repeat-"))
        self.failures = 0

    def start(self, binary, run):
        """Starts a binary; returns what `finish` needs."""
        name, executable, directory = binary
        log = self.directory / f"{name.replace('::', '-')}-{run}.log"
        process = subprocess.Popen([executable], cwd=directory, stdout=log.open("wb"), stderr=subprocess.STDOUT)
        return name, run, log, process

    def finish(self, started):
        """Waits for a binary; keeps its output only if a test failed."""
        name, run, log, process = started
        if process.wait() == 0:
            log.unlink()
            return
        self.failures += 1
        failed = {line.split()[1] for line in log.read_text(errors="replace").splitlines() if line.endswith("... FAILED")}
        print(f"{name}, run {run}: {', '.join(sorted(failed)) or 'did not finish'} ({log})", flush=True)


def main():
    count, name_filter = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    binaries, runs = build_test_binaries(name_filter), Runs()
    for binary in binaries:
        begin = time.monotonic()
        for run in range(1, count + 1):
            runs.finish(runs.start(binary, f"alone-{run}"))
        print(f"{binary[0]}: {count} runs alone in {time.monotonic() - begin:.0f} s", flush=True)
    for run in range(1, count + 1):
        begin = time.monotonic()
        for started in [runs.start(binary, f"together-{run}") for binary in binaries]:
            runs.finish(started)
        print(f"all at once, run {run}: {time.monotonic() - begin:.0f} s", flush=True)
    print(f"{runs.failures} failed runs")
    sys.exit(runs.failures > 0)


if __name__ == "__main__":
    main()
