"""The house rules that a program can check, as pure functions from source text to violations.

Owns the map of walls: which package may import which, and which package owns which driver. Every violation says
where it is and how to mend it. Reads only the text it is given, imports nothing of what it checks.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_LINES: Final = 500
MAX_FUNCTION_LINES: Final = 70

_CORE: Final = ("historyd.errors", "historyd.model")
_HOOKS: Final = "historyd.observability.hooks"
_OPTIONS: Final = (
    "historyd.sources.options",
    "historyd.ratelimit.options",
    "historyd.stores.questdb_options",
    "historyd.observability.options",
)
_BASES: Final = ("historyd.sources.base", "historyd.stores.base", "historyd.ratelimit.base", "historyd.leases.base")

WALLS: Final[dict[str, tuple[str, ...]]] = {
    "historyd.errors": (),
    "historyd.model": ("historyd.errors",),
    "historyd.coverage": _CORE,
    "historyd.quality": (*_CORE, "historyd.coverage"),
    "historyd.planner": (*_CORE, "historyd.coverage"),
    "historyd.ratelimit": _CORE,
    "historyd.leases": (*_CORE, "historyd.ratelimit.link", "historyd.ratelimit.errands"),
    "historyd.sources": (*_CORE, _HOOKS, "historyd.coverage", "historyd.ratelimit.base"),
    "historyd.stores": (*_CORE, "historyd.coverage"),
    "historyd.arrow": _CORE,
    "historyd.observability": _CORE,
    "historyd.engine": (
        *_CORE,
        *_BASES,
        _HOOKS,
        "historyd.coverage",
        "historyd.planner",
        "historyd.quality",
    ),
    "historyd.service": (
        *_CORE,
        *_BASES,
        "historyd.coverage",
        "historyd.engine",
        "historyd.arrow",
        "historyd.quality",
    ),
    "historyd.config": (*_CORE, "historyd.config_errors", *_OPTIONS),
    "historyd.config_errors": (),
    "historyd.healthcheck": (),
    "historyd.heap": (),
    "historyd.app": ("historyd",),
    "historyd.cli": ("historyd",),
    "historyd.maintenance": (*_CORE, "historyd.stores"),
    "historyd.demo": ("historyd",),
    "historyd.qmtl": ("historyd",),
    "historyd.__main__": ("historyd.cli",),
    "markethistory": (),
}
"""What each package may import of the house, itself apart. The longest name that fits a module is its package."""

MENDS: Final[dict[str, str]] = {
    "historyd.errors": "it imports nothing; pass plain values to the error",
    "historyd.model": "the model knows no behaviour; move the code to the package that needs it",
    "historyd.coverage": "keep it pure; let the caller pass the values in",
    "historyd.quality": "keep it pure; let the caller pass the values in",
    "historyd.planner": "keep it pure: no clock, no I/O; let the engine pass the values in",
    "historyd.leases": "a lease knows names only; let the engine or app pass the values in",
    "historyd.ratelimit": "a limiter knows costs and keys only; let the source or app pass the values in",
    "historyd.sources": "a source answers questions; take a Limiter from ratelimit.base, let engine or app do the rest",
    "historyd.stores": "a store keeps rows and facts; let engine or app do the rest",
    "historyd.arrow": "framing knows record batches only; let the service pass the values in",
    "historyd.observability": "take plain values or a hook; app wires it",
    "historyd.engine": "use the protocol in sources.base, stores.base or ratelimit.base; app passes the real one in",
    "historyd.service": "ask the engine; convert in service/convert.py, errors in service/status.py",
    "historyd.config": "settings are plain values; only the packages' options modules may be named",
    "historyd.__main__": "call historyd.cli.main",
    "markethistory": "a client speaks the contract; nothing of the server may be needed to install it",
}

DRIVERS: Final[dict[str, tuple[str, ...]]] = {
    "grpc": ("historyd.service", "historyd.app", "historyd.healthcheck", "markethistory"),
    "grpc_health": ("historyd.service", "historyd.app", "historyd.healthcheck"),
    "grpc_reflection": ("historyd.service", "historyd.app"),
    "markethistory.v1": ("historyd.service", "historyd.app", "markethistory"),
    "markethistory": ("historyd.service", "historyd.app", "historyd.cli", "historyd.demo", "historyd.qmtl"),
    "ccxt": ("historyd.sources",),
    "aiohttp": ("historyd.sources", "historyd.stores", "historyd.demo"),
    "sqlite3": ("historyd.stores",),
    "asyncpg": ("historyd.stores",),
    "apprise": ("historyd.observability",),
    "redis": ("historyd.ratelimit", "historyd.leases"),
    "historyd.engine": ("historyd.service", "historyd.app", "historyd.qmtl"),
}
"""Who alone may import a driver. The longest name that fits an import decides."""

_BANNED_WORDS: Final = frozenset(
    word + plural for word in ("helper", "util", "manager", "common", "misc") for plural in ("", "s")
)
# Written in two halves, so that this file does not break its own rule.
_MARKS: Final = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: where, what, and how to mend it."""

    path: str
    line: int
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}. Mend: {self.mend}."


