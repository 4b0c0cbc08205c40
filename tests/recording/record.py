#!/usr/bin/env python3
"""Runs a command in a pseudo-terminal and renders its output as an animated SVG.

    record.py OUTPUT.svg COMMAND [ARGUMENT ...]

The terminal has COLUMNS by LINES characters. Each row of the screen becomes
text elements that are visible while the row showed that text, so a recording of a minute
stays below 100 KB. Exits with the status of the command.
"""

import codecs
import fcntl
import html
import os
import pathlib
import pty
import select
import struct
import sys
import termios
import time

import pyte

COLUMNS, LINES = 100, 40
# Changes within this time are shown as one.
FRAME_SECONDS = 0.08
# The demo takes about a second, so each screen is shown for at least this long.
SCREEN_SECONDS = 0.9
# The last screen stays for this long before the recording starts again.
HOLD_SECONDS = 8.0
FONT_SIZE, ROW_HEIGHT, CHARACTER_WIDTH, MARGIN = 14, 19, 8.43, 16
BACKGROUND, FOREGROUND = "#16181d", "#d8dee9"
COLOURS = {
    "black": "#4c566a",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "yellow": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#ffffff",
}


def record(command):
    """Runs the command; returns its status and a list of (seconds, rows)."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(LINES))
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.Stream(screen)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    start, frames, is_open = time.monotonic(), [], True
    while is_open:
        deadline = time.monotonic() + FRAME_SECONDS
        while (remaining := deadline - time.monotonic()) > 0:
            if not select.select([terminal], [], [], remaining)[0]:
                continue
            try:
                output = os.read(terminal, 65536)
            except OSError:
                output = b""
            if not output:
                is_open = False
                break
            stream.feed(decoder.decode(output))
        rows = [row_spans(screen.buffer[line]) for line in range(LINES)]
        if not frames or frames[-1][1] != rows:
            frames.append((time.monotonic() - start, rows))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, slow_down(frames)


def slow_down(frames):
    """Delays frames so that each is shown for at least `SCREEN_SECONDS`."""
    slowed, earliest = [], 0.0
    for seconds, rows in frames:
        slowed.append((max(seconds, earliest), rows))
        earliest = slowed[-1][0] + SCREEN_SECONDS
    return slowed


def row_spans(row):
    """Groups the characters of a row by style: a tuple of (column, text, colour, is_bold)."""
    spans = []
    for column in range(COLUMNS):
        cell = row[column]
        style = (COLOURS.get(cell.fg, FOREGROUND if cell.fg == "default" else f"#{cell.fg}"), cell.bold)
        if spans and spans[-1][2:] == style:
            spans[-1] = (spans[-1][0], spans[-1][1] + cell.data, *style)
        else:
            spans.append((column, cell.data, *style))
    return tuple(span for span in spans if span[1].strip())


def intervals(frames, line, end):
    """Yields (from, to, spans) for each text that a row showed."""
    begin, shown = 0.0, ()
    for seconds, rows in frames:
        if rows[line] != shown:
            if shown:
                yield begin, seconds, shown
            begin, shown = seconds, rows[line]
    if shown:
        yield begin, end, shown


def render(frames):
    """Renders the frames as an SVG document."""
    end = frames[-1][0] + HOLD_SECONDS
    used = max(index for _, rows in frames for index, row in enumerate(rows) if row) + 1
    width, height = round(COLUMNS * CHARACTER_WIDTH) + 2 * MARGIN, used * ROW_HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>Recording of the demo</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
        f'<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="{FONT_SIZE}"'
        f' fill="{FOREGROUND}" xml:space="preserve">',
    ]
    for line in range(used):
        y = MARGIN + (line + 0.75) * ROW_HEIGHT
        for begin, until, spans in intervals(frames, line, end):
            texts = "".join(span_element(*span) for span in spans)
            parts.append(f'<text y="{y:.1f}">{texts}{animation(begin, until, end)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def span_element(column, text, colour, is_bold):
    """Renders characters of one style, stretched to their columns whatever the font is."""
    text, x = text.rstrip(), MARGIN + column * CHARACTER_WIDTH
    weight = ' font-weight="bold"' if is_bold else ""
    length = f'textLength="{len(text) * CHARACTER_WIDTH:.1f}"'
    return f'<tspan x="{x:.1f}" {length} fill="{colour}"{weight}>{html.escape(text)}</tspan>'


def animation(begin, until, end):
    """Shows an element from `begin` to `until`, in a loop of `end` seconds."""
    if begin == 0 and until == end:
        return ""
    times, values = ["0"], ["visible" if begin == 0 else "hidden"]
    if begin > 0:
        times.append(f"{begin / end:.4f}")
        values.append("visible")
    if until < end:
        times.append(f"{until / end:.4f}")
        values.append("hidden")
    return (
        f'<animate attributeName="visibility" calcMode="discrete" dur="{end:.2f}s" repeatCount="indefinite"'
        f' keyTimes="{";".join(times)}" values="{";".join(values)}"/>'
    )


def main():
    output, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
    status, frames = record(command)
    if status == 0:
        output.write_text(render(frames))
        print(f"{output}: {len(frames)} frames, {frames[-1][0]:.0f} s, {output.stat().st_size // 1024} KB")
    sys.exit(status)


if __name__ == "__main__":
    main()
