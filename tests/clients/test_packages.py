"""What is published of the clients in other languages: a Go module that its tag finds, a crate that builds alone, ...

... Maven's jars, and an npm tarball that can be imported where nothing of this repository is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.clients.programs import BUILT, ROOT
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


def built(path: Path, language: str) -> Path:
    """A package that `make clients` built."""
    if not path.exists():
        pytest.skip(f"no {path.relative_to(ROOT)}: `make clients-{language}` builds it, with the language's tools")
    return path


def test_the_jars_have_classes_sources_and_license_and_no_tests() -> None:
    target = ROOT / "clients/java/target"
    classes = set(zipfile.ZipFile(built(target / f"markethistory-{VERSION}.jar", "java")).namelist())
    sources = set(zipfile.ZipFile(built(target / f"markethistory-{VERSION}-sources.jar", "java")).namelist())
    assert {"META-INF/LICENSE", "io/markethistory/HistoryReader.class", "io/markethistory/v1/RowKey.class"} <= classes
    assert {"io/markethistory/HistoryReader.java", "io/markethistory/v1/RowKey.java"} <= sources
    assert not [name for name in classes | sources if "Test" in name or "programs" in name]


@pytest.mark.slow
def test_the_npm_package_can_be_imported_and_brings_its_types(tmp_path: Path) -> None:
    tarball = built(BUILT / f"typescript/markethistory-{VERSION}.tgz", "typescript")
    modules, theirs = tmp_path / "node_modules", ROOT / "clients/typescript/node_modules"
    modules.mkdir()
    for dependency in theirs.iterdir():
        (modules / dependency.name).symlink_to(dependency)
    with tarfile.open(tarball) as packed:
        assert {"package/LICENSE", "package/README.md"} <= set(packed.getnames())
        assert not [name for name in packed.getnames() if not name.startswith("package/dist/") and name.endswith(".ts")]
        packed.extractall(modules, filter="data")
    (modules / "package").rename(modules / "markethistory")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(
        'import { connect, ErrorReason } from "markethistory";\nimport type { Series } from "markethistory/v1";\n'
        "export const series: Series[] = [];\nconnect().close();\nconsole.log(ErrorReason.INCOMPLETE);\n"
    )
    strict = ("--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--types", "node")
    run(str(theirs / ".bin/tsc"), *strict, "use.ts", cwd=tmp_path)
    assert run("node", "use.js", cwd=tmp_path).strip() == "6"
