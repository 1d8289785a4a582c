"""What a test can run with: candidates, their labels and families, pools by name.

Names are plain data here; torch is imported by `torch_dtype` alone, when a dtype is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.sampling.combinations import count_of_arguments, names_in

if TYPE_CHECKING:
    import torch

# The pools are part of what a seed means: they are fixed lists, not "what this torch happens to
# have". A dtype that the installed torch lacks is passed over like one the device lacks.
POOLS: Mapping[str, tuple[str, ...]] = {
    "floating": ("float16", "bfloat16", "float32", "float64"),
    "reduced": ("float16", "bfloat16"),
    "float8": (
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    ),
    "complex": ("complex32", "complex64", "complex128"),
    "integer": ("int8", "int16", "int32", "int64"),
    "unsigned": ("uint8", "uint16", "uint32", "uint64"),
}
POOLS = {
    **POOLS,
    "all": ("bool", *(n for p, names in POOLS.items() if p != "reduced" for n in names)),
}
POOL_NAMES = tuple(POOLS)

# torch's second names; `str()` of the dtype gives the first.
ALIASES: Mapping[str, str] = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "short": "int16",
    "int": "int32",
    "long": "int64",
}
# Names of torch dtypes that are in no pool, known so that a typing error can be told from them.
_OTHER_NAMES = (
    "float4_e2m1fn_x2",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
    *(f"bits{layout}" for layout in ("8", "16", "1x8", "2x4", "4x2")),
    *("quint8", "qint8", "qint32", "quint4x2", "quint2x4"),
)
DTYPE_NAMES = (*POOLS["all"], *ALIASES, *_OTHER_NAMES)

_FAMILIES = (
    ("reduced floats", re.compile(r"b?float16|half")),
    ("full floats", re.compile(r"float(32|64|128)?|double|longdouble")),
    ("float8", re.compile(r"float[468]_\w+")),
    ("complex", re.compile(r"b?complex\d+|c(half|float|double)")),
    ("signed ints", re.compile(r"int\d*|short|long|qint\d+")),
    ("unsigned ints", re.compile(r"uint\d+|byte|quint\w+|bits\w+")),
    ("bool", re.compile(r"bool_?")),
)
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")
# What `object.__repr__` and its like put in: another number in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+\b")


def label_of(candidate: object) -> str:
    """The label of a candidate, `str(candidate)`: `torch.bfloat16` and `bfloat16` are two labels.

    Raises DtypeSamplerError if the text shows a memory address: it must be the same in every run.
    """
    # An exact str, as labels cross process borders where subclasses of str are refused.
    label = "".join((str(candidate),))
    if " at 0x" in label and _ADDRESS.search(label):
        raise DtypeSamplerError(
            f"the candidate {label} has no stable name, as it shows a memory address: "
            f"give {type(candidate).__name__} a __str__, or list its name instead"
        )
    return label


@lru_cache(maxsize=4096)
def short_name(label: str) -> str:
    """The label without `torch.` or the wrapping of a class: `bfloat16`, `float32`."""
    if match := _CLASS.fullmatch(label):
        return match[1]
    return label.removeprefix("torch.")


@lru_cache(maxsize=4096)
def family_of(label: str) -> str:
    """The family of a label, by its name alone, so that a string and a dtype share theirs.

    A label that names several dtypes, `torch.float16,torch.int8`, has the family of each.
    """
    if "," in label:
        return "+".join(dict.fromkeys(map(family_of, label.split(","))))
    name = short_name(label)
    for family, pattern in _FAMILIES:
        if pattern.fullmatch(name):
            return family
    return "other"


def family_of_dtype(dtype: torch.dtype) -> str:
    """The family of a dtype: by its name, and where that is new, by what torch says of it."""
    by_name = family_of(str(dtype))
    if by_name != "other":
        return by_name
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return {1: "float8", 2: "reduced floats"}.get(dtype.itemsize, "full floats")
    return "signed ints" if is_signed(dtype) else "unsigned ints"


def is_signed(dtype: torch.dtype) -> bool:
    """Whether it has negative values; of what torch can't tell, such as bits8, False."""
    try:
        return bool(dtype.is_signed)
    except RuntimeError:
        return False


def each_of(values: Any, argument: str) -> Iterable[object]:
    """*values*, which must be a collection with an order of its own.

    argument: what a person calls it. Raises DtypeSamplerError for anything else.
    """
    if isinstance(values, (list, tuple)):
        # As nearly always. To ask for the other types takes longer.
        return values
    if isinstance(values, str) or not isinstance(values, Iterable):
        shown = repr(values)
        raise DtypeSamplerError(f"{argument}={shown} is one candidate: write {argument}=[{shown}]")
    if isinstance(values, (set, frozenset)):
        raise DtypeSamplerError(
            f"{argument}= is a set, whose order is another in every process: write it as a list"
        )
    return values


