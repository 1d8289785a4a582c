"""Which cell a bisection is about, and between which commits: what it says if it can't tell."""

from __future__ import annotations

import subprocess

from clones import KEY, LABELS, LEDGER, culprit, pass_then_fail, source, turns, works


def test_which_of_several(made, bisect):
    clone = made(*turns())
    one, other = clone.commits
    clone.ledger(
        (one, 1, dict.fromkeys(LABELS, "passed")),
        (other, 2, {"f16": "failed", "bf16": "failed", "f32": "passed"}),
    )
    clone.ledger((other, 3, {"a": "suspect", "b": "suspect"}), key="t.py::test", labels=("a", "b"))
    fails = "\n  f16 on cpu: fails\n  bf16 on cpu: fails\n"
    assert bisect(KEY) == (
        1,
        "",
        f"dtype-sampler: {KEY}: which one? Name it with --dtype:{fails}",
    )
    code, _, err = bisect("t.py::test")
    assert code == 1
    assert err.endswith("  b on cpu: one of several that failed\n")


def test_what_is_wrong_is_said_in_one_message(made, bisect, tmp_path, monkeypatch):
    clone = made(*turns())
    one, other = clone.commits
    clone.ledger((one, 1, {"f16": "passed", "torch.f16": "passed"}), labels=("f16", "torch.f16"))
    before = clone.state()

    def said(*arguments):
        code, out, err = bisect(*arguments)
        assert (code, out) == (1, "")
        return err

    assert "did you mean tests/test_layers.py::test_mean?" in said("tests/test_layers::test_mean")
    assert "no dtype of it fails, as far as the ledger knows" in said(KEY)
    assert f"{KEY} has no dtype f64: it has f16, torch.f16" in said(KEY, "--dtype", "f64")
    assert "on no device of the type cuda" in said(KEY, "--device", "cuda")
    assert "f16 on cpu never failed" in said(KEY, "--dtype", "f16")
    assert "nowhere: this clone has no such commit" in said(
        *(KEY, "--dtype", "f16", "--bad", "nowhere")
    )
    assert "knows no failure, and so no seed" in said(*(KEY, "--dtype", "f16", "--bad", other))
    assert "--run: it is empty" in said(KEY, "--run", " ")
    assert "a replay needs a number" in said(KEY, "--seed", "next")
    assert "there is no ledger" in said(KEY, "--ledger", "none.sqlite")
    assert clone.state() == before
    monkeypatch.chdir(tmp_path)
    arguments = (KEY, "--dtype", "f16", "--ledger", tmp_path / "clone" / LEDGER)
    assert f"{tmp_path}: is in no working tree of git" in said(*arguments)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no git on the path" in said(*arguments)


def test_a_commit_that_is_not_in_a_shallow_clone(made, bisect, tmp_path, monkeypatch):
    clone = made(*turns(), {"more.txt": ""})
    one, *_, other = clone.commits
    folder = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", clone.folder.as_uri(), str(folder)], check=True
    )
    pass_then_fail(clone)
    (clone.folder / LEDGER).rename(folder / LEDGER)
    monkeypatch.chdir(folder)
    code, _, err = bisect(KEY)
    assert code == 1
    assert f"it passed in run 1, seed 11, commit {one[:7]}, which is not in this clone" in err
    assert "git fetch --unshallow" in err
    clone.git("branch", "old", one)
    subprocess.run(["git", "fetch", "-q", "--depth=1", "origin", "old"], cwd=folder, check=True)
    code, _, err = bisect(KEY)
    assert code == 1
    assert f"is no ancestor of {other[:7]} (run 2), where it failed: this clone is shallow" in err


def test_a_pass_on_another_branch(made, bisect):
    clone = made(*turns(), {"more.txt": ""})
    first, second, third = clone.commits
    clone.git("checkout", "-q", "-b", "aside", first)
    clone.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-mx")
    aside = clone.git("rev-parse", "HEAD").strip()
    clone.git("checkout", "-q", "main")
    runs = [(aside, 12, {"bf16": "passed"}), (third, 13, {"bf16": "failed"})]
    clone.ledger(*runs)
    code, _, err = bisect(KEY)
    assert code == 1
    assert f"{aside[:7]}, where it passed (run 1), is no ancestor of {third[:7]} (run 2)" in err
    assert "they are on different branches" in err

    code, out, err = bisect(KEY, "--good", first[:12])
    assert (code, culprit(out)) == (0, second), err
    assert f"passed: commit {first[:7]}, as you say" in out

    (clone.folder / LEDGER).unlink()
    clone.ledger((first, 11, {"bf16": "passed"}), *runs)
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, second), err
    assert f"run 2, seed 12, commit {aside[:7]}, is of no use: its commit is no ancestor" in err


def test_the_ledger_lacks_a_pass(made, bisect):
    clone = made(*turns())
    clone.ledger((clone.commits[1], 13, {"bf16": "failed"}))
    code, out, err = bisect(KEY)
    assert (code, out) == (1, "")
    assert "never passed before, as far as the ledger knows, since run 1" in err
    assert "name that with --good" in err


def test_the_ledger_lacks_a_pass_by_this_name(made, bisect):
    clone = made(
        {"conftest.py": "", "layers.py": works(), "tests/test_old.py": source()},
        {"tests/test_old.py": None, "tests/test_layers.py": source()},
        {"layers.py": works("bf16")},
    )
    clone.ledger((clone.commits[2], 13, {"bf16": "failed"}))
    name = clone.commits[1][:7]
    code, _, err = bisect(KEY)
    assert code == 1
    assert f"Its file has that name since commit {name}, and was tests/test_old.py before" in err
    code, out, err = bisect(KEY, "--good", name)
    assert (code, culprit(out)) == (0, clone.commits[2]), err


def test_it_has_passed_again_since(made, bisect):
    clone = made(*turns(), {"layers.py": works()})
    words = zip(clone.commits, ("passed", "failed", "passed"), strict=True)
    clone.ledger(*((commit, seed, {"bf16": word}) for seed, (commit, word) in enumerate(words)))
    assert bisect(KEY)[0] == 1
    code, out, err = bisect(KEY, "--dtype", "bf16")
    assert (code, culprit(out)) == (0, clone.commits[1]), err
    assert "it has passed again since, in run 3, seed 2" in err


def test_a_test_that_git_does_not_know(made, bisect):
    clone = made(*turns())
    one, other = clone.commits
    runs = [(one, 1, {"bf16": "passed"}), (other, 2, {"bf16": "failed"})]
    clone.ledger(*runs, key="else/test_it.py::test_it")
    code, _, err = bisect("else/test_it.py::test_it")
    assert code == 1
    assert f"else/test_it.py: neither {one[:7]} nor {other[:7]} has such a file" in err
