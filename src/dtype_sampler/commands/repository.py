"""What git knows of a clone, and a worktree of its own in which to go from commit to commit."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dtype_sampler.commands.interrupts import Interrupts
from dtype_sampler.errors import DtypeSamplerError

# What a hook of git's sets, which would lead all of ours to that repository: as
# `git rev-parse --local-env-vars` lists them.
_LOCAL = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS"),
    *(
        "GIT_CONFIG_COUNT",
        "GIT_OBJECT_DIRECTORY",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_IMPLICIT_WORK_TREE",
    ),
    *("GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE"),
    *("GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_COMMON_DIR", "GIT_INTERNAL_SUPER_PREFIX"),
)
# Neither the hooks of the clone, which may change anything, nor what tidies it up.
_QUIET = (
    *("-c", f"core.hooksPath={os.devnull}", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    *("-c", "advice.detachedHead=false", "-c", "core.fsmonitor=false"),
)
# The commits of a bisection that may be the first bad one.
_SUSPECTS = ("refs/bisect/bad", "--not", "--glob=refs/bisect/good-*")
# Bytes of what git says; a list of all files of a repository is longer than its errors.
_TAIL = 1 << 24


def without_git(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that leads git to no repository but that of the folder it runs in."""
    return {name: value for name, value in environment.items() if name not in _LOCAL}


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """Who made a commit, when and why."""

    commit: str
    author: str
    date: str
    subject: str


class Repository:
    """A clone with a working tree. top: where that is."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        """Raises DtypeSamplerError if the folder is in no working tree, or there is no git."""
        self._interrupts = interrupts
        self._folder = folder
        self._environment = {**without_git(os.environ), "LC_ALL": "C", "LANGUAGE": ""}
        inside = self._try("rev-parse", "--is-inside-work-tree")
        if inside is None or inside.strip() != "true":
            raise DtypeSamplerError(
                f"{folder}: is in no working tree of git, so there are no commits to go through:"
                " run it where the tests are"
            )
        self.top = Path(os.path.realpath(self.git("rev-parse", "--show-toplevel").rstrip("\n")))

    def _run(self, *arguments: str, folder: Path | None = None) -> tuple[int, str]:
        command = ["git", "--no-optional-locks", *_QUIET, *arguments]
        try:
            return self._interrupts.run(
                command, folder=folder or self._folder, environment=self._environment, tail=_TAIL
            )
        except FileNotFoundError:
            raise DtypeSamplerError("there is no git on the path, which this needs") from None
        except OSError as error:
            raise DtypeSamplerError(f"git can't be run: {error.strerror}") from None

    def _try(self, *arguments: str, folder: Path | None = None) -> str | None:
        """What git says; None if it fails."""
        code, said = self._run(*arguments, folder=folder)
        return None if code else said

    def git(self, *arguments: str, folder: Path | None = None, may: Sequence[int] = ()) -> str:
        """What git says. may: exit codes that are no failure. Raises DtypeSamplerError."""
        code, said = self._run(*arguments, folder=folder)
        if code and code not in may:
            raise DtypeSamplerError(f"git {' '.join(arguments)}: {said.strip() or f'exit {code}'}")
        return said

    def has(self, commit: str) -> bool:
        """Whether the commit is in this clone."""
        return self._try("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def resolve(self, name: str) -> str:
        """The full hash of what a person calls a commit. Raises DtypeSamplerError."""
        found = self._try(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        # Older ones of git repeat the end of the options.
        last = (found or "").split()[-1:]
        if not last:
            raise DtypeSamplerError(f"{name}: this clone has no such commit")
        return last[0]

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether *other* is *one*, or came of it."""
        return self._try("merge-base", "--is-ancestor", one, other) is not None

    @cached_property
    def shallow(self) -> bool:
        """Whether the clone lacks its oldest history."""
        return (self._try("rev-parse", "--is-shallow-repository") or "").strip() == "true"

    def has_file(self, commit: str, path: str) -> bool:
        """Whether there is such a file at a commit. path: from the top, with `/`."""
        return self._try("cat-file", "-e", f"{commit}:{path}") is not None

    def renamed(self, commit: str, path: str) -> tuple[str, str] | None:
        """The last commit up to this one that gave a file its name, and what it was called before.

        path: from the top, with `/`.
        """
        said = self._try(
            *("-c", "core.quotePath=false", "log", "-1", "--follow", "-M", "--diff-filter=R"),
            *("--format=%H", "--name-status", commit, "--", path),
            folder=self.top,
        )
        found = re.search(r"(?m)^([0-9a-f]{40,64})\n+R[0-9]*\t([^\t\n]*)\t", said or "")
        return (found[1], found[2]) if found else None

    def tracked(self, paths: Sequence[str]) -> list[str]:
        """Those of some paths, from the top, that are under version control."""
        if not paths:
            return []
        said = self.git("--literal-pathspecs", "ls-files", "-z", "--", *paths, folder=self.top)
        return [path for path in said.split("\0") if path]

    def count(self, good: str, bad: str) -> int:
        """How many commits there are after *good*, up to *bad*."""
        return int(self.git("rev-list", "--count", bad, f"^{good}"))

    def facts(self, commit: str) -> CommitFacts:
        """Who made a commit, when and why."""
        form = "%H%x00%an <%ae>%x00%aI%x00%s"
        return CommitFacts(
            *self.git("log", "-1", f"--format={form}", commit).rstrip("\n").split("\0")
        )