def torch_dtype(name: str) -> torch.dtype | None:
    """The dtype of that name, or None if the installed torch has none. Imports torch."""
    import torch

    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else None


def dtype_names() -> tuple[str, ...]:
    """Every name of a dtype: those that are known here, and what else the installed torch has.

    Imports torch.
    """
    try:
        import torch
    # Without one, or with a broken one, there is nothing to add.
    except Exception:  # noqa: BLE001
        return DTYPE_NAMES
    found = (name for name, value in vars(torch).items() if isinstance(value, torch.dtype))
    return tuple(dict.fromkeys((*DTYPE_NAMES, *sorted(found))))


def is_dtype_name(name: str) -> bool:
    """Whether it is the name of a dtype. Imports torch if it is none that is known here."""
    return name in DTYPE_NAMES or name in dtype_names()


def is_torch_dtype(candidate: object) -> bool:
    """Whether *candidate* is a `torch.dtype`, without importing torch to find out."""
    return _is_torch(type(candidate))


def _is_torch(kind: type) -> bool:
    return kind.__name__ == "dtype" and kind.__module__ == "torch"


class Pool:
    """A test's candidates, in declared order and without repeats.

    labels: in declared order. families: of each. arguments: how many the candidates are
    combinations of, more than 1 for tuples. dtypes: whether any is a `torch.dtype`. A pool made
    from a name knows its labels without torch, and asks torch for a dtype only when `candidate` is
    called.
    """

    __slots__ = ("_dtypes", "_given", "arguments", "dtypes", "families", "labels")

    def __init__(self, labels: Sequence[str], given: Mapping[str, Any] | None) -> None:
        self.labels = tuple(labels)
        self._given = given
        # Of a test, its labels are asked one by one.
        self._dtypes = frozenset(
            label for label in labels if given is None or is_torch_dtype(given[label])
        )
        self.dtypes = bool(self._dtypes)
        self.families = tuple(map(self._family, labels))
        self.arguments = (
            1 if given is None else count_of_arguments(labels, [given[label] for label in labels])
        )

    @classmethod
    def named(cls, names: Iterable[str]) -> Pool:
        """The union of pools and dtypes given by name, such as `("reduced", "float32")`.

        Raises DtypeSamplerError for a name that is neither.
        """
        return _named(tuple(names))

    @classmethod
    def of(cls, candidates: Iterable[object]) -> Pool:
        """The pool of these candidates. Raises DtypeSamplerError if it is empty or has repeats."""
        if isinstance(candidates, (list, tuple)) and all(
            map(_is_plain, set(map(type, candidates)))
        ):
            # Written out in each of a suite's tests, or in a constant that all of them share.
            return _of_plain(tuple(candidates))
        return cls._of(candidates)

    @classmethod
    def _of(cls, candidates: Iterable[object]) -> Pool:
        given: dict[str, object] = {}
        for candidate in candidates:
            label = label_of(candidate)
            if label in given:
                raise DtypeSamplerError(
                    f"the pool lists {label} twice{_second_name(label)}: list each candidate once"
                )
            given[label] = candidate
        if not given:
            raise DtypeSamplerError("the pool is empty: list at least one candidate")
        return cls(tuple(given), given)

    @classmethod
    def of_labels(cls, candidates: Mapping[str, object]) -> Pool:
        """The pool of candidates that have their labels already."""
        return cls(tuple(candidates), candidates)

    def without(self, excluded: Iterable[str]) -> Pool:
        """The pool without these labels. Raises DtypeSamplerError if nothing is left."""
        gone = frozenset(excluded)
        if not gone:
            return self
        left = [label for label in self.labels if label not in gone]
        if not left:
            raise DtypeSamplerError(
                f"exclude= names every candidate of the pool ({', '.join(self.labels)})"
            )
        return Pool(left, self._given)

    def candidate(self, label: str) -> Any:
        """The candidate behind a label; None for a dtype that the installed torch lacks."""
        if self._given is not None:
            return self._given[label]
        return torch_dtype(label.removeprefix("torch."))

    def _family(self, label: str) -> str:
        family = family_of(label)
        if family != "other" or not self.is_dtype(label):
            return family
        # It is there: it was given, or torch was asked for its name.
        return family_of_dtype(self.candidate(label))

    def is_dtype(self, label: str) -> bool:
        """Whether the candidate is a `torch.dtype`, whose support by a device can be asked for."""
        return label in self._dtypes

    def find(
        self, wanted: Iterable[object], argument: str, *, missing_ok: bool = False
    ) -> list[str]:
        """The labels that `always=` or `exclude=` means, in the order given.

        wanted: candidates, or names as `--dtype-only` takes them. missing_ok: a dtype that is known
        but not in this pool is left out instead of an error; an unknown name never is.
        """
        found: dict[str, None] = {}
        for one in each_of(wanted, argument):
            label = label_of(one)
            if label in self.labels:
                found[label] = None
                continue
            matching = [known for known in self.labels if matches(label, known)]
            if not matching and not (missing_ok and is_dtype_name(short_name(label))):
                short = tuple(map(short_name, self.labels))
                raise DtypeSamplerError(
                    f"{argument}=: {unknown('candidate of this pool', label, self.labels, short)}"
                )
            found.update(dict.fromkeys(matching))
        return list(found)


