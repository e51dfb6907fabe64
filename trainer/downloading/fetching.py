"""One file over HTTP: in pieces if need be, and never mixed from two versions of it.

What has arrived lies in `<name>.part`; beside it `<name>.part.json` says which version of the file
that is (ETag or Last-Modified). The next try asks for the rest of that very version (If-Range,
RFC 9110 section 13.1.5); a server that has another one, or cannot send a part, sends the whole.
"""

import email.utils
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import crosyslog
from crosyslog.errors import InputError
from trainer.downloading.catalogue import Dataset

#: Told what is being done, how many bytes of it are done, and how many there are.
Report = Callable[[str, int, int], None]

#: Bytes asked of the network at once: small enough for a bar that moves on a slow line.
_PIECE = 1 << 16

#: A try that brought as much as this counts as none: a line that breaks every few minutes must
#: not end a download of gigabytes. It is bounded all the same, by the size of the file.
_GETTING_ON = 16 << 20

#: The longest time that a server can make us wait with Retry-After, in seconds.
_LONGEST_WAIT = 60.0

#: Answers that may be another one in a moment.
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a server, and how often to come back."""

    timeout: float = 30.0
    """Seconds without a byte, or to connect, after which a try is given up."""
    tries: int = 6
    wait: float = 1.0
    """Seconds before the second try; twice as long before each further one."""


class _BrokenError(Exception):
    """A try failed in a way that another one may not."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class _Version:
    """Which version of a file a part belongs to."""

    address: str
    validator: str | None
    size: int | None


def fetch(dataset: Dataset, part: Path, patience: Patience, report: Report) -> None:
    """Brings the file of a data set into `part`, all of it and of the size that is known.

    Raises:
        InputError: the server refuses, the file is not the known one, or all tries failed; what
            has arrived is kept where a later call can go on from it.
        OSError: the disk does not take it.
    """
    failures, furthest = 0, _length(part)
    while True:
        try:
            _try(dataset, part, patience, report)
        except _BrokenError as error:
            if (arrived := _length(part)) >= furthest + _GETTING_ON:
                failures, furthest = 0, arrived
            failures += 1
            if failures >= patience.tries:
                kept = "the same command goes on from there" if arrived else "try again later"
                raise InputError(
                    f"cannot fetch {dataset.address}: {error}; tried {failures} times, "
                    f"{arrived:,} bytes have arrived: {kept}"
                ) from error
            time.sleep(max(error.wait, patience.wait * 2 ** (failures - 1)))
        else:
            return


def discard(part: Path) -> None:
    """Removes a part, and what is known of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _try(dataset: Dataset, part: Path, patience: Patience, report: Report) -> None:
    """One request, from where the last one ended."""
    version, arrived = _known(part), _length(part)
    if version is None or not _can_go_on(version, dataset):
        version, arrived = None, 0
    elif arrived == version.size:
        return
    request = urllib.request.Request(dataset.address)  # noqa: S310 - from the catalogue
    request.add_header("User-Agent", f"crosyslog/{crosyslog.__version__}")
    if version is not None and arrived:
        request.add_header("Range", f"bytes={arrived}-")
        if version.validator is not None:
            request.add_header("If-Range", version.validator)
    with _open(request, dataset, part, patience) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            start, size = _content_range(response.headers)
            # A server that knows no If-Range tells by the tag that the file has changed.
            changed = version is None or _validator(response.headers) != version.validator
            if version is None or changed or (start, size) != (arrived, version.size):
                discard(part)
                raise _BrokenError("the server sent another part than was asked for")
        else:
            arrived = 0
            size = _content_length(response.headers) or (dataset.size if dataset.exact else None)
            if dataset.exact and size != dataset.size:
                raise InputError(
                    f"{dataset.address} has {size:,} bytes instead of {dataset.size:,}: it is not "
                    f"the file that is known here; see {dataset.publisher.page}"
                )
            version = _Version(dataset.address, _validator(response.headers), size)
            # The note goes first: a part without one is not gone on from.
            discard(part)
            _note(part).write_text(json.dumps(asdict(version)), encoding="utf-8")
        total = size or dataset.size
        _receive(response, part, arrived, size, lambda done: report("fetching", done, total))


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    arrived: int,
    size: int | None,
    report: Callable[[int], None],
) -> None:
    with part.open("ab", buffering=0) as file:
        report(arrived)
        while size is None or arrived < size:
            try:
                piece = response.read1(_PIECE if size is None else min(_PIECE, size - arrived))
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(_reason(error)) from error
            if not piece:
                break
            rest = memoryview(piece)
            while rest:
                # Unbuffered: on a full disk, what a write took is a part to go on from.
                rest = rest[file.write(rest) :]
            arrived += len(piece)
            report(arrived)
    if size is not None and arrived < size:
        raise _BrokenError(f"the connection ended after {arrived:,} of {size:,} bytes")


def _open(
    request: urllib.request.Request, dataset: Dataset, part: Path, patience: Patience
) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_FewSafeRedirects)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=patience.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {str(error.reason).partition(chr(10))[0]}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            discard(part)
            raise _BrokenError(answer) from error
        if error.code in _PASSING:
            raise _BrokenError(answer, _retry_after(error.headers)) from error
        raise InputError(
            f"cannot fetch {dataset.address}: {answer}; its publisher's page is "
            f"{dataset.publisher.page}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            # No later try mends this, and going on would be to fetch it from anybody.
            raise InputError(
                f"cannot fetch {dataset.address}: {reason.verify_message}; is the clock right, "
                "and does a proxy need its certificate in SSL_CERT_FILE?"
            ) from error
        raise _BrokenError(_reason(reason)) from error
    return response


class _FewSafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows five redirects at most, and none that leaves TLS."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,  # noqa: ANN401 - as urllib declares it
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in {"https", req.type}:
            fp.close()
            raise InputError(
                f"cannot fetch {req.full_url}: it leads to {newurl}, which is no https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _can_go_on(version: _Version, dataset: Dataset) -> bool:
    """Whether a part can be gone on from without mixing two files unseen."""
    sure = version.validator is not None or dataset.md5 is not None
    return sure and version.size is not None and version.address == dataset.address


def _validator(headers: Message) -> str | None:
    """What If-Range can name: a strong ETag, else the time of the last change."""
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
    return (int(found[1]), int(found[2])) if found else (None, None)


def _content_length(headers: Message) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _retry_after(headers: Message) -> float:
    """The seconds that a server asks for, within bounds; it gives them, or a time of day."""
    asked = headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(float(asked), _LONGEST_WAIT)
    try:
        until = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        return 0.0
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_WAIT)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(part: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_note(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
