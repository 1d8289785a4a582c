"""Builds the sdist and the wheel, and tries them as somebody does who has no checkout.

The wheel is built from the sdist alone. Then: does the metadata, README included, render where it
is published; is no file missing or astray; do the entry points work; does every block of the README
do as it says where there is nothing but the wheel and what it asks for; are books merged where
there is no torch; and does the whole suite, as the sdist brings it along, pass with the wheel that
is installed and no sources in sight.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
PACKAGE = "dtype_sampler"
# Of no use to who has the sdist.
ONLY_IN_THE_REPOSITORY = (".ci/", ".github/", ".pre-commit-config.yaml")
MADE = ("PKG-INFO",)
# Python compiles what it imports; pip would compile all of torch.
QUICK = ("--quiet", "--no-compile")


def main(arguments: Sequence[str] | None = None) -> None:
    """Stop with a message at the first thing that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="all but the suite")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="put the files there if all is well"
    )
    parser.add_argument("--tag", help="of the release: it must name this version")
    parser.add_argument("pytest", nargs="*", help="options for pytest, after `--`")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dist = Path(folder) / "dist"
        run("build", "--outdir", dist, ROOT)
        (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
        if options.tag:
            check_tag(options.tag, sdist.name.removesuffix(".tar.gz").rpartition("-")[2])
        run("twine", "check", "--strict", sdist, wheel)
        check_contents(sdist, wheel)
        install(wheel)
        away = unpacked(sdist, Path(folder))
        check_installed(away)
        check_alone(wheel, Path(folder) / "alone", away)
        check_light(wheel, Path(folder) / "books")
        if not options.quick:
            guard = ("-p", "tests.packaging.installed")
            run(
                "pytest",
                *guard,
                *(options.pytest or ("-n", "auto", "--dist", "worksteal")),
                cwd=away,
            )
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for file in (sdist, wheel):
                shutil.copy2(file, options.keep)
                print(f"kept: {options.keep / file.name}")


def run(
    module: str,
    *arguments: object,
    cwd: Path = ROOT,
    python: Path | str = sys.executable,
    **more: str,
) -> None:
    """Run a module; exit if it fails. python: of which environment. more: of the process's own."""
    # Nothing of the caller's may lead to the sources.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", module, *map(str, arguments)]
    print("$", *command[1:], flush=True)
    if code := subprocess.run(command, cwd=cwd, env=env | more).returncode:
        raise SystemExit(f"{module} ended with {code}")


def check_tag(tag: str, version: str) -> None:
    """Hold the tag and the changelog to the version."""
    if tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, and the version {version}")
    if f"\n## [{version}] - " not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        raise SystemExit(f"CHANGELOG.md says nothing of {version}: date what is unreleased")


def check_contents(sdist: Path, wheel: Path) -> None:
    """Hold both to the files of the repository: all of them, and nothing else."""
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = in_repository()
    compare(sdist.name, in_sdist - set(MADE), files)
    sources = f"src/{PACKAGE}/"
    compare(wheel.name, in_wheel, {name.removeprefix("src/") for name in files if sources in name})


def in_repository() -> set[str]:
    """The files that git tracks or would track, but for those that are not to be shipped."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}
    return {name for name in names if not name.startswith(ONLY_IN_THE_REPOSITORY)}


def compare(what: str, found: set[str], wanted: set[str]) -> None:
    """Exit, naming the files, if there are too few or too many."""
    wrong = [f"lacks {name}" for name in sorted(wanted - found)]
    wrong += [f"should not have {name}" for name in sorted(found - wanted)]
    if wrong:
        raise SystemExit("\n".join(f"{what} {one}" for one in wrong))
    print(f"{what}: {len(found)} files, as in the repository", flush=True)


def install(wheel: Path) -> None:
    """Install the wheel, and what it asks for."""
    run("pip", "install", *QUICK, wheel)
    # The version may be the one that is there.
    run("pip", "install", *QUICK, "--force-reinstall", "--no-deps", wheel)
    run("pip", "check")


def unpacked(sdist: Path, folder: Path) -> Path:
    """The folder of what the sdist holds, without the sources."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "away", filter="data")
    (away,) = (folder / "away").iterdir()
    shutil.rmtree(away / "src")
    return away


def check_alone(wheel: Path, folder: Path, away: Path) -> None:
    """Run the README where pip has brought the wheel and what it asks for, and nothing else."""
    run("venv", folder)
    python = python_of(folder)
    # Of all torches the one that is here: the newest may be gigabytes.
    torch = f"torch=={version('torch').partition('+')[0]}"
    run("pip", "install", *QUICK, wheel, torch, python=python)
    run("pip", "check", python=python)
    run(PACKAGE, "--version", cwd=away, python=python)
    guard = ("-p", "tests.packaging.installed")
    readme = "tests/docs/test_pages.py::test_page[README.md]"
    run("pytest", *guard, readme, cwd=away, python=python, ALONE="1")


BOOKS = """
import pytest, torch

def test_books(random_dtypes):
    for dtype in random_dtypes(k=2):
        torch.ones(1, dtype=dtype)
"""


def check_light(wheel: Path, folder: Path) -> None:
    """Merge and show books as docs/how-to/github-actions.md has it, where there is no torch."""
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_books.py").write_text(BOOKS, encoding="utf-8")
    ledgers = [f"{seed}.sqlite" for seed in (1, 2)]
    for seed, ledger in enumerate(ledgers, start=1):
        run("pytest", "-q", f"--dtype-seed={seed}", f"--dtype-ledger={ledger}", cwd=folder)
    run("venv", folder / "light")
    python = python_of(folder / "light")
    run("pip", "install", *QUICK, "pytest", "jinja2", python=python)
    run("pip", "install", *QUICK, "--no-deps", wheel, python=python)
    for arguments in (
        ("combine", *ledgers, "--into", "all.sqlite"),
        ("report", "--ledger=all.sqlite", "--fail-under=100"),
        ("report", "--ledger=all.sqlite", "--format=markdown"),
        ("report", "--ledger=all.sqlite", "--format=html", "--output=all.html"),
        ("plan", "--ledger=all.sqlite"),
    ):
        run(PACKAGE, *arguments, cwd=folder, python=python)


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    (found,) = (*environment.glob("bin/python"), *environment.glob("Scripts/python.exe"))
    return found


def check_installed(away: Path) -> None:
    """Try the module, the command and the plugin by what the metadata says of them."""
    run("tests.packaging.installed", cwd=away)
    run(PACKAGE, "--help", cwd=away)
    command = shutil.which("dtype-sampler", path=str(Path(sys.executable).parent))
    if command is None or subprocess.run([command, "--help"], stdout=subprocess.DEVNULL).returncode:
        raise SystemExit("the command dtype-sampler does not work")


if __name__ == "__main__":
    main()
