"""Makes the pictures of README and docs from real runs: `python docs/pictures/make.py`.

terminal.svg: a run of the README's first test, and the report after it. heat-map.png: the HTML
report of two runs of the suite beside this file, by a headless Chromium (`DTYPE_SAMPLER_CHROMIUM`
names it).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import dtype_sampler

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"

COLUMNS, SIZE, ADVANCE, LEADING, MARGIN = 104, 14, 8.43, 19, 20
# On a dark ground of its own, the picture is the same on light and on dark pages.
GROUND, INK, DIM = "#12161c", "#d5dbe3", "#8b96a5"
COLOURS = dict(
    zip(
        ("30", "31", "32", "33", "34", "35", "36", "37"),
        ("#5c6773", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", INK),
        strict=True,
    )
)
_ESCAPE = re.compile(r"\x1b\[([\d;]*)m")


def run(folder: Path, command: str, **environment: str) -> str:
    """What a command prints in a terminal that knows colours."""
    program, *rest = shlex.split(command)
    module = {"pytest": "pytest", "dtype-sampler": "dtype_sampler"}[program]
    # Other plugins of this environment have no part in the picture.
    others = ("randomly", "rerunfailures", "hypothesispytest", "xdist")
    plain = {"PYTEST_ADDOPTS": " ".join(f"-p no:{name}" for name in others)}
    # The package that this process has, wherever it is.
    plain["PYTHONPATH"] = str(Path(dtype_sampler.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", module, *rest],
        cwd=folder,
        env={**os.environ, **plain, "COLUMNS": str(COLUMNS), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


def terminal(lines: list[str]) -> str:
    """Lines with ANSI colours as an SVG."""
    wrapped = [part for line in lines for part in wrap(line)]
    width = round(COLUMNS * ADVANCE + 2 * MARGIN)
    height = len(wrapped) * LEADING + 2 * MARGIN
    text = [
        f'<text x="{MARGIN}" y="{MARGIN + SIZE + number * LEADING}">{spans(line)}</text>'
        for number, line in enumerate(wrapped)
        if line
    ]
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" viewBox="0 0 {width} {height}"'
    look = f' font-family="{fonts}" font-size="{SIZE}" fill="{INK}">'
    ground = f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>'
    return "\n".join([head + look, ground, *text, "</svg>\n"])


def wrap(line: str) -> list[str]:
    """A line in pieces as wide as the terminal; colour codes have no width."""
    pieces, column = [""], 0
    for part in re.split(r"(\x1b\[[\d;]*m)", line):
        if _ESCAPE.fullmatch(part):
            pieces[-1] += part
            continue
        for character in part:
            if column == COLUMNS:
                pieces.append("")
                column = 0
            pieces[-1] += character
            column += 1
    return pieces


def spans(line: str) -> str:
    """A line's text with its colours as SVG."""
    shown, column, style = [], 0, ""
    for number, part in enumerate(_ESCAPE.split(line)):
        if number % 2:
            style = styled(style, part)
        elif part:
            # Each piece at its column, and of its width, whatever font there is.
            place = f'x="{MARGIN + column * ADVANCE:g}" textLength="{len(part) * ADVANCE:g}"'
            # Plain spaces would run together.
            words = escape(part, quote=False).replace(" ", "\u00a0")
            shown.append(f"<tspan {place}{style}>{words}</tspan>")
            column += len(part)
    return "".join(shown)


def styled(style: str, codes: str) -> str:
    """The attributes that an escape sequence leads to."""
    for code in codes.split(";"):
        if code in ("", "0", "00"):
            style = ""
        elif code == "1":
            style += ' font-weight="bold"'
        elif code in ("2", "90"):
            style = f' fill="{DIM}"'
        elif len(code) == 2 and code[0] in "39" and f"3{code[1]}" in COLOURS:
            style = re.sub(' fill="[^"]*"', "", style) + f' fill="{COLOURS[f"3{code[1]}"]}"'
    return style


def draw_terminal(folder: Path) -> None:
    """The picture of a failure."""
    source = re.search(
        r"```python\n(# test_activations\.py\n.*?)```", README.read_text(), re.DOTALL
    )
    assert source is not None
    (folder / "test_activations.py").write_text(source[1])
    lines = []
    for command in ("pytest --dtype-seed=1234", "dtype-sampler report"):
        printed = run(folder, command, PY_COLORS="1", FORCE_COLOR="1")
        lines += [f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m", *printed.splitlines(), ""]
    # An address, a temporary folder and the plugins of this environment say nothing to others.
    hidden = ("rootdir:", "plugins:", "random_dtypes = ")
    text = "\n".join(line for line in lines if not line.startswith(hidden)).strip()
    # Nor that they were left out.
    text = re.sub(r"( -p no:\w+)+$", "", text, flags=re.MULTILINE)
    shown = re.sub(r"\n\n\n+", "\n\n", text).splitlines()
    (HERE / "terminal.svg").write_text(terminal(shown), encoding="utf-8")


def draw_heat_map(folder: Path) -> None:
    """The picture of the report."""
    shutil.copytree(HERE / "suite", folder, dirs_exist_ok=True)
    for seed in (1, 2):
        run(folder, f"pytest -q --dtype-seed={seed}")
    run(folder, "dtype-sampler report --format=html -o report.html")
    page = folder / "report.html"
    # The map alone: what stands above it would fill the picture.
    style = "<style>header, .top, #runs-section { display: none !important }</style></head>"
    page.write_text(page.read_text(encoding="utf-8").replace("</head>", style), encoding="utf-8")
    chromium = os.environ.get("DTYPE_SAMPLER_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("no Chromium here: install one, or name it with DTYPE_SAMPLER_CHROMIUM")
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-background-networking", "--hide-scrollbars"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=1000,850"),
            *("--force-device-scale-factor=1.5", f"--screenshot={HERE / 'heat-map.png'}"),
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Make both."""
    for draw in (draw_terminal, draw_heat_map):
        with TemporaryDirectory() as folder:
            draw(Path(folder))


if __name__ == "__main__":
    main()
