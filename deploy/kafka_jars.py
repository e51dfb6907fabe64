"""What a local Kafka runs on: Java, and Kafka's jars from Maven."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosyslog.errors import BrokerError, ToolMissingError

KAFKA_VERSION = "4.4.0"

_JARS_FOLDER = Path(__file__).resolve().parents[1] / ".kafka"
_POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"

_WITHOUT = (
    "name a Kafka that is already running: make demo KAFKA=host:port, "
    "and for tests CROSYSLOG_TEST_KAFKA=host:port"
)
_INSTALL = (
    f"install it (Debian and Ubuntu: apt-get install openjdk-17-jre-headless maven), or {_WITHOUT}"
)


def find_java() -> Path:
    """The Java of JAVA_HOME, else the one on the PATH.

    Raises:
        ToolMissingError: There is none, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = (home and shutil.which("java", path=f"{home}/bin")) or shutil.which("java")
    if not java:
        raise ToolMissingError(f"Java 17 or newer is needed to run a local Kafka: {_INSTALL}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        found = f"version {version[1]}" if version else "no working one"
        raise ToolMissingError(
            f"Java 17 or newer is needed to run a local Kafka, and {java} is {found}: {_INSTALL}"
        )
    return Path(java)


def kafka_jars(folder: Path = _JARS_FOLDER) -> Path:
    """The folder of Kafka's jars, fetched by Maven if `folder` lacks them (43 MB, some seconds).

    Processes that ask at the same time wait for the first to fetch them. An interrupted fetch
    leaves nothing that a later one would take for complete.

    Raises:
        ToolMissingError: They are not there, and nor is Maven.
        BrokerError: Maven could not fetch them.
    """
    jars = folder / f"libs-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolMissingError(f"Maven (mvn) is needed to fetch a local Kafka: {_INSTALL}")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not jars.is_dir():
            for interrupted in folder.glob("fetching-*"):
                shutil.rmtree(interrupted, ignore_errors=True)
            fetched = Path(tempfile.mkdtemp(prefix="fetching-", dir=folder))
            try:
                _fetch(maven, fetched, log_file=folder / "maven.log")
                fetched.rename(jars)
            finally:
                shutil.rmtree(fetched, ignore_errors=True)
    return jars


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it however this process ends
        yield


def _fetch(maven: str, target: Path, log_file: Path) -> None:
    command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    command += [f"-Dkafka.version={KAFKA_VERSION}"]
    with log_file.open("wb") as log:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    if done.returncode != 0:
        raise BrokerError(
            f"Maven could not fetch Kafka {KAFKA_VERSION}, for the reason in {log_file}: "
            f"check the network and Maven's settings, or {_WITHOUT}"
        )