# Every call of random_dtypes() that lists no dtypes comes by here.
@lru_cache(maxsize=256)
def _named(names: tuple[str, ...]) -> Pool:
    labels: dict[str, None] = {}
    for name in names:
        for member in POOLS.get(name) or (canonical_name(name),):
            labels[f"torch.{member}"] = None
    return Pool(tuple(labels), None)


# Nothing but plain candidates may be told apart by `==`: 1, 1.0 and True are three candidates.
@lru_cache(maxsize=256)
def _of_plain(candidates: tuple[object, ...]) -> Pool:
    return Pool._of(candidates)  # noqa: SLF001  # of its own module


@lru_cache(maxsize=64)
def _is_plain(kind: type) -> bool:
    """Whether candidates of this type have one label for ever, and equal ones have the same."""
    return kind is str or _is_torch(kind)


def _second_name(label: str) -> str:
    others = [f"torch.{a}" for a, name in ALIASES.items() if f"torch.{name}" == label]
    return f" ({others[0]} and the string {label!r} are other names for it)" if others else ""


def canonical_name(name: str) -> str:
    """torch's own name of a dtype given as `half`, `float16` or `torch.float16`.

    A name that is not known here is looked for in the installed torch, which is imported for it.
    Raises DtypeSamplerError if there is no such dtype.
    """
    short = name.removeprefix("torch.")
    if short in POOL_NAMES:
        raise DtypeSamplerError(f"{name!r} is a pool of dtypes, and one dtype is needed")
    if short in DTYPE_NAMES:
        return ALIASES.get(short, short)
    names = dtype_names()
    if short not in names:
        raise DtypeSamplerError(unknown("pool or dtype", name, (*POOL_NAMES, *names)))
    # It may be a second name.
    return str(torch_dtype(short)).removeprefix("torch.")


def matches(name: str, label: str) -> bool:
    """Whether a name of `--dtype-only` means this label.

    `bfloat16` means the dtype and the string, `torch.bfloat16` the dtype alone, and `'bfloat16'`,
    in quotes, the string alone: exactly that label. A label that names several dtypes is meant by
    a name that means each of them.
    """
    if name[:1] in ("'", '"'):
        return label == name[1:-1]
    parts = names_in(label)
    if len(parts) > 1:
        return all(matches(name, part) for part in parts)
    prefix, short = ("torch.", name[6:]) if name.startswith("torch.") else ("", name)
    known = ALIASES.get(short, short)
    if label in (name, prefix + known):
        return True
    return not prefix and short_name(label) in (short, known)


def is_wanted(names: Iterable[str], label: str) -> bool:
    """Whether `--dtype-only` with these names takes this label.

    Of a label that names several dtypes, each may be meant by another name: `int8,float32` takes
    all four pairs of the two.
    """
    names = tuple(names)
    if any(matches(name, label) for name in names):
        return True
    parts = names_in(label)
    return len(parts) > 1 and all(any(matches(name, part) for name in names) for part in parts)


def number_of(k: int | str, size: int) -> int:
    """How many candidates *k* means of a pool of *size*: a share is rounded up."""
    if isinstance(k, int):
        return k
    part, _, whole = k.partition("/")
    return -(-size * int(part) // int(whole))


def parse_device(text: str) -> str | None:
    """A device as torch names it, `cpu` or `cuda:1`; None for `auto`."""
    if text == "auto":
        return None
    if re.fullmatch(r"[a-z][a-z0-9_]*(:[0-9]+)?", text):
        return text
    raise DtypeSamplerError("no device: write, say, cpu, cuda, cuda:1 or auto")
