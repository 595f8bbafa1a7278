"""Runs one benchmark: `python -m benchmarks NAME`. Progress goes to stderr, one JSON object is stdout's last line."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil

import benchmarks


def names() -> list[str]:
    """All benchmarks there are."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if not module.ispkg and module.name[0] != "_"
    )


def main() -> None:
    """Runs the benchmark named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=names())
    module = importlib.import_module(f"benchmarks.{parser.parse_args().name}")
    print(json.dumps(module.run()), flush=True)


if __name__ == "__main__":
    main()
