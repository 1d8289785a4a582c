"""`python -m tests.benchmarks [--quick] [--only NAME] [--repeat N] [--json PATH]`."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks import (
    calls,
    collection,
    fleet,
    instructions,
    large_ledger,
    ledger,
    roundtrip,
    selection,
    simulation,
    weight_loading,
    weight_planning,
    weight_rules,
)
from tests.benchmarks.report import as_json, table, tell, versions

BENCHMARKS = {
    "collection": collection,
    "selection": selection,
    "calls": calls,
    "ledger": ledger,
    "instructions": instructions,
    "large-ledger": large_ledger,
    "fleet": fleet,
    "roundtrip": roundtrip,
    "simulation": simulation,
    "weight-rules": weight_rules,
    "weight-planning": weight_planning,
    "weight-loading": weight_loading,
}


def main() -> None:
    """Measure, print one table after the other, and write the JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions: a rough picture")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="just this benchmark")
    parser.add_argument("--repeat", type=int, metavar="N", help="so many repetitions of each")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all numbers there too")
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in versions().items()))
    sections = []
    with tempfile.TemporaryDirectory(prefix="dtype-sampler-bench-") as folder:
        for name in options.only or BENCHMARKS:
            module = BENCHMARKS[name]
            needed = getattr(module, "NEEDS", None)
            if needed and find_spec(needed) is None:
                print(f"\n{name}: left out, as it needs {needed}: tox run -e bench-weights")
                continue
            program = getattr(module, "PROGRAM", None)
            if program and shutil.which(program) is None:
                print(f"\n{name}: left out, as there is no {program} here")
                continue
            repetitions = options.repeat or (module.QUICK if options.quick else module.REPETITIONS)
            sections.append(module.run(Path(folder, name), repetitions, tell))
            tell("")
            print(f"\n{table(sections[-1])}", flush=True)
    missed = sum(result.verdict == "missed" for s in sections for result in s.results)
    judged = sum(bool(result.verdict) for s in sections for result in s.results)
    print(f"\n{judged - missed} of {judged} aims met, {missed} missed")
    if options.json:
        options.json.write_text(json.dumps(as_json(sections), indent=1) + "\n")


if __name__ == "__main__":
    main()
