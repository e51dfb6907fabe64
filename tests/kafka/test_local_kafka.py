import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from crosyslog.errors import BrokerError, SettingError, ToolMissingError
from deploy import local_kafka
from deploy.local_kafka import LocalKafka, create_topics, delete_topics, kafka_jars
from tests.conftest import KafkaAddress, absent

CHECKOUT = Path(__file__).parents[2]


# --- The broker as clients see it ---


async def test_a_topic_carries_records_from_producer_to_consumer(
    kafka: KafkaAddress, topic: str
) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 2})

    await produce(kafka.bootstrap_servers, topic, b"first", b"second")

    assert await consume(kafka.bootstrap_servers, topic, count=2) == [b"first", b"second"]


async def test_creating_a_topic_again_leaves_it_as_it_is(kafka: KafkaAddress, topic: str) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 1})
    await produce(kafka.bootstrap_servers, topic, b"kept")

    await create_topics(kafka.bootstrap_servers, {topic: 1})

    assert await consume(kafka.bootstrap_servers, topic, count=1) == [b"kept"]


async def test_a_deleted_topic_is_gone(kafka: KafkaAddress, topic: str) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 1})

    await delete_topics(kafka.bootstrap_servers, [topic, f"{topic}-never-made"])

    assert topic not in await topic_names(kafka.bootstrap_servers)


async def test_a_name_that_kafka_refuses_is_named(kafka: KafkaAddress) -> None:
    with pytest.raises(BrokerError, match="the topic not a name: Topic name is invalid"):
        await create_topics(kafka.bootstrap_servers, {"not a name": 1})


async def test_topics_of_a_kafka_that_is_away() -> None:
    address = f"127.0.0.1:{a_free_port()}"

    with pytest.raises(BrokerError, match=f"Kafka at {address} cannot be used"):
        await create_topics(address, {"logs": 1})


async def test_only_a_committed_transaction_is_visible(kafka: KafkaAddress, topic: str) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 1})
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{topic}-producer"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"committed", partition=0)
        # The group's offset goes with it: this needs both coordinators.
        await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 1}, f"{topic}-group")
        await producer.commit_transaction()
    finally:
        await producer.stop()

    assert await consume(kafka.bootstrap_servers, topic, count=1) == [b"committed"]


# --- Its life ---


async def test_data_survives_a_crash_and_the_address_stays(
    own_kafka: LocalKafka, topic: str
) -> None:
    address = own_kafka.bootstrap_servers
    await create_topics(address, {topic: 1})
    await produce(address, topic, b"written before the crash")
    crashed = own_kafka.pid
    assert crashed is not None

    own_kafka.kill()

    assert not is_running(crashed)
    assert not is_listening(address)

    own_kafka.restart()

    assert own_kafka.bootstrap_servers == address
    assert own_kafka.pid != crashed
    assert await consume(address, topic, count=1) == [b"written before the crash"]


@pytest.mark.usefixtures("java_and_maven")
def test_taken_ports_are_exchanged_and_stop_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        taken = [a_free_port(), other_program.getsockname()[1]]
        free = [a_free_port(), a_free_port()]
        offered = iter([taken, free])
        monkeypatch.setattr(local_kafka, "_free_ports", lambda _: next(offered))
        with LocalKafka() as kafka:
            assert kafka.bootstrap_servers == f"127.0.0.1:{free[0]}"
            pid, folder = kafka.pid, kafka.log_file.parent
            assert pid is not None
            assert is_running(pid)
            # A terminal's Ctrl-C reaches its foreground group, in which clients have yet to drain.
            assert os.getpgid(pid) != os.getpgid(0)

    assert not is_running(pid)
    assert not any(is_listening(f"127.0.0.1:{port}") for port in free)
    assert not folder.exists()


@pytest.mark.usefixtures("java_and_maven")
def test_a_broker_that_ends_by_itself_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=no number\n")
    kafka = LocalKafka(tmp_path)

    with pytest.raises(BrokerError, match="ended by itself") as caught:
        kafka.start()

    assert str(kafka.log_file) in str(caught.value)
    assert kafka.log_file.read_text()
    assert kafka.pid is None


@pytest.mark.usefixtures("java_and_maven")
def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingError, match="name another folder"):
        LocalKafka(tmp_path / "file").start()


def test_a_benchmark_keeps_the_default_session_timeouts(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path, benchmark=True)
    kafka._folder = tmp_path

    kafka._write_settings()

    assert "broker.session.timeout.ms" not in (tmp_path / "server.properties").read_text()


# --- The command ---


