"""`make demo` as its user runs it, on a small log and the Kafka that all tests share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import KafkaAddress
from trainer.simulation import write_simulated_log

ROOT = Path(__file__).resolve().parents[2]


def children_of(folder: Path) -> list[str]:
    """Processes that run in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").resolve() == folder:
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def start_demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc to see processes")
def test_every_line_is_scored_once_and_nothing_is_left(kafka: KafkaAddress, tmp_path: Path) -> None:
    write_simulated_log(
        system="spirit", lines=2_000, anomaly_rate=0.1, seed=3, output=tmp_path / "spirit.log"
    )
    demo = start_demo(
        tmp_path, "--log", "spirit.log", "--system", "spirit", "--support", "500",
        "--kafka", kafka.bootstrap_servers, "--json", "figures.json",
    )  # fmt: skip
    out, err = demo.communicate(timeout=240)
    assert demo.returncode == 0, err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["support"] == 500
    assert figures["sent"] == figures["scored"] == 1_500
    assert figures["events"] > 0
    assert 0 < figures["precision"] <= 1
    assert 0 < figures["recall"] <= 1
    assert 0 < figures["first_event_s"] < figures["total_s"]
    assert "why: " in out
    assert children_of(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc to see processes")
@pytest.mark.usefixtures("java_and_maven")
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("Adapting"):
            break
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert children_of(tmp_path) == []


def test_a_program_that_ctrl_c_ends_is_no_failure_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\n: > looked_at\nexec sleep 60\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java.parents[1]))
    demo = start_demo(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "looked_at").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(demo.pid, signal.SIGINT)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert err == ""
