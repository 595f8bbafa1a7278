"""What is published of the clients in other languages: a Go module that its tag finds, a crate that builds alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import ROOT
from tests.test_versions import VERSION

MODULE = "github.com/markethistory/markethistory/clients/go"


def run(*command: str, cwd: Path, **env: str) -> str:
    # A git that runs a hook tells its children about its own repository, which is not the one meant here.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, cwd=cwd, env=plain | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_go_module_is_found_by_its_tag(tmp_path: Path) -> None:
    """The folder's tag is `clients/go/v...`; the module brings its license and none of its tools' requirements."""
    if shutil.which("go") is None:
        pytest.skip("no Go here")
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    repository.mkdir()
    run("git", "init", "--quiet", cwd=repository)
    for name in ("LICENSE", "clients/go"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, repository / name)
    run("git", "add", "--all", cwd=repository)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "release", cwd=repository)
    run("git", "tag", f"clients/go/v{VERSION}", cwd=repository)
    redirect = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/markethistory/markethistory",
    }
    private = {"GOPROXY": "direct", "GONOSUMDB": MODULE, "GOMODCACHE": str(cache), "GOFLAGS": "-modcacherw"}
    told = run("go", "mod", "download", "-json", f"{MODULE}@v{VERSION}", cwd=tmp_path, **redirect, **private)
    folder = Path(json.loads(told)["Dir"])
    assert {"LICENSE", "README.md", "client.go", "historyv1"} <= {path.name for path in folder.iterdir()}
    assert "staticcheck" not in (folder / "go.mod").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_crate_has_what_its_users_need_and_nothing_else() -> None:
    if shutil.which("cargo") is None:
        pytest.skip("no Rust here")
    listed = run("cargo", "package", "--list", "--allow-dirty", "--locked", cwd=ROOT / "clients/rust").split()
    sources = {path.relative_to(ROOT / "clients/rust").as_posix() for path in (ROOT / "clients/rust/src").rglob("*.rs")}
    assert sources <= set(listed)
    assert {"LICENSE", "README.md", "examples/read.rs"} <= set(listed)
    assert not [name for name in listed if name.startswith(("target", "examples/bench", "examples/conformance"))]
