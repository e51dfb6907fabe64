"""A local single-node Apache Kafka for the demo, the tests and trials by hand.

    with LocalKafka() as kafka:
        await create_topics(kafka.bootstrap_servers, {"spirit-logs": 8})

`python -m deploy.local_kafka` runs one in the foreground. It needs Java 17 or newer and, the first
time, Maven, which fetches Kafka's jars into the git-ignored folder `.kafka` of the checkout.
"""

import argparse
import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NoReturn, Self

from crosyslog.errors import BrokerError, CrosyslogError, SettingError
from deploy.kafka_jars import KAFKA_VERSION, find_java, kafka_jars
from deploy.kafka_security import LISTENERS, Secured, make_certificates
from deploy.kafka_topics import create_topics, delete_topics

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LocalKafka", "create_topics", "delete_topics", "kafka_jars"]

_SETTINGS = Path(__file__).resolve().parent / "kafka" / "server.properties"

# A start takes 3 to 6 s on two idle cores; this bounds one on a machine busy with other work.
_READY_SECONDS = 60.0
# A controlled shutdown takes half a second; a broker that needs this long hangs.
_STOP_SECONDS = 10.0
_RETRY_SECONDS = 0.05
# A port taken between choosing and binding is rare: so many in a row have another cause.
_PORT_ATTEMPTS = 5

_JVM_FLAGS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a quick start matters here, the last of a broker's speed does not
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)

# A SIGKILLed broker is let in again when its old session has expired: after 2 s here, 9 s by
# default, with heartbeats (default: each 2 s) often enough to keep a live one in. Under full load
# a broker may miss even these and be locked out, which is why benchmarks keep the defaults.
_SHORT_SESSION = "broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n"

# The broker must not outlive us, not even if we are SIGKILLed. The kernel closes our end of a pipe
# whatever ends us, so a guard, a small shell, waits at the other end: the first line it reads is
# the broker's process id, a second one says that the broker has ended, and an end of file instead
# that we are gone. The broker itself sends its id, before it becomes a JVM by exec: there is no
# moment at which it runs unguarded.
# PR_SET_PDEATHSIG would not do: it needs code between fork and exec, which is unsafe with threads,
# and it fires when the thread that started the broker ends, not the process.
_GUARD = 'read -r broker && { read -r ended || kill -KILL "$broker"; }'
_BROKER = 'echo $$; exec "$@" >&2'


