"""Generates the code of the contract by buf.gen.yaml: `python proto/generate.py [--into OUT] [LANGUAGE ...]`.

Owns the generated folders below OUT/clients: what stands there is what the plugins wrote, nothing outlives its proto
file. Without languages it generates all of them. If a proto file is wrong, or a plugin is missing, it changes nothing.
Plugins are local and pinned; the network is touched only by Go, when it fetches the tools of clients/go/tools.mod.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent


def template(languages: Sequence[str]) -> dict[str, Any]:
    """The part of buf.gen.yaml that is about these languages; all of it for none. Raises ValueError for a wrong one."""
    whole: dict[str, Any] = yaml.safe_load((ROOT / "buf.gen.yaml").read_text(encoding="utf-8"))
    known = list(dict.fromkeys(_language(plugin) for plugin in whole["plugins"]))
    if unknown := set(languages) - set(known):
        raise ValueError(f"no plugin for {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    plugins = [plugin for plugin in whole["plugins"] if not languages or _language(plugin) in languages]
    return {**whole, "plugins": plugins}


def generate(out: Path, languages: Sequence[str] = ()) -> None:
    """Writes the generated folders below `out`. Raises CalledProcessError if buf fails; it has said why on stderr."""
    tools = (Path(sys.executable).parent, ROOT / ".tools/bin")
    env = {**os.environ, "PATH": os.pathsep.join([*map(str, tools), os.environ["PATH"]])}
    with tempfile.TemporaryDirectory() as folder:
        command = ["buf", "generate", "--template", json.dumps(template(languages)), "--output", folder]
        subprocess.run(command, cwd=ROOT, env=env, check=True)  # noqa: S603  a command of our own
        fresh = [path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()]
        for name in fresh:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / name, out / name)
    for parent in {name.parent for name in fresh}:
        for path in (out / parent).iterdir():
            if path.is_file() and path.relative_to(out) not in fresh:
                path.unlink()


def _language(plugin: dict[str, Any]) -> str:
    return Path(plugin["out"]).parts[1]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Generates the code of the contract.")
    arguments.add_argument("--into", type=Path, default=ROOT, help="where clients/ is; default: this repository")
    arguments.add_argument("languages", nargs="*", metavar="LANGUAGE", help="default: all")
    given = arguments.parse_args()
    generate(given.into.resolve(), given.languages)