@pytest.mark.usefixtures("java_and_maven")
def test_the_broker_ends_with_a_parent_that_is_sigkilled(tmp_path: Path) -> None:
    with foreground_kafka("--folder", str(tmp_path)) as (command, address):
        assert is_listening(address)

        command.kill()

        assert happens(lambda: not is_listening(address))


@pytest.mark.usefixtures("java_and_maven")
async def test_the_command_makes_topics_and_ends_by_ctrl_c(topic: str) -> None:
    with foreground_kafka("--topic", f"{topic}:3", "--topic", f"{topic}.dlq") as (command, address):
        assert {topic, f"{topic}.dlq"} <= await topic_names(address)

        command.send_signal(signal.SIGINT)

        assert command.wait(20) == 0
        assert not is_listening(address)


@pytest.mark.usefixtures("java_and_maven")
def test_a_wrong_setting_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for setting in (["--topic", "logs:none"], ["--folder", str(tmp_path / "file")], ["--port"]):
        done = subprocess.run(
            command_line(*setting), cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert setting[-1] in done.stderr


# --- Java, Maven and the jars ---


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH: what a test puts there is all that is installed."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


@pytest.mark.usefixtures("programs")
def test_without_java_one_line_says_what_to_do() -> None:
    with pytest.raises(ToolMissingError) as caught:
        LocalKafka().start()

    assert_says_what_to_do(caught.value, "Java 17")


def test_an_old_java_is_named(programs: Path) -> None:
    script(programs / "java", "echo 'openjdk version \"11.0.24\" 2024-07-16' >&2")

    with pytest.raises(ToolMissingError) as caught:
        LocalKafka().start()

    assert_says_what_to_do(caught.value, "version 11")


@pytest.mark.usefixtures("programs")
def test_without_maven_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError) as caught:
        kafka_jars(tmp_path / "jars")

    assert_says_what_to_do(caught.value, "Maven")
    assert not (tmp_path / "jars").exists()


def test_two_processes_that_need_the_jars_fetch_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_maven_that_notes_its_calls(tmp_path / "mvn")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jars = tmp_path / "jars"
    ask = "import sys, pathlib, deploy.kafka_jars as k; k.kafka_jars(pathlib.Path(sys.argv[1]))"

    both = [subprocess.Popen([sys.executable, "-c", ask, jars], cwd=CHECKOUT) for _ in range(2)]

    assert [process.wait(20) for process in both] == [0, 0]
    assert (tmp_path / "calls").read_text() == "called\n"
    assert [path.name for path in kafka_jars(jars).iterdir()] == ["whole.jar"]


def test_an_interrupted_fetch_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "mvn", f"{TARGET_FOLDER}; touch $target/half.jar; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jars = tmp_path / "jars"

    with pytest.raises(BrokerError, match=r"maven\.log") as caught:
        kafka_jars(jars)

    assert len(str(caught.value).splitlines()) == 1
    assert {path.name for path in jars.iterdir()} == {"lock", "maven.log"}


def test_what_a_killed_fetch_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_maven_that_notes_its_calls(tmp_path / "mvn")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    left = tmp_path / "jars" / "fetching-killed"
    left.mkdir(parents=True)

    kafka_jars(tmp_path / "jars")

    assert not left.exists()


# --- The rule for absent tools ---


def test_an_absent_tool_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="without docker: no daemon"):
        absent("docker", "no daemon")


def test_an_absent_tool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="without docker: no daemon"):
        absent("docker", "no daemon")


# --- What the tests above say, in terms of Kafka and processes ---

TARGET_FOLDER = 'for last; do case $last in -DoutputDirectory=*) target="${last#*=}";; esac; done'


async def produce(address: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def consume(address: str, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=f"{topic}-readers",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def topic_names(address: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def happens(condition: Callable[[], bool], within_seconds: float = 10) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.local_kafka", *arguments]


@contextmanager
def foreground_kafka(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = subprocess.Popen(
        command_line(*arguments), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    with command:
        try:
            assert command.stdout is not None
            yield command, command.stdout.readline().strip()
        finally:
            command.kill()


def script(path: Path, commands: str) -> None:
    path.write_text(f"#!{shutil.which('sh', path=os.defpath)}\n{commands}\n")
    path.chmod(0o755)


def slow_maven_that_notes_its_calls(path: Path) -> None:
    note = f"echo called >>{path.parent}/calls"
    script(path, f"{note}; {TARGET_FOLDER}; sleep 0.5; touch $target/whole.jar")


def assert_says_what_to_do(error: ToolMissingError, what: str) -> None:
    said = str(error)
    assert len(said.splitlines()) == 1
    assert what in said
    assert "apt-get install openjdk-17-jre-headless maven" in said
    assert "make demo KAFKA=host:port" in said
    assert "CROSYSLOG_TEST_KAFKA=host:port" in said
