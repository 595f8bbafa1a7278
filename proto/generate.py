"""Generates the Python code of the contract: `python proto/generate.py OUT_DIR`.

Owns the generated files under OUT_DIR/markethistory/v1: nothing there outlives its proto file. Writes messages and
stubs with their types (protoc-gen-mypy). If a proto file is wrong it changes nothing. Never touches the network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
PACKAGE = Path("markethistory/v1")


def generate(out: Path) -> None:
    """Writes the generated package below `out`. Raises RuntimeError if protoc fails; it has said why on stderr."""
    sources = sorted((PROTO_ROOT / PACKAGE).glob("*.proto"))
    out.mkdir(parents=True, exist_ok=True)
    # protoc finds its plugins, which are scripts of this environment, on the PATH alone.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    includes = [f"--proto_path={PROTO_ROOT}", f"--proto_path={WELL_KNOWN}"]
    outputs = [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python")]
    outputs += [f"--{plugin}_out=quiet:{out}" for plugin in ("mypy", "mypy_grpc")]
    code = protoc.main(["protoc", *includes, *outputs, *map(str, sources)])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    _remove_orphans(out / PACKAGE, {source.stem for source in sources})


def _remove_orphans(package: Path, stems: set[str]) -> None:
    for path in package.glob("*_pb2*"):
        if path.name.split("_pb2")[0] not in stems:
            path.unlink()


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve())
