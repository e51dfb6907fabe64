"""librdkafka's mock cluster: brokers in this process, which fail as they are told.

It has no admin calls, no transactions and no compacted topics: what is exactly once is tested
with a real broker. The interface is not stable, so confluent-kafka is pinned.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

#: Requests by their keys in Kafka's protocol.
REQUESTS = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "SyncGroup": 14,
    "InitProducerId": 22,
}

_PRODUCER, _CONF_OK = 0, 0


def _library() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    (found,) = package.with_name("confluent_kafka.libs").glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(found))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    key, size = ctypes.c_int16, ctypes.c_size_t
    for name, answer, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", number, [pointer, text, text, text, size]),
        ("new", pointer, [number, pointer, text, size]),
        ("destroy", None, [pointer]),
        ("handle_mock_cluster", pointer, [pointer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_topic_create", number, [pointer, text, number, number]),
        ("mock_push_request_errors_array", None, [pointer, key, size, pointer]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("mock_clear_request_errors", None, [pointer, key]),
        ("mock_topic_set_error", None, [pointer, text, number]),
        ("mock_start_request_tracking", None, [pointer]),
        ("mock_get_requests", pointer, [pointer, ctypes.POINTER(size)]),
        ("mock_request_api_key", key, [pointer]),
        ("mock_request_destroy_array", None, [pointer, size]),
        ("mock_partition_set_leader", number, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
        ("mock_coordinator_set", number, [pointer, text, text, ctypes.c_int32]),
        ("mock_broker_set_rtt", number, [pointer, ctypes.c_int32, number]),
        ("mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", number, [pointer, ctypes.c_int32]),
    ):  # fmt: skip
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = answer, arguments
    return library


class MockCluster:
    """Some brokers, numbered from 1, until `close`."""

    def __init__(self, brokers: int = 3) -> None:
        self._library = _library()
        conf = self._library.rd_kafka_conf_new()
        said = ctypes.create_string_buffer(512)
        for name, content in {"test.mock.num.brokers": brokers, "log_level": 0}.items():
            words = (name.encode(), str(content).encode())
            if self._library.rd_kafka_conf_set(conf, *words, said, 512) != _CONF_OK:
                raise RuntimeError(said.value.decode())
        self._client = self._library.rd_kafka_new(_PRODUCER, conf, said, 512)
        if not self._client:
            raise RuntimeError(said.value.decode())
        self._cluster = self._library.rd_kafka_handle_mock_cluster(self._client)
        self.bootstrap_servers = str(self._call("cluster_bootstraps").decode())
        self._call("start_request_tracking")
        self._call("group_initial_rebalance_delay_ms", 0)

    def close(self) -> None:
        """Ends the brokers."""
        self._library.rd_kafka_destroy(self._client)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        self._call("topic_create", name.encode(), partitions, 1)

    def fail(self, request: str, *codes: int) -> None:
        """Answers the next requests of a kind with these errors, one each."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self._call("push_request_errors_array", REQUESTS[request], len(codes), errors)

    def recover(self) -> None:
        """Forgets the errors that are left."""
        for key in REQUESTS.values():
            self._call("clear_request_errors", key)

    def fail_metadata(self, topic: str, code: int) -> None:
        """Says of a topic, from now on, that it has this error; 0 for none."""
        self._call("topic_set_error", topic.encode(), code)

    def asked(self, request: str) -> int:
        """How many requests of a kind have come."""
        count = ctypes.c_size_t()
        found = self._call("get_requests", ctypes.byref(count))
        try:
            requests = ctypes.cast(found, ctypes.POINTER(ctypes.c_void_p))[: count.value]
            keys = [self._library.rd_kafka_mock_request_api_key(one) for one in requests]
        finally:
            self._library.rd_kafka_mock_request_destroy_array(found, count.value)
        return keys.count(REQUESTS[request])

    def move_leader(self, topic: str, broker: int, partition: int = 0) -> None:
        self._call("partition_set_leader", topic.encode(), partition, broker)

    def move_coordinator(self, group: str, broker: int) -> None:
        self._call("coordinator_set", b"group", group.encode(), broker)

    def delay(self, broker: int, milliseconds: int) -> None:
        """Answers of a broker take this long from now on."""
        self._call("broker_set_rtt", broker, milliseconds)

    def stop_broker(self, broker: int) -> None:
        self._call("broker_set_down", broker)

    def start_broker(self, broker: int) -> None:
        self._call("broker_set_up", broker)

    def _call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - as the function has it
        function = getattr(self._library, f"rd_kafka_mock_{name}")
        answer = function(self._cluster, *arguments)
        if function.restype is ctypes.c_int and answer:
            raise RuntimeError(f"{name}{arguments}: error {answer}")
        return answer
