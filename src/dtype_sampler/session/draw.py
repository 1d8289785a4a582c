"""A draw: from what a test asks for to its sample, while it runs or is collected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from dtype_sampler.roundtrip.support import (
    absence,
    check_device,
    device_in_use,
    device_type,
    refusal,
)
from dtype_sampler.sampling.again import NOTHING, Past, take
from dtype_sampler.sampling.candidates import (
    Pool,
    family_of,
    is_wanted,
)
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import choose, turn_of
from dtype_sampler.sampling.sample import SampleRecord
from dtype_sampler.sampling.steering import ANY
from dtype_sampler.sampling.together import circle_of
from dtype_sampler.sampling.turns import as_named, in_turn


def draw(
    plan: RunPlan,
    key: str,
    pool: Pool,
    *,
    k: int,
    always: tuple[str, ...],
    full: bool,
    device: str | None,
    left: Container[str] | None = None,
    skipped: Mapping[str, str] | None = None,
    probe: bool = True,
    loop: bool = False,
    order: tuple[int, str] | None = None,
    sharing: Sequence[str] = (),
    shared: bool = False,
) -> SampleRecord:
    """Choose a test's dtypes for this run.

    device: the one that the test itself asks for; None means the run's. If this machine lacks it,
    nothing is supported there; a run's device that is lacking is an error.
    left: the labels that other selections (`-k`, `-m`) have left; None means all. skipped: label ->
    why, of those that the suite's own marks skip: they are passed over too, unless nothing is left
    out: then pytest skips them, and shows each. probe: whether to pass over what the device
    refuses. order: the seed and the key that the order of the candidates is made from; None means
    the run's seed, and the test key or, where all tests take the same, the candidates' own.
    sharing: the test keys whose history `oldest` goes by; none means *key*. loop: whether one dtype
    can hide the next, so that it matters which comes first.
    shared: it is for all tests that use a fixture, whose key *key* is.
    """
    everything = full or bool(plan.only)
    # Found once the device is known, which importing torch may decide.
    steered: tuple[int, Sequence[str]] | None = None
    sampled = not everything and k < len(pool.labels)
    unsupported: dict[str, str] = {}
    absent = absence(device) if probe and device is not None else None
    if device is None and plan.device is not None:
        check_device(plan.device)
    device = device or plan.device

    def available(label: str) -> bool:
        if plan.only and not is_wanted(plan.only, label):
            return False
        # What a string or an object of the test's own means to a device, only the test knows.
        asked = pool.is_dtype(label)
        if asked and (dtype := pool.candidate(label)) is None:
            unsupported[label] = _lacking(label)
            return False
        if left is not None and label not in left:
            return False
        if (sampled or steered is not None) and skipped and label in skipped:
            return False
        if absent is not None:
            unsupported[label] = absent
            return False
        # The device last: asking for the candidate may have imported torch, which knows of it.
        reason = refusal(device_in_use(device), dtype) if asked and probe else None
        if reason is not None:
            unsupported[label] = reason
        return reason is None

    kept = _left(plan, pool, left)
    # Of most tests there is nothing to ask label by label.
    asks = pool.dtypes or bool(absent or skipped) or kept not in (None, pool.labels)
    history = plan.recheck or plan.suspects or plan.alone or plan.hidden
    if history or plan.verdicts or plan.known or plan.steered:
        # The device decides whose history counts, and importing torch, as this does for a pool of
        # torch's dtypes, may change it.
        pool.candidate(pool.labels[0])
    where = device_type(device_in_use(device))
    seed, order_key = order or (plan.seed, key)
    if plan.together and order_key == key:
        order_key = circle_of(pool.labels)
    steered = plan.steered_in(where, key) if plan.steered and not everything else None
    if shared and not everything:
        steered = _for_all(plan, where, key, pool)
    if steered is None and plan.run and left is not None:
        # Items that the run which is taken again did not have.
        steered = 0, ()
    chosen: tuple[str, ...]
    if steered is not None:
        chosen = _steered(steered, pool, available, k=k, loop=loop, exactly=bool(plan.run))
    else:
        chosen = choose(
            seed=seed,
            strategy=plan.strategy,
            key=order_key,
            labels=pool.labels,
            families=pool.families,
            # Dtypes that were asked for by name all run: an explicit wish is not cut down to k.
            k=len(pool.labels) if everything else k,
            always=always,
            available=available if asks else None,
            verdicts=_verdicts(plan.verdicts.get(where, {}), sharing or (key,))
            if plan.verdicts
            else None,
            arguments=pool.arguments,
        )

    past = NOTHING
    if history:
        past = _past(plan, where, key, pool, available, whole=left is None and not everything)
    declared, by_past = chosen, False
    if steered is not None or past is not NOTHING:
        # What steers has given all of that its part already.
        having = past if steered is None else NOTHING
        declared, by_past = take(
            chosen, pool.labels, having, seed=plan.seed, k=k, fixed=len(always)
        )
    turns = declared
    expected = tuple(plan.known.get(where, {}).get(key, ())) if plan.known else ()
    if loop and plan.only:
        named = as_named(declared, plan.only)
        turns = in_turn(named, known=expected)
        by_past = by_past or turns != named
    elif loop and plan.run and steered is not None:
        turns = tuple(label for label in steered[1] if label in declared)
    elif loop:
        turns = in_turn(declared, hidden=past.hidden, failing=past.failing, known=expected)
    return SampleRecord(
        key,
        where,
        pool.labels,
        turns,
        {label: unsupported[label] for label in pool.labels if label in unsupported}
        if unsupported
        else {},
        k=k,
        always=always,
        left=kept,
        skipped=dict(skipped) if skipped else {},
        # With --dtype-only, the command line says all of it, but for what is known to fail.
        by_name=by_past
        or steered is not None
        or (turns != declared and not plan.only)
        or (plan.strategy == "oldest" and not everything),
        order=(seed, order_key),
        arguments=pool.arguments,
    )


def _past(
    plan: RunPlan,
    where: str,
    key: str,
    pool: Pool,
    available: Callable[[str], bool],
    *,
    whole: bool,
) -> Past:
    """What is known of a test, of what can run. whole: it is a loop, which is sampled."""

    def known(past: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
        labels = past.get(where, {}).get(key, ())
        return [label for label in labels if label in pool.labels and available(label)]

    past = Past(known(plan.recheck), known(plan.hidden))
    if whole:
        # A loop, which takes several in one go.
        suspects, alone = known(plan.suspects), known(plan.alone)
        past = replace(past, suspects=in_order(pool, suspects), alone=in_order(pool, alone))
    return past


def runnable(
    plan: RunPlan, pool: Pool, labels: Iterable[str], *, device: str | None, probe: bool
) -> list[str]:
    """Those of some labels of a pool that can run here. device, probe: as for `draw`."""
    if probe and device is not None and absence(device) is not None:
        return []
    if device is None and plan.device is not None:
        check_device(plan.device)
    found = []
    for label in labels:
        if pool.is_dtype(label):
            candidate = pool.candidate(label)
            if candidate is None:
                continue
            if probe and refusal(device_in_use(device or plan.device), candidate) is not None:
                continue
        found.append(label)
    return found


def _steered(
    taken: tuple[int, Sequence[str]],
    pool: Pool,
    available: Callable[[str], bool],
    *,
    k: int,
    loop: bool,
    exactly: bool,
) -> tuple[str, ...]:
    """What a test takes that is steered. taken: as `RunPlan.steered` has it.

    exactly: nothing but that. Else it takes k at most of what nobody knew of, and a loop one at
    least.
    """
    number, order = taken
    labels = pool.labels
    chosen = [label for label in order[:number] if label in labels and available(label)]
    if exactly:
        return tuple(chosen)
    new = [label for label in labels if label not in order]
    for label in new:
        if k > 0 and available(label):
            chosen.append(label)
            k -= 1
    if loop and not chosen:
        rest = (label for label in order[number:] if label in labels and available(label))
        return tuple(label for label in [next(rest, None)] if label is not None)
    return tuple(chosen)


def _for_all(plan: RunPlan, where: str, key: str, pool: Pool) -> tuple[int, Sequence[str]] | None:
    """What a fixture draws for the tests that use it: all that any of these takes.

    Which they are, nobody knows before they run: it may be each in the fixture's scope that has the
    same candidates. Each of them has its own labels handed out then.
    """
    inside = key.rpartition("::")[0]
    chosen: dict[str, None] = {}
    found = False
    for test, (number, order) in (plan.steered.get(ANY) or plan.steered.get(where, {})).items():
        # Of a replay, the labels that a run took are all that is known of a test.
        alike = set(order) == set(pool.labels) or (plan.run and set(order) <= set(pool.labels))
        if test.startswith(inside) and alike:
            found = True
            chosen.update(dict.fromkeys(order[:number]))
    rest = [label for label in pool.labels if label not in chosen]
    return (len(chosen), (*chosen, *rest)) if found else None


def own_of(plan: RunPlan, key: str, record: SampleRecord) -> tuple[str, ...]:
    """What a test takes of a sample that a fixture has drawn for many."""
    steered = None if plan.only or plan.all_dtypes else plan.steered_in(record.device, key)
    if steered is None:
        return record.chosen
    number, order = steered
    chosen = [label for label in order[:number] if label in record.chosen]
    if not chosen:
        chosen = [label for label in order[number:] if label in record.chosen][:1]
    return tuple(label for label in record.chosen if label in chosen) or record.chosen


def in_order(pool: Pool, some: Collection[str]) -> list[str]:
    """These labels as the pool declares them."""
    return [label for label in pool.labels if label in some]


def _left(plan: RunPlan, pool: Pool, left: Container[str] | None) -> tuple[str, ...] | None:
    """What this selection leaves of a pool; None for all of it."""
    if left is None and not plan.only:
        return None
    labels = pool.labels
    if left is not None:
        labels = tuple([label for label in labels if label in left])
    if plan.only:
        labels = tuple([label for label in labels if is_wanted(plan.only, label)])
    return labels


def _verdicts(
    known: Mapping[str, Mapping[str, float]], keys: Sequence[str]
) -> Mapping[str, float] | None:
    """label -> when its last verdict was; of several tests, of that which waits for it longest."""
    if len(keys) == 1:
        return known.get(keys[0])
    each = [known.get(key, {}) for key in keys]
    # What one of them never ran has no verdict here either.
    return {
        label: min(one[label] for one in each)
        for label in each[0]
        if all(label in one for one in each)
    }


def draw_within(plan: RunPlan, outer: SampleRecord, label: str) -> tuple[int, str]:
    """The seed and the key for a loop inside one over the same candidates.

    outer: the sample of the loop around it, which has *label* in hand. Were the inner loop to take
    what the outer one takes, most pairs would never meet. So each dtype of the outer loop has an
    order of its own for the inner one, which goes on by one step whenever that dtype comes again.
    """
    seed, key = outer.order
    if plan.strategy != "random":
        seed = turn_of(
            label,
            seed=seed,
            key=key,
            labels=outer.declared,
            families=tuple(map(family_of, outer.declared)),
            k=outer.k,
            always=outer.always,
            arguments=outer.arguments,
        )
    # No test key has this character.
    return seed, f"{key}\0{label}"


def _lacking(label: str) -> str:
    import torch

    return f"torch {torch.__version__} has no {label}"


def why_nothing(record: SampleRecord, plan: RunPlan) -> str:
    """The reason to skip a test of which no dtype can run."""
    if plan.only and not record.unsupported:
        asked, declared = ",".join(plan.only), ", ".join(record.declared)
        return f"--dtype-only={asked}: this test declares {declared}"
    refused = "; ".join(f"{label}: {why}" for label, why in record.unsupported.items())
    return f"{record.device} supports none of this test's dtypes ({refused})"
