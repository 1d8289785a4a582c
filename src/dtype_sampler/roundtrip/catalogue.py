"""All trips that are made, by name. Pure: knows neither pytest nor torch.

A *trip* is a way that values of a dtype take and come back from, or a rule they must obey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRANSPORT = "transport"
EMBEDDING = "embedding"
NARROWING = "narrowing"
CONVERSION = "conversion"
CROSSING = "crossing"
LAYOUTS = "layouts"
VIEWS = "views"
SIZES = "sizes"
EXCHANGE = "exchange"
NAMES = "names"
CLAIMS = "claims"
INDEPENDENCE = "independence"
COMPILED = "compiled"
KINDS = (
    TRANSPORT,
    EMBEDDING,
    NARROWING,
    CONVERSION,
    CROSSING,
    LAYOUTS,
    VIEWS,
    SIZES,
    EXCHANGE,
    NAMES,
    CLAIMS,
    INDEPENDENCE,
)
# What takes minutes is made only if it is asked for.
ALL_KINDS = (*KINDS, COMPILED)

# Where a trip is made: on every device, on the host or accelerators alone, or between two devices
# of one type.
EVERYWHERE = "everywhere"
HOST = "host"
ACCELERATORS = "accelerators"
PEERS = "peers"


@dataclass(frozen=True, slots=True)
class Trip:
    """One way to go, the same for every dtype and device.

    name: stable; part of the JSON report and of known issues. about: what it does, in one line.
    where: EVERYWHERE, HOST, ACCELERATORS or PEERS. pairs: it is made for each pair of dtypes, and
    an outcome has an `other_dtype`. through: what stands in the middle of the route in a message;
    `{device}` for a copy. manner: what tells it from the plain trip by that route, or empty.
    extends: names of shorter trips that it includes: a fault of theirs may show in it.
    """

    name: str
    kind: str
    about: str
    where: str = EVERYWHERE
    pairs: bool = False
    through: str = ""
    manner: str = ""
    extends: tuple[str, ...] = ()


def _copy(name: str, about: str, manner: str, extends: tuple[str, ...] = ("copy",)) -> Trip:
    return Trip(name, TRANSPORT, about, through="{device}", manner=manner, extends=extends)


def _carried(
    name: str,
    about: str,
    through: str,
    extends: tuple[str, ...] = ("copy",),
    where: str = EVERYWHERE,
) -> Trip:
    return Trip(name, TRANSPORT, about, where, through=through, extends=extends)


def _arranged(
    name: str, about: str, manner: str, extends: tuple[str, ...] = ("copy", "copy-strided")
) -> Trip:
    return Trip(name, LAYOUTS, about, through="{device}", manner=manner, extends=extends)


def _view(
    name: str,
    about: str,
    through: str,
    extends: tuple[str, ...] = ("copy", "lazy-copy"),
    where: str = EVERYWHERE,
) -> Trip:
    return Trip(name, VIEWS, about, where, through=through, manner="lazy view", extends=extends)


def _cast(
    name: str,
    kind: str,
    about: str,
    extends: tuple[str, ...] = ("copy",),
    manner: str = "",
    where: str = EVERYWHERE,
) -> Trip:
    return Trip(name, kind, about, where, pairs=True, manner=manner, extends=extends)


def _independent(name: str, about: str, *shorter: str) -> Trip:
    return _cast(name, INDEPENDENCE, about, ("embedding", "narrowing", *shorter), name)


# In the order in which causes are looked for: the shortest trip first.
TRIPS: tuple[Trip, ...] = (
    Trip("name", NAMES, "getattr(torch, name) is the dtype, and str() gives that name", HOST),
    Trip("aliases", NAMES, "each second name in torch is the same dtype", HOST),
    Trip(
        "dtype-pickle", NAMES, "the dtype itself is pickled and comes back as the same object", HOST
    ),
    Trip(
        "safetensors-name",
        NAMES,
        "safetensors writes the dtype under a name and reads it back",
        HOST,
    ),
    Trip("numpy-name", NAMES, "numpy's dtype for it has its name and size", HOST),
    Trip("claims", CLAIMS, "what the device says it supports is what was measured"),
    _copy("copy", "a blocking copy to the device and back to the host", "", ()),
    _copy("copy-one", "one element at a time", "one element"),
    _copy("copy-odd", "odd numbers of elements", "odd sizes"),
    _copy("copy-offset", "from and to addresses that are not aligned", "offset"),
    _copy("copy-strided", "every second element, and transposed", "strided"),
    _copy("copy-nonblocking", "non-blocking both ways, then synchronized", "non-blocking"),
    Trip(
        "copy-peer",
        TRANSPORT,
        "to another device of the same type and from there to the host",
        where=PEERS,
        through="{device}→{other_device}",
        extends=("copy",),
    ),
    _carried("byte-view", "viewed as uint8 and back", "byte view"),
    _carried("clone", "Tensor.clone", "clone"),
    _carried("deepcopy", "copy.deepcopy", "deepcopy", ("copy", "clone")),
    _carried("shared-memory", "Tensor.share_memory_", "shared memory", where=HOST),
    _carried("numpy", "Tensor.numpy and torch.from_numpy", "numpy", where=HOST),
    _carried("dlpack", "torch.from_dlpack", "DLPack"),
    _carried("pickle", "pickle.dumps and loads", "pickle"),
    _carried("save-zip", "torch.save and torch.load of the zip format", "torch.save (zip)"),
    _carried(
        "save-mmap",
        "torch.save to a file and torch.load with mmap=True",
        "torch.save (mmap)",
        ("copy", "save-zip"),
    ),
    _carried(
        "save-legacy",
        "torch.save and torch.load of the format before zip",
        "torch.save (legacy)",
    ),
    _carried("safetensors-bytes", "safetensors.torch.save and load", "safetensors (bytes)"),
    _carried(
        "safetensors-file",
        "safetensors.torch.save_file and load_file",
        "safetensors (file)",
    ),
    _arranged("copy-shapes", "tensors of no dimension, and of no element", "shapes", ("copy",)),
    _arranged("copy-expanded", "from a source of stride 0", "stride 0"),
    _arranged("copy-permuted", "three dimensions in another order", "permuted"),
    _arranged(
        "copy-offsets",
        "offsets that are odd for any vector width",
        "offsets",
        ("copy", "copy-offset"),
    ),
    Trip(
        "numpy-flipped",
        LAYOUTS,
        "torch.from_numpy of an array with a negative stride",
        HOST,
        through="numpy (backwards)",
        extends=("copy", "numpy"),
    ),
    Trip(
        "bool-bytes",
        LAYOUTS,
        "a bool of any byte but 0 is True, copied and cast",
        through="{device}",
        manner="bytes of 2 to 255",
        extends=("copy",),
    ),
    _view(
        "lazy-copy",
        "a conjugate or negative view, copied to the device and back",
        "{device}",
        ("copy",),
    ),
    _view("lazy-clone", "cloned, and copied by copy.deepcopy", "clone"),
    _view("lazy-numpy", "Tensor.numpy(force=True)", "numpy", where=HOST),
    # How these two write a tensor is no matter of the device.
    _view("lazy-dlpack", "torch.from_dlpack", "DLPack", where=HOST),
    _view("lazy-pickle", "pickle.dumps and loads", "pickle", ("copy", "lazy-copy", "pickle")),
    _view("lazy-save", "torch.save and torch.load", "torch.save (zip)"),
    _view(
        "lazy-safetensors",
        "safetensors.torch.save and load",
        "safetensors (bytes)",
        where=HOST,
    ),
    Trip(
        "copy-large",
        SIZES,
        "a little more than 4 MiB, of three dtypes",
        through="{device}",
        manner="4 MiB",
        extends=("copy",),
    ),
    Trip(
        "copy-huge",
        SIZES,
        "a little more than 64 MiB, of three dtypes",
        through="{device}",
        manner="64 MiB",
        extends=("copy", "copy-large"),
    ),
    Trip(
        "copy-4gib",
        SIZES,
        "a little more than 4 GiB (with --exhaustive)",
        through="{device}",
        manner="4 GiB",
        extends=("copy", "copy-large", "copy-huge"),
    ),
    Trip(
        "dlpack-numpy",
        EXCHANGE,
        "numpy.from_dlpack and back, read-only arrays and version 1 too",
        HOST,
        through="numpy (DLPack)",
        extends=("copy", "dlpack"),
    ),
    Trip(
        "dlpack-versioned",
        EXCHANGE,
        "a capsule of version 1, from torch to torch",
        through="DLPack 1.0",
        extends=("copy", "dlpack"),
    ),
    Trip(
        "dlpack-flipped",
        EXCHANGE,
        "torch.from_dlpack of a numpy array with a negative stride, in a process of its own",
        HOST,
        through="numpy (DLPack, backwards)",
    ),
    Trip(
        "dlpack-jax",
        EXCHANGE,
        "to jax on the host and back, where it is installed, in a process of its own",
        HOST,
        through="jax",
    ),
    Trip(
        "dlpack-cupy",
        EXCHANGE,
        "to cupy and back, where it is installed",
        ACCELERATORS,
        through="cupy",
        extends=("copy", "dlpack"),
    ),
    Trip(
        "safetensors-slice",
        EXCHANGE,
        "safe_open's get_slice, and the other readers that the installed version has",
        through="safetensors (slices)",
        extends=("copy", "safetensors-file"),
    ),
    Trip(
        "foreach-copy",
        EXCHANGE,
        "torch._foreach_copy_",
        through="foreach",
        extends=("copy",),
    ),
    Trip("index-copy", EXCHANGE, "Tensor.index_copy_", through="index_copy", extends=("copy",)),
    _cast(
        "embedding",
        EMBEDDING,
        "widened to a dtype that holds all of its values, and narrowed back, nothing changes",
    ),
    _cast("narrowing", NARROWING, "rounded to nearest, ties to even", ("copy", "embedding")),
    _cast(
        "conversion",
        CONVERSION,
        "to integers, bool and real dtypes: cut off toward zero, wrapped around, not zero",
    ),
    _cast(
        "cast-there",
        CROSSING,
        "copied from the host to the device and cast in one, in several arrangements",
        ("copy", "embedding", "narrowing", "conversion"),
        "copied there",
    ),
    _cast(
        "cast-back",
        CROSSING,
        "copied from the device to the host and cast in one",
        ("copy", "embedding", "narrowing", "conversion"),
        "copied back",
        ACCELERATORS,
    ),
    _cast(
        "agreement",
        NARROWING,
        "host and device have the same policies",
        ("narrowing",),
        where=ACCELERATORS,
    ),
    _independent("layout", "the same result whether contiguous, strided or transposed"),
    _independent("position", "the same result wherever in a vector, and alone", "layout"),
    _independent("company", "the same result whatever the neighbours", "layout", "position"),
    _cast(
        "compiled",
        COMPILED,
        "the same result by torch.compile (with --compiled)",
        ("narrowing",),
        "compiled",
    ),
)
TRIP_BY_NAME: Mapping[str, Trip] = {trip.name: trip for trip in TRIPS}