class LocalKafka:
    """A Kafka broker of our own, on free loopback ports, from `with` to its end.

    It ends with this process whatever happens to that, but not by a Ctrl-C, so that its clients
    can still finish their work. Threads must not share one.

    Args:
        folder: Where its data, settings and log are kept; data already there is served again.
            Without one, a temporary folder, which `stop` removes.
        benchmark: Keeps Kafka's default session timeouts, which a broker at full load needs; one
            that was SIGKILLed then takes many seconds to come back.
        secured: Adds listeners with TLS and SASL, on which a user may do what it has rights for.
        behind: A port of a proxy before the broker, at which it tells clients to find it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        benchmark: bool = False,
        secured: Secured | None = None,
        behind: int | None = None,
    ) -> None:
        self._given_folder = folder
        self._benchmark = benchmark
        self._secured = secured
        self._behind = behind
        self._folder = Path()
        self._ports = [0, 0]
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def folder(self) -> Path:
        """Where its data, settings, log and certificates are."""
        return self._folder

    def listener(self, name: str) -> str:
        """The address of one of `deploy.kafka_security.LISTENERS`."""
        return f"127.0.0.1:{self._ports[2 + LISTENERS.index(name)]}"

    @property
    def log_file(self) -> Path:
        """What the broker writes about itself."""
        return self._folder / "broker.log"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None while it is stopped or killed."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the broker; returns when groups and transactions work.

        Raises:
            ToolMissingError: Java or Maven is not there.
            SettingError: The folder cannot be used.
            BrokerError: Maven could not fetch Kafka, or the broker ended or was not ready within
                60 s. Its log is kept then, a temporary folder included.
        """
        java, jars = find_java(), kafka_jars()
        self._folder = self._make_folder()
        try:
            for attempt in range(_PORT_ATTEMPTS):
                self._ports = _free_ports(2 + (len(LISTENERS) if self._secured else 0))
                self._write_settings()
                self._format_storage(java, jars)
                try:
                    return self._launch(java, jars)
                except _PortTakenError:
                    if attempt == _PORT_ATTEMPTS - 1:
                        raise
        except BrokerError:
            self.kill()
            raise
        except BaseException:
            self.kill()
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the broker, by SIGTERM and after 10 s by SIGKILL; removes a temporary folder."""
        self._end(signal.SIGTERM)
        if self._given_folder is None and self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()

    def kill(self) -> None:
        """Ends the broker as a crash would, by SIGKILL, and keeps its data."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Starts the broker again, with its ports and data; one that runs is ended by SIGTERM.

        Raises:
            BrokerError: As in `start`, or another program has taken one of the ports.
        """
        self._end(signal.SIGTERM)
        self._launch(find_java(), kafka_jars())

    def wait(self) -> NoReturn:
        """Waits for what should not happen: that the broker ends by itself.

        Raises:
            BrokerError: It has ended.
        """
        if self._process is not None:
            self._process.wait()
        raise self._ended_by_itself()

    def _make_folder(self) -> Path:
        if self._given_folder is None:
            return Path(tempfile.mkdtemp(prefix="crosyslog-kafka-"))
        folder = self._given_folder.resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "broker.log").touch()
        except OSError as error:
            raise SettingError(
                f"a local Kafka cannot keep its data in {folder}: {error.strerror}; "
                "name another folder"
            ) from error
        return folder

    def _write_settings(self) -> None:
        broker_port, controller_port, *others = self._ports
        settings = Template(_SETTINGS.read_text()).substitute(
            broker_port=broker_port, controller_port=controller_port, data=self._folder / "data"
        )
        if self._secured is not None:
            make_certificates(self._folder)
            named = zip(LISTENERS, others, strict=True)
            more = ",".join(f"{name}://127.0.0.1:{port}" for name, port in named)
            # Of two lines for one setting, the later one counts.
            settings += self._secured.settings(self._folder)
            plain = f"PLAINTEXT://127.0.0.1:{broker_port}"
            settings += f"listeners={plain},{more},CONTROLLER://127.0.0.1:{controller_port}\n"
            settings += f"advertised.listeners={plain},{more}\n"
        if self._behind is not None:
            settings += f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._behind}\n"
        if not self._benchmark:
            settings += _SHORT_SESSION
        (self._folder / "server.properties").write_text(settings)

    def _format_storage(self, java: Path, jars: Path) -> None:
        if (self._folder / "data" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        command = [str(java), *_JVM_FLAGS, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
        command += ["format", f"--cluster-id={cluster_id}"]  # with =, for it may begin with a dash
        command += ["--config", str(self._folder / "server.properties")]
        command += self._secured.format_options() if self._secured else []
        with self.log_file.open("ab") as log:
            # In a session of its own, so that Ctrl-C is for us alone.
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                start_new_session=True,
            )  # fmt: skip
        if done.returncode != 0:
            raise BrokerError(f"the local Kafka could not make its storage: see {self.log_file}")

    def _launch(self, java: Path, jars: Path) -> None:
        command = [str(java), *_JVM_FLAGS, "-cp", f"{jars}/*", "kafka.Kafka"]
        command += [str(self._folder / "server.properties")]
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            # Sessions of their own: a terminal's Ctrl-C reaches all of its session, and clients
            # drain before the broker may end.
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True
            )
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _BROKER, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=self._guard.stdin,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the local Kafka was not ready within {_READY_SECONDS:.0f} s: "
                    f"see {self.log_file}"
                )
            # A pause that ends at once when the broker does.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_RETRY_SECONDS)
                raise self._ended_by_itself()

    def _is_ready(self) -> bool:
        # Until our own broker says that it has the port, another one may answer there.
        if b"Kafka Server started" not in self._log_since_launch():
            return False
        with suppress(OSError):
            return _coordinators_work(self._ports[0])
        return False

    def _log_since_launch(self) -> bytes:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read()

    def _ended_by_itself(self) -> BrokerError:
        self._end(signal.SIGKILL)
        if re.search(rb"BindException|failed to bind", self._log_since_launch()):
            return _PortTakenError(
                f"another program took one of the local Kafka's ports {self._ports}: "
                f"see {self.log_file}"
            )
        return BrokerError(f"the local Kafka ended by itself: see {self.log_file}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if process is None or guard is None:
            return
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            try:
                process.wait(_STOP_SECONDS)
            finally:
                process.kill()
                # The guard goes last: until the broker has ended it must watch, and after that it
                # must not, for process ids are used again.
                process.wait()
                guard.communicate(b"\n")


class _PortTakenError(BrokerError):
    """Another program has taken a port after we chose it and before the broker bound it."""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _coordinators_work(port: int) -> bool:
    """Asks, in Kafka's own protocol, whether groups and transactions can be used yet.

    An open port says little: the coordinators' topics are made on the first question for them,
    then loaded. A client library could ask, but logs each failed try and needs an event loop.
    """
    name = struct.pack(">h", 17) + b"local-kafka-ready"
    questions = (  # API key, its version, the request's body
        (10, 1, name + b"\0"),  # FindCoordinator of a group
        (9, 2, name + struct.pack(">i", -1)),  # OffsetFetch of all its topics: it has none
        (10, 1, name + b"\1"),  # FindCoordinator of a transactional id
        (22, 0, name + struct.pack(">i", 1000)),  # InitProducerId, with a timeout in milliseconds
    )
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for api_key, api_version, body in questions:
            request = struct.pack(">hhi", api_key, api_version, 0) + name + body
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            # Each answer: correlation id, a throttle time or no topics (4 bytes), error code.
            (error_code,) = struct.unpack_from(">h", _receive(connection, size), 8)
            if error_code != 0:
                return False
    return True


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        if not (piece := connection.recv(size - len(received))):
            raise ConnectionResetError
        received += piece
    return bytes(received)


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command of CroSysLog does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _topic(text: str) -> tuple[str, int]:
    parts = re.fullmatch(r"([A-Za-z0-9._-]+)(?::([1-9]\d{0,3}))?", text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME:PARTITIONS")
    return parts[1], int(parts[2] or 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a broker until Ctrl-C or SIGTERM; its address goes to standard output.

    Returns:
        The exit status: 0, or 2 after an error, which is one line on standard error.
    """
    parser = _OneLineParser(
        prog="python -m deploy.local_kafka", description=f"A local Apache Kafka {KAFKA_VERSION}."
    )
    parser.add_argument("--folder", type=Path, help="keep its data here, for the next time")
    parser.add_argument(
        "--topic",
        dest="topics",
        action="append",
        default=[],
        type=_topic,
        metavar="NAME[:PARTITIONS]",
        help="make this topic; may be given more than once",
    )
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LocalKafka(chosen.folder) as kafka:
            if chosen.topics:
                asyncio.run(create_topics(kafka.bootstrap_servers, dict(chosen.topics)))
            print(kafka.bootstrap_servers, flush=True)
            print(f"Kafka runs until Ctrl-C; its log: {kafka.log_file}", file=sys.stderr)
            kafka.wait()
    except CrosyslogError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
