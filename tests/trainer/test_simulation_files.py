"""Simulated logs as files: both at once or neither, summed up, and what is refused in one line."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from crosyslog.errors import SettingError, SystemProfileError
from crosyslog.lines import compression_of, open_log
from tests.trainer.simulated import SESSION_SYSTEMS
from trainer.simulation import labels_beside, simulate, write_simulated_log


def unpacked(path: Path) -> bytes:
    with open_log(path) as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("name", "compression"), [("log.txt", None), ("log.gz", "gzip"), ("log.zst", "zstd")]
)
def test_a_file_is_written_and_summed_up(
    tmp_path: Path, name: str, compression: str | None
) -> None:
    output = tmp_path / name
    told: list[int] = []
    summary = write_simulated_log(
        system="spirit", lines=3_000, anomaly_rate=0.1, seed=1, output=output, on_lines=told.append
    )
    assert summary.labels is None
    assert compression_of(output.read_bytes()) == compression
    data = unpacked(output)
    log = [line.decode("utf-8", "replace").split(" ") for line in data.splitlines()]
    assert summary.lines == len(log) == told[-1] == 3_000
    tags = Counter(line[0] for line in log if line[0] != "-")
    assert summary.alerts == tags.total() == 300
    assert summary.alerts_by_tag == tags
    assert list(summary.alerts_by_tag.values()) == sorted(tags.values(), reverse=True)
    assert summary.hosts == len({line[3] for line in log})
    assert 150 < summary.line_patterns < 400
    assert int(log[0][1]) == summary.first.timestamp()
    assert int(log[-1][1]) == summary.last.timestamp()
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("system", ["spirit", "hdfs"])
def test_the_same_seed_packs_to_the_same_bytes(tmp_path: Path, system: str) -> None:
    names = ("one.gz", "two.gz")
    for name in names:
        write_simulated_log(
            system=system, lines=500, anomaly_rate=0.1, seed=1, output=tmp_path / name
        )
    one, two = ((tmp_path / name).read_bytes() for name in names)
    assert one == two
    if system == "hdfs":
        one, two = (labels_beside(tmp_path / name).read_bytes() for name in names)
        assert one == two


@pytest.mark.parametrize(
    ("system", "column", "name"),
    [
        ("hdfs", "BlockId", r"blk_-?\d{19}"),
        ("openstack", "InstanceId", r"[0-9a-f]{8}(-[0-9a-f]+){4}"),
    ],
)
def test_labels_of_sessions_are_written_beside_the_log(
    tmp_path: Path, system: str, column: str, name: str
) -> None:
    output = tmp_path / "log"
    summary = write_simulated_log(
        system=system, lines=5_000, anomaly_rate=0.1, seed=1, output=output
    )
    assert summary.labels == tmp_path / "log.labels.csv"
    header, *rows = summary.labels.read_text().splitlines()
    assert header == f"{column},Label"
    labels: Counter[str] = Counter()
    text = output.read_text()
    for row in rows:
        session, label = row.split(",")
        assert re.fullmatch(name, session)
        assert session in text
        labels[label] += 1
    assert len(rows) == summary.sessions == len({row.split(",")[0] for row in rows})
    assert labels == {"Normal": summary.sessions - summary.alerts, "Anomaly": summary.alerts}
    assert sum(summary.alerts_by_tag.values()) == summary.alerts
    assert summary.lines == text.count("\n") == 5_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.labels.csv"]


@pytest.mark.parametrize("system", ["spirit", *SESSION_SYSTEMS])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path, system: str) -> None:
    output = tmp_path / "simulated.log"
    output.write_text("old")

    def interrupt(written: int) -> None:
        assert output.read_text() == "old"
        if written > 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_simulated_log(
            system=system,
            lines=9_000,
            anomaly_rate=0.1,
            seed=1,
            output=output,
            on_lines=interrupt,
        )
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


KILLED = """
import os, signal, sys
from pathlib import Path
from trainer.simulation import write_simulated_log

def stop(_: int) -> None:
    print("ready", flush=True)
    sys.stdin.read()

write_simulated_log(
    system="hdfs", lines=9000, anomaly_rate=0.1, seed=1, output=Path("log"), on_lines=stop
)
"""


def test_what_a_killed_run_leaves_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    output = tmp_path / "log"

    def simulated() -> set[str]:
        write_simulated_log(system="hdfs", lines=2_000, anomaly_rate=0.1, seed=1, output=output)
        return {path.name for path in tmp_path.iterdir()}

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(simulated()) == 4, "what another process is writing is left alone"
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 4
    assert simulated() == {"log", "log.labels.csv"}


def test_a_simulated_log_is_not_written_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"^--output -: .*; name a file"):
        write_simulated_log(system="bgl", lines=10, anomaly_rate=0, seed=1, output=Path("-"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for output in (tmp_path / "absent" / "log", tmp_path, Path("/dev/null")):
        with pytest.raises(SettingError, match=re.escape(f"--output {output}: ")):
            write_simulated_log(system="spirit", lines=10, anomaly_rate=0, seed=1, output=output)
    assert Path("/dev/null").is_char_device()


def test_an_unknown_system_is_answered_with_those_there_are() -> None:
    with pytest.raises(SystemProfileError, match=r"'windows'.*spirit.*thunderbird"):
        simulate("windows", 10, 0.1, 1)
    with pytest.raises(SystemProfileError):
        simulate("daemons", 10, 0.1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lines": 0}, r"--lines 0: .* at least 1"),
        ({"anomaly_rate": 0.61}, r"--anomaly-rate 0\.61: .* from 0 to 0\.6"),
        ({"anomaly_rate": -0.1}, r"--anomaly-rate -0\.1: "),
        ({"anomaly_rate": float("nan")}, r"--anomaly-rate nan: "),
        ({"seed": -1}, r"--seed -1: .* at least 0"),
        ({"late_templates": 1.0}, r"--late-templates 1\.0: .* from 0 to 0\.9"),
        ({"templates": 10}, r"--templates 10: .* at least 1,000"),
        ({"templates": 5_000}, r"--templates 5000: 10 lines of spirit hold \d+ at most"),
        ({"templates": 5_000, "system": "hdfs"}, r"--templates 5000: lines of hdfs hold no names"),
    ],
)
def test_an_impossible_setting_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        simulate(**{"system": "spirit", "lines": 10, "anomaly_rate": 0.1, "seed": 1, **arguments})
