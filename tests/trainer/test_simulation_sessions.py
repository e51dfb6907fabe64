"""Simulated HDFS and OpenStack: their raw formats, and sessions that live, overlap and go wrong."""

import re
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise

import pytest

from crosyslog.masking import mask
from tests.trainer.simulated import SESSION_SYSTEMS, split
from trainer.simulation.logs import open_log
from trainer.simulation.settings import Settings

FORMATS = {
    "hdfs": r"(?P<time>\d{6} \d{6}) \d+ (INFO|WARN|ERROR) dfs\.[\w$]+: .*blk_-?\d+.*",
    "openstack": (
        r"nova-(api|compute|scheduler|conductor)\.log\.1\.\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d"
        r" (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) \d+ (INFO|WARNING|ERROR) [\w.]+"
        r" \[(-|req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}( (-|[0-9a-f]{32})){2} - - -)\]"
        r"( \[instance: [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\])? .*"
    ),
}
TIMES = {"hdfs": "%y%m%d %H%M%S", "openstack": "%Y-%m-%d %H:%M:%S.%f"}


class Written:
    """A simulated log, its lines and its sessions."""

    def __init__(self, system: str, lines: int, rate: float, seed: int) -> None:
        settings = Settings(lines=lines, anomaly_rate=rate, seed=seed)
        blocks = list(open_log(system, settings).blocks())
        self.system = system
        raw = b"".join(block.text for block in blocks).splitlines()
        self.lines = [line.decode() for line in raw]
        self.frame = split(system, raw)
        self.labels = dict(session for block in blocks for session in block.sessions)
        self.kinds = sum((block.alerts for block in blocks), Counter[str]())

    def by_session(self) -> dict[str, list[int]]:
        """The line numbers of each session, as the profile sees it."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, session in enumerate(self.frame["session"].to_list()):
            if session is not None:
                numbers[session].append(number)
        return numbers


@pytest.fixture(scope="module", params=SESSION_SYSTEMS)
def log(request: pytest.FixtureRequest) -> Written:
    return Written(request.param, 20_000, 0.1, 3)


def test_every_line_has_the_format_and_times_never_go_back(log: Written) -> None:
    pattern = re.compile(FORMATS[log.system])
    times = []
    for line in log.lines:
        match = pattern.fullmatch(line)
        assert match, line
        times.append(datetime.strptime(match["time"], TIMES[log.system]))  # noqa: DTZ007 - compared
    assert len(times) == 20_000
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_the_profile_finds_the_sessions_that_have_labels(log: Written) -> None:
    numbers = log.by_session()
    assert set(numbers) <= set(log.labels)
    # One that was cut off by the log's end may have shown nothing yet that names it.
    assert len(set(log.labels) - set(numbers)) <= 1


def test_sessions_are_under_way_side_by_side(log: Written) -> None:
    sessions = sorted(numbers for numbers in log.by_session().values())
    open_at = Counter[int]()
    for numbers in sessions:
        for tenth in range(numbers[0] // 2_000 + 1, numbers[-1] // 2_000 + 1):
            open_at[tenth] += 1
    assert min(open_at[tenth] for tenth in range(1, 10)) >= 3
    neighbours = sum(b - a == 1 for numbers in sessions for a, b in pairwise(numbers))
    assert neighbours < len(log.lines) / 2, "lines of other sessions come between"


def test_the_share_of_anomalous_sessions_is_met_and_they_go_wrong_in_many_ways(
    log: Written,
) -> None:
    anomalous = sum(log.labels.values())
    assert anomalous == pytest.approx(len(log.labels) * 0.1, abs=0.02 * len(log.labels))
    assert log.kinds.total() == anomalous
    assert len(log.kinds) >= 8
    assert sum(list(log.labels.values())[:30]) >= 2, "the first lines show some"


@pytest.mark.parametrize("rate", [0, 0.6])
@pytest.mark.parametrize("system", SESSION_SYSTEMS)
def test_any_share_can_be_asked_for(system: str, rate: float) -> None:
    labels = Written(system, 15_000, rate, 8).labels
    assert sum(labels.values()) == pytest.approx(len(labels) * rate, abs=0.05 * len(labels))
    assert rate > 0 or not any(labels.values())


def test_anomalies_say_what_normal_sessions_never_do_or_leave_out_what_these_do(
    log: Written,
) -> None:
    texts = mask(log.frame["text"]).to_list()
    said: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    by_session = log.by_session()
    for session, numbers in by_session.items():
        said[log.labels[session]].update({texts[number] for number in numbers})
    telling = set(said[True]) - set(said[False])
    assert len(telling) >= 12
    silent = [
        session
        for session, numbers in by_session.items()
        if log.labels[session] and not telling & {texts[number] for number in numbers}
    ]
    assert silent, "some are told by their order or their early end alone"


def test_one_host_in_trouble_spoils_sessions_in_a_row() -> None:
    settings = Settings(lines=90_000, anomaly_rate=0.08, seed=2)
    longest = 0
    for block in open_log("hdfs", settings).blocks():
        if len(block.sessions) > 8 and block.alerts:
            longest = max(longest, *block.alerts.values())
    assert longest >= 10


def test_memory_holds_the_sessions_under_way_and_no_more() -> None:
    """Lines that wait for their time grow with the rate of sessions, and not with the log."""
    settings = Settings(lines=90_000, anomaly_rate=0.05, seed=1)
    planned = written = most = 0
    for block in open_log("hdfs", settings).blocks():
        planned += len(block.sessions) * 21
        written += block.lines
        most = max(most, planned - written)
    assert written == 90_000
    assert most < 60_000