class Worktree:
    """A working tree beside the user's own, with a bisection of its own. folder: where it is."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository = repository
        self.folder = folder

    def _git(self, *arguments: str, may: Sequence[int] = ()) -> str:
        return self._repository.git(*arguments, folder=self.folder, may=may)

    def go(self, commit: str) -> None:
        """Check a commit out."""
        self._git("checkout", "-q", "--force", "--detach", commit)

    def tidy(self) -> None:
        """Remove whatever the commit checked out does not have: nothing stays for the next one."""
        self._git("reset", "-q", "--hard")
        self._git("clean", "-ffdxq")

    def begin(self, good: str, bad: str) -> None:
        """Begin to bisect, and check the first commit out."""
        self._git("bisect", "start")
        self._git("bisect", "bad", bad)
        self._git("bisect", "good", good)

    def mark(self, word: str) -> None:
        """Say what the commit is, `good`, `bad` or `skip`, and go on to the next."""
        # 2: only skipped ones are left.
        self._git("bisect", word, may=(2,))

    @property
    def commit(self) -> str:
        """The commit that is checked out."""
        return self._git("rev-parse", "HEAD").strip()

    # What `git bisect` says is for people, and its words have changed. So where it has come to is
    # asked of git's plumbing.

    @property
    def left(self) -> int:
        """About how many more steps are left."""
        said = self._git("rev-list", "--bisect-vars", *_SUSPECTS)
        return int(re.findall(r"(?m)^bisect_steps=([0-9]+)", said)[0])

    def found(self) -> list[str]:
        """The first bad commit, or those of which one is it; none while it goes on."""
        # What is known to be bad, and then all that may have made it so.
        suspects = self._git("rev-list", *_SUSPECTS).split()
        skipped = self._git("for-each-ref", "--format=%(objectname)", "refs/bisect/skip-*").split()
        return suspects if set(skipped).issuperset(suspects[1:]) else []


@contextmanager
def worktree(repository: Repository, interrupts: Interrupts, commit: str) -> Iterator[Worktree]:
    """A worktree with nothing checked out, and nothing of it left in the end, whatever happens.

    Interruptions are held while it is made and removed. commit: any one of the clone.
    """
    interrupts.hold()
    # git names real paths.
    room = Path(os.path.realpath(tempfile.mkdtemp(prefix="dtype-bisect-")))
    # The name is the worktree's for git too.
    tree = room / room.name
    try:
        repository.git("worktree", "add", "-q", "--detach", "--no-checkout", str(tree), commit)
        try:
            interrupts.release()
            yield Worktree(repository, tree)
        finally:
            interrupts.hold()
    finally:
        # Of this one alone, without `git worktree prune`, which would tidy up the user's own.
        repository.git("worktree", "remove", "--force", "--force", str(tree), may=range(1, 256))
        shutil.rmtree(room, ignore_errors=True)
        # Where something in it could not be removed at once, git has kept its name.
        repository.git("worktree", "remove", "--force", "--force", str(tree), may=range(1, 256))
        if room.exists():
            # Such as what a container has left as another user.
            sys.stderr.write(f"dtype-sampler: {room}: can't be removed: please do that\n")
