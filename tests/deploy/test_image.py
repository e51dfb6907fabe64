"""The image's Dockerfile, its locks and its health check, as far as no engine is needed."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from agent.settings import load_settings

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in their order: name, and the rest of the line."""
    text = re.sub(r"^\s*#.*\n", "", (IMAGE / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    parts = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(name, rest) for name, rest in parts]


def last_stage() -> list[tuple[str, str]]:
    lines = instructions()
    start = max(index for index, (name, _) in enumerate(lines) if name == "FROM")
    return lines[start:]


def of_last_stage(wanted: str) -> str:
    (value,) = [rest for name, rest in last_stage() if name == wanted]
    return value


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in of_last_stage("ENV").split())


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package in a lock; a version may hold for some platforms alone."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(
        r"^([a-z0-9.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE
    ):
        found.setdefault(package, set()).add(version)
    return found


def test_the_dockerfile_has_two_stages_and_known_instructions() -> None:
    names = [name for name, _ in instructions()]
    assert names.count("FROM") == 2
    known = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "VOLUME", "EXPOSE"}
    assert set(names) <= known | {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}


def test_it_runs_as_a_user_by_number_who_is_not_root() -> None:
    user, group = of_last_stage("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    (made,) = [rest for name, rest in last_stage() if name == "RUN"]
    assert f"--uid {user} --gid {group}" in made
    # Nothing after USER writes as root.
    after = [name for name, _ in last_stage()][[n for n, _ in last_stage()].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_it_starts_the_agent_and_is_stopped_by_sigterm() -> None:
    entry = json.loads(of_last_stage("ENTRYPOINT"))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert entry == ["crosyslog-agent"]
    assert entry[0] in scripts
    assert of_last_stage("STOPSIGNAL") == "SIGTERM"


def test_its_environment_holds_real_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in environment().items() if name.startswith("CROSYSLOG_")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - a container's own network
    assert str(settings.http.port) == of_last_stage("EXPOSE")
    assert len(given) == 4


def test_all_that_is_written_lies_on_a_volume() -> None:
    volumes = [Path(path) for path in json.loads(of_last_stage("VOLUME"))]
    paths = environment()
    for name in ("HOME", "TMPDIR", "CROSYSLOG_MODEL__STORE", "CROSYSLOG_ENCODER__CACHE"):
        assert any(Path(paths[name]).is_relative_to(volume) for volume in volumes), name
    # A fresh volume takes owner and mode of the folder in the image.
    (made,) = [rest for name, rest in last_stage() if name == "RUN"]
    folders = made.split("install --directory", 1)[1].split()
    assert "--mode 700" in made
    assert {str(volume) for volume in volumes} <= set(folders)


def test_what_it_copies_exists_and_is_in_the_build_context() -> None:
    ignored = (IMAGE / "Dockerfile.dockerignore").read_text().split("\n")
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for name, rest in instructions():
        if name != "COPY" or "--from=" in rest:
            continue
        sources = [word for word in rest.split() if not word.startswith("--")][:-1]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in kept), source


def test_both_builds_of_torch_are_locks_that_it_copies() -> None:
    (copied,) = [rest for name, rest in instructions() if name == "COPY" and ".lock" in rest]
    assert dict(instructions())["ARG"] == "TORCH=cpu"
    for build in ("cpu", "cuda"):
        assert f"deploy/image/torch-{build}.lock" in copied.split()


def test_its_locks_hold_the_versions_of_the_project_s() -> None:
    main = pins("requirements.lock")
    for lock in ("requirements", "torch-cuda", "build"):
        for package, versions in pins(f"deploy/image/{lock}.lock").items():
            assert versions <= main[package], f"{package} of {lock}.lock: run `make lock`"
    (cpu,) = pins("deploy/image/torch-cpu.lock")["torch"]
    assert {cpu.removesuffix("+cpu")} == main["torch"]
    assert pins("deploy/image/torch-cuda.lock")["torch"] == main["torch"]


def test_its_lock_holds_what_the_agent_needs_and_no_cuda() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["s3"] + extras["gcs"]
    names = {re.split(r"[\[<>=!~ ]", one, maxsplit=1)[0] for one in wanted} - {"torch"}
    locked = pins("deploy/image/requirements.lock")
    assert names <= set(locked), "run `make lock`"
    assert not [name for name in locked if name.startswith(("nvidia", "cuda", "triton", "torch"))]
    assert not {"ray", "matplotlib", "pytest", "mypy"} & set(locked)


@pytest.mark.parametrize("lock", sorted(IMAGE.glob("*.lock")), ids=lambda path: path.name)
def test_every_pin_of_a_lock_has_a_hash(lock: Path) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_torch_without_cuda_needs_nothing_that_the_lock_lacks() -> None:
    """Its own requirements are those of the build with CUDA, less what is for CUDA alone."""
    with_cuda = set(pins("deploy/image/torch-cuda.lock"))
    for_cuda = {name for name in with_cuda if name.startswith(("nvidia", "cuda", "triton"))}
    assert with_cuda - for_cuda - {"torch"} <= set(pins("deploy/image/requirements.lock"))


class Readiness(BaseHTTPRequestHandler):
    """Answers /readyz as the agent does."""

    ready = True

    def do_GET(self) -> None:
        status = 404 if self.path != "/readyz" else 200 if self.ready else 503
        body = b"" if status == 200 else b"no partition is assigned\n"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def answering(*, ready: bool) -> Iterator[int]:
    handler = type("Answer", (Readiness,), {"ready": ready})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def check(port: int) -> subprocess.CompletedProcess[str]:
    command = json.loads(of_last_stage("HEALTHCHECK").split("CMD", 1)[1])
    assert command == ["python", "/opt/crosyslog/ready.py"]
    (copied,) = [rest for _, rest in instructions() if rest.endswith(command[1])]
    script = copied.split()[-2]
    environment = os.environ | {"CROSYSLOG_HTTP__PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-I", str(ROOT / script)], env=environment, capture_output=True, text=True,
        check=False, timeout=20,
    )  # fmt: skip


def test_the_health_check_succeeds_where_the_agent_is_ready() -> None:
    with answering(ready=True) as port:
        done = check(port)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_health_check_says_why_the_agent_is_not_ready() -> None:
    with answering(ready=False) as port:
        done = check(port)
    assert (done.returncode, done.stdout) == (1, "no partition is assigned\n")


def test_the_health_check_fails_where_nothing_listens() -> None:
    with answering(ready=True) as port:
        pass
    done = check(port)
    assert done.returncode == 1
    assert f"no answer from port {port}" in done.stdout
