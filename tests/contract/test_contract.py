"""The contract: linted, formatted, compatible with the last release, and the generated code is its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATORS = {
    "python": "python",
    "go": "go",
    "rust": ".tools/bin/protoc-gen-tonic",
    "typescript": "clients/typescript/node_modules/.bin/protoc-gen-es",
}
"""What has to be there to generate a language's code."""
BUF = shutil.which("buf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "no-buf-here"
EMPTY_MODULE = "version: v2\nmodules:\n  - path: proto\nbreaking:\n  use:\n    - WIRE_JSON\n"
TWO_FIELDS = """syntax = "proto3";

package planted.v1;

message Planted {
  string kept = 1;
  string second = 2;
}
"""
WITHOUT_SECOND = TWO_FIELDS.replace("  string second = 2;\n", "")
PLANTED = "proto/planted/v1/planted.proto"


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # A git that runs a hook tells its children about its own repository, which is not the one meant here.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)


def git(*arguments: str, cwd: Path = ROOT) -> str:
    done = run("git", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def baseline(repository: Path) -> str:
    """The commit to be compatible with: the last release before this commit, as a tag `v1.2.3` names it.

    Before there is one: main's last, or on main itself the one before, if the clone has it. A clone that has a commit
    checked out and no branch of that name knows the remote's. HEAD is always there.
    """

    def commit_of(name: str) -> str:
        return run("git", "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}", cwd=repository).stdout.strip()

    described = run("git", "describe", "--tags", "--abbrev=0", "--match=v[0-9]*", "HEAD^", cwd=repository)
    if described.returncode == 0:
        return commit_of(described.stdout.strip())
    main = commit_of("main") or commit_of("origin/main")
    before_main = commit_of("HEAD^") if main == commit_of("HEAD") else ""
    return before_main or main or commit_of("HEAD")


def contract_served(repository: Path, target: Path) -> Path:
    """The contract as main has it, unpacked to `target`; the oldest contract has only itself to compare with."""
    commit = baseline(repository)
    files = git("ls-tree", "-r", "--name-only", commit, "--", "proto", "buf.yaml", cwd=repository).split()
    if not any(name.endswith(".proto") for name in files):
        return repository
    for name in files:
        content = run("git", "show", f"{commit}:{name}", cwd=repository).stdout
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(content)
    return target


def test_the_contract_passes_lint_with_no_ignores() -> None:
    done = run(BUF, "lint")
    assert done.returncode == 0, done.stdout
    assert "ignore" not in (ROOT / "buf.yaml").read_text().replace("disallow_comment_ignores: true", "")


def test_the_contract_is_formatted() -> None:
    done = run(BUF, "format", "-d", "--exit-code")
    assert done.returncode == 0, f"run `uv run buf format -w`\n{done.stdout}"


def test_the_contract_breaks_nothing_that_main_serves(tmp_path: Path) -> None:
    done = run(BUF, "breaking", "--against", contract_served(ROOT, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def commit_all(repository: Path) -> None:
    git("add", "--all", ".", cwd=repository)
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "planted", cwd=repository)


def breaks(repository: Path, served: Path) -> bool:
    """Whether the work tree breaks what main serves; the field it lost is named if it does."""
    done = run(BUF, "breaking", "--against", contract_served(repository, served), cwd=repository)
    assert done.returncode in (0, 100), done.stderr
    assert ("second" in done.stdout) == (done.returncode == 100)
    return done.returncode == 100


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of its own whose main has one message of two fields."""
    origin = tmp_path / "origin"
    (origin / "proto/planted/v1").mkdir(parents=True)
    (origin / "buf.yaml").write_text(EMPTY_MODULE)
    git("init", "--quiet", "--initial-branch=main", cwd=origin)
    commit_all(origin)
    (origin / PLANTED).write_text(TWO_FIELDS)
    commit_all(origin)
    return origin


def test_the_first_contract_has_only_itself_to_compare_with(repository: Path, tmp_path: Path) -> None:
    assert contract_served(repository, tmp_path / "served") == repository


def test_a_field_removed_in_mains_last_commit_is_found(repository: Path, tmp_path: Path) -> None:
    (repository / "README").write_text("one commit after the contract\n")
    commit_all(repository)
    assert not breaks(repository, tmp_path / "before")
    (repository / PLANTED).write_text(WITHOUT_SECOND)
    commit_all(repository)
    assert breaks(repository, tmp_path / "after")


def test_a_field_removed_on_a_branch_is_found(repository: Path, tmp_path: Path) -> None:
    git("switch", "--quiet", "--create", "change", cwd=repository)
    assert not breaks(repository, tmp_path / "before")
    (repository / PLANTED).write_text(WITHOUT_SECOND)
    commit_all(repository)
    assert breaks(repository, tmp_path / "after")


def test_a_field_removed_in_a_shallow_clone_of_one_commit_is_found(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--depth=1", f"file://{repository}", str(clone), cwd=tmp_path)
    git("checkout", "--quiet", "--detach", cwd=clone)
    git("branch", "--quiet", "-D", "main", cwd=clone)
    assert not breaks(clone, tmp_path / "before")
    (clone / PLANTED).write_text(WITHOUT_SECOND)
    assert breaks(clone, tmp_path / "after")


def test_a_field_removed_since_the_last_release_is_found(repository: Path, tmp_path: Path) -> None:
    git("tag", "v0.1.0", cwd=repository)
    git("tag", "clients/go/v0.1.0", cwd=repository)
    (repository / PLANTED).write_text(WITHOUT_SECOND)
    commit_all(repository)
    (repository / "README").write_text("one commit after the field went\n")
    commit_all(repository)
    assert breaks(repository, tmp_path / "since")


@pytest.mark.slow
@pytest.mark.parametrize("language", GENERATORS)
def test_generating_the_code_again_changes_nothing(language: str, tmp_path: Path) -> None:
    if shutil.which(GENERATORS[language], path=f"{ROOT}{os.pathsep}{os.environ['PATH']}") is None:
        pytest.skip(f"no {GENERATORS[language]} here")
    done = run(sys.executable, ROOT / "proto/generate.py", "--into", tmp_path, language)
    assert done.returncode == 0, done.stderr
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folders = {name.parent for name in fresh}
    kept = {
        path.relative_to(ROOT): path.read_bytes()
        for folder in folders
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    }
    assert sorted(fresh) == sorted(kept), "run `make generate`"
    assert [name for name in fresh if fresh[name] != kept[name]] == [], "run `make generate`"
    assert fresh


def test_code_whose_proto_is_gone_does_not_survive_generation(tmp_path: Path) -> None:
    orphan = tmp_path / "clients/python/markethistory/v1/gone_pb2.py"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("")
    assert run(sys.executable, ROOT / "proto/generate.py", "--into", tmp_path, "python").returncode == 0
    assert not orphan.exists()
    assert (orphan.parent / "series_pb2.py").exists()


def test_a_language_that_nothing_generates_is_named(tmp_path: Path) -> None:
    done = run(sys.executable, ROOT / "proto/generate.py", "--into", tmp_path, "cobol")
    assert done.returncode != 0
    assert "no plugin for cobol; there are python, go" in done.stderr
