"""In which order a loop is handed its sample, and that nothing waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.sampling.turns import as_named, in_turn


def test_hidden_first_failing_last_and_the_others_as_declared():
    assert in_turn("abcdef") == tuple("abcdef")
    assert in_turn("abcdef", failing="ca") == tuple("bdefca")
    assert in_turn("abcdef", hidden="fd") == tuple("fdabce")
    # What failed and was hidden since has waited longest of all that failed.
    assert in_turn("abcdef", hidden="fa", failing="ab") == tuple("fcdeab")


def test_what_is_not_in_the_sample_has_no_turn():
    assert in_turn("ab", hidden="xb", failing="y") == ("b", "a")


def test_what_is_known_to_fail_comes_after_all_else():
    assert in_turn("abcdef", known="ca") == tuple("bdefca")
    # Also after what failed otherwise; of it, what was hidden is first.
    assert in_turn("abcdef", hidden="fa", failing="bce", known="aec") == tuple("fdbaec")
    assert in_turn("abc", hidden="c", failing="c", known="abc") == tuple("cab")
    assert in_turn("ab", known="xy") == ("a", "b")


def test_as_named():
    labels = ["torch.float16", "bfloat16", "torch.bfloat16", "auto"]
    assert as_named(labels, ["auto", "torch.float16"])[:2] == ("auto", "torch.float16")
    assert as_named(labels, ["bfloat16", "half"]) == (
        *("bfloat16", "torch.bfloat16"),
        *("torch.float16", "auto"),
    )


@given(
    st.integers(1, 6),
    st.lists(st.sets(st.sampled_from("abcdef")), min_size=6, max_size=20),
    st.lists(st.sets(st.sampled_from("abcdef")), min_size=20, max_size=20),
)
def test_whatever_fails_each_run_gives_a_verdict_to_one_that_waits(n, failures, samples):
    """The ledger in small: after n runs there is a verdict on each, though all may fail."""
    pool = "abcdef"[:n]
    verdict_at: dict[str, int] = {}
    failing: set[str] = set()
    hidden: set[str] = set(pool)
    for at, bad in enumerate(failures):
        chosen = [label for label in pool if label in samples[at] | hidden | failing]
        waiting = sorted(hidden, key=lambda label: (verdict_at.get(label, -1), label))
        turns = in_turn(
            chosen, hidden=waiting, failing=sorted(failing, key=lambda label: verdict_at[label])
        )
        assert sorted(turns) == chosen
        entered = []
        for label in turns:
            entered.append(label)
            verdict_at[label] = at
            failing.discard(label)
            if label in bad:
                failing.add(label)
                break
        hidden = (hidden | set(turns)) - set(entered)
        assert len(verdict_at) >= min(at + 1, n)
