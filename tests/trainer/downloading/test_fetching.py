"""One file over HTTP from a server that misbehaves: it arrives whole, or is gone on from."""

import gzip
import hashlib
import io
import socket
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

from crosyslog.errors import InputError
from tests.trainer.downloading.publisher import (
    GZIPPED,
    LOG,
    MIDDLE,
    Publisher,
    dataset,
    files_no_longer_than,
    get,
    parts,
    refusal,
)
from trainer.downloading import fetching, load_datasets


def test_a_broken_connection_is_gone_on_from(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after = [MIDDLE, 1_000]
    got = get(dataset(publisher), tmp_path)
    assert got.logs[0].read_bytes() == GZIPPED
    assert [asked.get("range") for asked in publisher.requests] == [
        None,
        f"bytes={MIDDLE}-",
        f"bytes={MIDDLE + 1_000}-",
    ]
    assert publisher.requests[1]["if-range"] == publisher.tag


def test_tries_are_bounded_and_a_later_call_goes_on(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after = [100, 200, 300]
    line = refusal(dataset(publisher), tmp_path)
    assert f"the connection ended after 600 of {len(GZIPPED):,} bytes" in line
    assert "tried 3 times" in line
    assert "the same command goes on from there" in line
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[3]["range"] == "bytes=600-"


def test_a_long_way_got_on_counts_as_no_failure(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_GETTING_ON", 1_000)
    publisher.breaks_after = [10_000] * 5
    assert get(dataset(publisher), tmp_path, tries=2).logs[0].read_bytes() == GZIPPED


def test_a_silent_server_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after, publisher.stalls = [MIDDLE, 0], True
    line = refusal(dataset(publisher), tmp_path, tries=2, timeout=0.2)
    assert "the server does not answer" in line
    assert f"{MIDDLE:,} bytes have arrived" in line
    assert (tmp_path / "made" / "made.gz.part").read_bytes() == GZIPPED[:MIDDLE]


def test_a_server_without_ranges_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges, publisher.breaks_after = False, [MIDDLE]
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_starts_over(
    publisher: Publisher, tmp_path: Path, *, heeds_if_range: bool
) -> None:
    publisher.breaks_after = [MIDDLE]
    wanted = dataset(publisher, exact=False)
    refusal(wanted, tmp_path, tries=1)
    changed = bytes(reversed(LOG[:-1])) + b"\n"
    publisher.content, publisher.tag = gzip.compress(changed, mtime=0), '"second"'
    publisher.heeds_if_range = heeds_if_range
    assert gzip.decompress(get(wanted, tmp_path).logs[0].read_bytes()) == changed


def test_without_a_tag_only_a_sum_lets_it_go_on(publisher: Publisher, tmp_path: Path) -> None:
    publisher.tag, publisher.breaks_after = None, [MIDDLE, MIDDLE]
    get(dataset(publisher), tmp_path / "without")
    assert not any("range" in asked for asked in publisher.requests)
    publisher.breaks_after = [MIDDLE]
    md5 = hashlib.md5(GZIPPED, usedforsecurity=False).hexdigest()
    got = get(dataset(publisher, md5=md5), tmp_path / "with")
    assert got.logs[0].read_bytes() == GZIPPED
    assert publisher.requests[-1]["range"] == f"bytes={MIDDLE}-"


def test_a_part_that_the_server_cannot_place_starts_over(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.breaks_after = [MIDDLE]
    refusal(dataset(publisher), tmp_path, tries=1)
    publisher.refuses_with = [(416, "Range Not Satisfiable")]
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert "range" not in publisher.requests[-1]


def test_a_part_that_nothing_is_known_of_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "made.gz.part").write_bytes(b"of somebody else")
    (tmp_path / "made" / "made.gz.part.json").write_text('{"address": 1')
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert "range" not in publisher.requests[0]


def test_another_size_than_known_is_refused_at_once(publisher: Publisher, tmp_path: Path) -> None:
    line = refusal(dataset(publisher, size=len(GZIPPED) + 1), tmp_path)
    assert f"has {len(GZIPPED):,} bytes instead of {len(GZIPPED) + 1:,}" in line
    assert len(publisher.requests) == 1
    assert not parts(tmp_path)


def test_a_full_disk_keeps_what_has_arrived(publisher: Publisher, tmp_path: Path) -> None:
    with files_no_longer_than(MIDDLE):
        line = refusal(dataset(publisher), tmp_path)
    assert "no room is left" in line
    assert len(publisher.requests) == 1
    assert (tmp_path / "made" / "made.gz.part").stat().st_size == MIDDLE
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"


def test_a_refusal_is_not_asked_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.refuses_with = [(404, "Not Found")]
    line = refusal(dataset(publisher), tmp_path)
    assert "the server answers 404 Not Found" in line
    assert load_datasets()["spirit"].publisher.page in line
    assert len(publisher.requests) == 1


def test_a_server_that_is_busy_is_asked_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.refuses_with = [(503, "Service Unavailable"), (429, "Too Many Requests")]
    get(dataset(publisher), tmp_path)
    publisher.refuses_with = [(500, "Internal Server Error")] * 3
    assert "500 Internal Server Error" in refusal(dataset(publisher), tmp_path / "elsewhere")


def test_the_time_a_server_asks_for_is_bounded() -> None:
    def wait(asked: str) -> float:
        headers = Message()
        headers["Retry-After"] = asked
        return fetching._retry_after(headers)

    assert wait("7") == 7
    assert wait("86400") == 60
    assert wait("Wed, 21 Oct 2099 07:28:00 GMT") == 60
    assert wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert wait("soon") == 0


def test_a_connection_that_is_refused_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        line = refusal(dataset(publisher, address=f"http://127.0.0.1:{port}/made.gz"), tmp_path)
    assert "Connection refused; tried 3 times" in line


def test_redirects_are_followed_few_and_never_out_of_tls(
    publisher: Publisher, publish: Callable[..., Publisher], tmp_path: Path
) -> None:
    gate = publish()
    gate.leads_to = f"{publisher.address}/made.gz"
    publisher.breaks_after = [MIDDLE]
    assert get(dataset(gate), tmp_path / "through").logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"

    gate.leads_to = f"{gate.address}/round"
    assert "the server answers 302" in refusal(dataset(gate), tmp_path / "round")
    gate.leads_to = "ftp://127.0.0.1/made.gz"
    assert "which is no https" in refusal(dataset(gate), tmp_path / "ftp")
    secure = urllib.request.Request("https://127.0.0.1/made.gz")
    with pytest.raises(InputError, match="which is no https"):
        fetching._FewSafeRedirects().redirect_request(
            secure, io.BytesIO(), 302, "Found", {}, publisher.address
        )


def test_an_interrupt_keeps_what_has_arrived(publisher: Publisher, tmp_path: Path) -> None:
    def interrupt(_: str, done: int, __: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(dataset(publisher), tmp_path, report=interrupt)
    arrived = (tmp_path / "made" / "made.gz.part").stat().st_size
    assert 0 < arrived < len(GZIPPED)
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={arrived}-"