def check_module(path: str, module: str, source: str) -> list[Violation]:
    """All broken rules of one Python module: `module` is its dotted name, `path` is for the messages."""
    tree = ast.parse(source)
    found = [*_walls(path, module, tree), *_drivers(path, module, tree), *_functions(path, tree)]
    return [*found, *_docstring(path, module, tree), *_name(path), *check_text(path, source)]


def check_text(path: str, text: str) -> list[Violation]:
    """The rules that hold for any text file: its length and no marks of unfinished work."""
    lines = text.splitlines()
    found = [
        Violation(path, number, f"mark {match[0]}", "do it now, or write an issue")
        for number, line in enumerate(lines, 1)
        if (match := _MARKS.search(line))
    ]
    if len(lines) > MAX_FILE_LINES:
        found.append(Violation(path, 1, f"{len(lines)} lines, {MAX_FILE_LINES} allowed", "split it by what it owns"))
    return found


def _walls(path: str, module: str, tree: ast.Module) -> Iterator[Violation]:
    if not _inside(module, "historyd") and not _inside(module, "markethistory"):
        return
    package = _longest(module, WALLS)
    if package is None:
        if module != "historyd":
            yield Violation(
                path, 1, f"no wall is drawn for {module}", "say in WALLS of tests/tidy.py what it may import"
            )
        return
    allowed = (package, *WALLS[package])
    for line, name in imports(tree, module):
        if _inside(name, "historyd") and not any(_inside(name, prefix) for prefix in allowed):
            yield Violation(path, line, f"{module} imports {name}", MENDS.get(package, "import nothing of the house"))


def _drivers(path: str, module: str, tree: ast.Module) -> Iterator[Violation]:
    if not _inside(module, "historyd") and not _inside(module, "markethistory"):
        return
    for line, name in imports(tree, module):
        driver = _longest(name, DRIVERS)
        if driver is None or _inside(module, driver) or any(_inside(module, owner) for owner in DRIVERS[driver]):
            continue
        owners = ", ".join(DRIVERS[driver])
        yield Violation(path, line, f"{module} imports {name}", f"{driver} belongs to {owners}; go through its base")


def _functions(path: str, tree: ast.Module) -> Iterator[Violation]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            size = node.end_lineno - node.lineno + 1
            if size > MAX_FUNCTION_LINES:
                what = f"{node.name} has {size} lines, {MAX_FUNCTION_LINES} allowed"
                yield Violation(path, node.lineno, what, "give each thing it does a function of its own")


def _docstring(path: str, module: str, tree: ast.Module) -> Iterator[Violation]:
    private = any(part.startswith("_") and not part.startswith("__") for part in module.split("."))
    if tree.body and not private and ast.get_docstring(tree) is None:
        yield Violation(path, 1, "no docstring", "say what the module owns, promises and never does")


def _name(path: str) -> Iterator[Violation]:
    stem = path.rsplit("/", 1)[-1].removesuffix(".py")
    banned = _BANNED_WORDS.intersection(stem.lower().split("_"))
    for word in banned:
        yield Violation(path, 1, f"the name says {word!r}", "name it by what it owns")


def imports(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, in functions, under TYPE_CHECKING and by importlib too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _is_import_call(node.func):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def _origin(node: ast.ImportFrom, module: str) -> str:
    if node.level == 0:
        return node.module or ""
    parents = module.split(".")[: -node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _inside(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _longest(name: str, names: dict[str, tuple[str, ...]]) -> str | None:
    return max((known for known in names if _inside(name, known)), key=len, default=None)
