#!/usr/bin/env python3
"""Prints the median and the 90th percentile of the lengths of functions and files, in lines.

    sizes.py [DIR]

Reads all Rust files of the tree. The length of a function is that of its whole item, from `fn` to the
closing brace, as rustfmt lays it out; trait methods without a body do not count.
"""

import pathlib
import re
import sys

FUNCTION = re.compile(r"^( *)(?:pub(?:\([a-z ]+\))? )?(?:(?:const|async|unsafe|extern) )*fn ")


def function_lengths(lines):
    """Yields the length of each function of a file."""
    for start, line in enumerate(lines):
        if not (match := FUNCTION.match(line)):
            continue
        closing = match.group(1) + "}"
        for end in range(start, len(lines)):
            if lines[end] == closing or (end == start and line.endswith("}")):
                yield end - start + 1
                break
            if lines[end].endswith(";") and lines[end].startswith(match.group(1)) and "{" not in "".join(lines[start : end + 1]):
                break


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def main():
    directory = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    files = [path for path in directory.rglob("*.rs") if "target" not in path.relative_to(directory).parts]
    texts = [path.read_text().splitlines() for path in files]
    lengths = {
        "functions": sorted(length for lines in texts for length in function_lengths(lines)),
        "files": sorted(len(lines) for lines in texts),
    }
    for name, values in lengths.items():
        print(f"{name}: {len(values)}, median {percentile(values, 0.5)}, p90 {percentile(values, 0.9)}, longest {values[-1]}")


if __name__ == "__main__":
    main()
