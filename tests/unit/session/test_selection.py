from __future__ import annotations

import pytest
import torch

from dtype_sampler.sampling.candidates import Pool
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import choose
from dtype_sampler.session.selection import Group, Members, select

LABELS = list("abcdefg")


def group(**kwargs):
    return Group("t.py::t", "t.py::t", dict.fromkeys(LABELS, "x"), **kwargs)


def entries(a_group, labels=LABELS):
    return [(label.upper(), a_group, label) for label in labels]


def members_of(some):
    members = Members()
    for item, a_group, label in some:
        members.groups[id(item)], members.labels[id(item)] = a_group, label
    return members


def choose_items(plan, items):
    members = members_of(items)
    names = [item for item, _, _ in items]
    return select(plan, names, members, lambda item: f"t.py::t[{item.lower()}]")


def split(plan, items):
    selection = choose_items(plan, items)
    return "".join(selection.staying), "".join(selection.out)


def test_k_of_n_by_the_rule():
    plan = RunPlan(5, "random")
    staying, out = split(plan, entries(group()))
    expected = choose(
        seed=5, strategy="rotate", key="t.py::t", labels=LABELS, families=["other"] * 7, k=3
    )
    assert staying.lower() == "".join(expected)
    assert sorted(staying + out) == list("ABCDEFG")


def test_consecutive_seeds_cover_all():
    runs = [split(RunPlan(seed, "random"), entries(group()))[0] for seed in range(10, 13)]
    assert set("".join(runs)) == set("ABCDEFG")


def test_a_groups_own_k():
    assert len(split(RunPlan(5, "random"), entries(group(k=1)))[0]) == 1
    assert len(split(RunPlan(5, "random", k=2), entries(group()))[0]) == 2


@pytest.mark.parametrize(("plan", "options"), [({"all_dtypes": True}, {}), ({}, {"full": True})])
def test_the_full_matrix(plan, options):
    assert split(RunPlan(5, "random", **plan), entries(group(**options))) == ("ABCDEFG", "")


def test_the_sample_is_taken_from_what_is_left():
    left = list("aceg")
    plan = RunPlan(5, "random")
    staying, _ = split(plan, entries(group(), left))
    assert len(staying) == 3
    whole = split(plan, entries(group()))[0]
    assert set(whole) & set("ACEG") <= set(staying)


def test_what_is_kept_stays_on_top_of_the_sample():
    base = split(RunPlan(5, "random"), entries(group()))[0]
    unlucky = next(label for label in LABELS if label.upper() not in base)
    plan = RunPlan(5, "random", kept=(f"t.py::t[{unlucky}]",))
    staying, _ = split(plan, entries(group()))
    assert set(staying) == {*base, unlucky.upper()}


def test_items_of_one_label_stay_or_go_together():
    for seed in range(7):
        items = entries(group())
        items.append(("A2", items[0][1], "a"))
        staying = choose_items(RunPlan(seed, "random"), items).staying
        assert ("A" in staying) == ("A2" in staying)


def test_members_of_some_items_alone():
    items, a_group = ["X", "Y", "other"], group()
    members = members_of([(items[0], a_group, "a"), (items[1], a_group, "b")])
    assert members.get(id(items[1])) == (a_group, "b")
    assert members.get(id(items[2])) is None
    here = members.only(items[1:])
    assert here.get(id(items[0])) is None
    assert here.get(id(items[1])) == (a_group, "b")
    assert len(here.groups) == len(here.labels) == 1


def test_items_of_no_group_stay():
    selection = select(RunPlan(5, "random"), ["X"], Members(), str)
    assert (selection.staying, selection.out) == (["X"], [])


def test_only():
    assert split(RunPlan(5, "", only=("b", "c")), entries(group())) == ("BC", "ADEFG")
    assert split(RunPlan(5, "", only=("int8",)), entries(group())) == ("", "ABCDEFG")


def test_one_item_stands_for_a_test_that_cannot_run(monkeypatch):
    import dtype_sampler.session.draw

    monkeypatch.setattr(dtype_sampler.session.draw, "refusal", lambda *_: "no")
    pool = Pool.of([torch.float16, torch.float32])
    candidates = {label: pool.candidate(label) for label in pool.labels}

    def selected(**kwargs):
        a_group = Group("t", "t", candidates, pool=pool, **kwargs)
        return choose_items(RunPlan(0, ""), [(label, a_group, label) for label in pool.labels])

    selection = selected()
    assert selection.staying == ["torch.float16"]
    assert selection.out == ["torch.float32"]
    ((item, reason),) = selection.skipped
    assert item == "torch.float16"
    assert "cpu supports none" in reason
    # A group that is not to be asked about keeps its items.
    assert len(selected(probe=False).staying) == 2


def test_what_runs_elsewhere_takes_part_in_the_sample():
    whole = split(RunPlan(5, "random"), entries(group()))[0]
    a_group = group()
    everywhere = [label.upper() for label in LABELS]
    members = members_of([(one, a_group, one.lower()) for one in everywhere])
    here = everywhere[:4]
    selection = select(RunPlan(5, "random"), here, members, str, left=everywhere)
    assert selection.staying == [one for one in here if one in whole]


def test_a_label_of_which_one_item_can_run_is_skipped_for_none():
    a_group = group()
    items = ["skipped", "A", *(label.upper() for label in LABELS[1:])]
    labels = ["a", *LABELS]
    members = members_of([(one, a_group, label) for one, label in zip(items, labels, strict=True)])

    def why(item):
        return "a mark" if item == "skipped" else None

    select(RunPlan(5, "random"), items, members, str, why)
    assert a_group.skipped == {}
    assert a_group.left == dict.fromkeys(LABELS, True)


def test_tests_that_declare_the_same_have_each_their_own_sample():
    plan = RunPlan(5, "random")
    groups = [Group(f"t.py::t{n}", f"t.py::t{n}", dict.fromkeys(LABELS, "x")) for n in range(20)]
    for a_group in groups:
        select(plan, LABELS, members_of([(one, a_group, one) for one in LABELS]), str)
    alone = [a_group.chosen for a_group in groups]
    again = [Group(one.key, one.function, dict.fromkeys(LABELS, "x")) for one in groups]
    items = [(one, label) for one in again for label in LABELS]
    select(plan, items, members_of([(item, *item) for item in items]), str)
    assert [a_group.chosen for a_group in again] == alone
    assert len({*alone}) > 1
