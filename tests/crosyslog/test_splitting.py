from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.lines import decode, read_lines, split
from crosyslog.masking import mask
from crosyslog.systems import System, load_system, system_names

SHARED = Path(__file__).parents[3] / "shared" / "data"

SYSTEMS = {name: load_system(name) for name in system_names()}
SYSLOG, JSON, OPENSTACK, HDFS = (SYSTEMS[n] for n in ("syslog", "json", "openstack", "hdfs"))
EXAMPLES = [example.line for system in SYSTEMS.values() for example in system.examples]

NOW = datetime(2024, 6, 15, tzinfo=UTC)


def fields(line: str, system: System) -> dict[str, Any]:
    """What a line has of its columns; nothing, where it does not split."""
    row = split(pl.Series([line]), system, NOW).row(0, named=True)
    found = {name: value for name, value in row.items() if value is not None}
    assert found.pop("raw") == line
    text = found.pop("text")
    if not found.pop("split"):
        assert found == {"message": line}
        assert text == line
        return {}
    return found


# Syslog.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "<86>Jun  5 01:02:03 gate sshd[12]: session opened",
            {"severity": "INFO", "time": datetime(2024, 6, 5, 1, 2, 3, tzinfo=UTC)}
            | {"host": "gate", "component": "sshd", "message": "session opened"},
        ),
        (
            "Jul  5 01:02:03 gate sshd: session opened",
            {"time": datetime(2023, 7, 5, 1, 2, 3, tzinfo=UTC)}
            | {"host": "gate", "component": "sshd", "message": "session opened"},
        ),
        (
            "Jun 15 01:02:03 gate last message repeated 3 times",
            {"time": datetime(2024, 6, 15, 1, 2, 3, tzinfo=UTC)}
            | {"host": "gate", "message": "last message repeated 3 times"},
        ),
        (
            "Jun 15 01:02:03 gate",
            {"time": datetime(2024, 6, 15, 1, 2, 3, tzinfo=UTC), "host": "gate", "message": ""},
        ),
        (
            "Jun  5 01:02:03.123456 gate a: x",
            {"time": datetime(2024, 6, 5, 1, 2, 3, 123456, tzinfo=UTC)}
            | {"host": "gate", "component": "a", "message": "x"},
        ),
        (
            "2024-06-15 01:02:03.5 gate a: x",
            {"time": datetime(2024, 6, 15, 1, 2, 3, 500_000, tzinfo=UTC)}
            | {"host": "gate", "component": "a", "message": "x"},
        ),
        (
            "2024-06-15 01:02:03+02:00 gate a: x",
            {"time": datetime(2024, 6, 14, 23, 2, 3, tzinfo=UTC)}
            | {"host": "gate", "component": "a", "message": "x"},
        ),
        (
            "<167>Jun 15 2019 01:02:03: %ASA-7-1: x",
            {"severity": "DEBUG", "time": datetime(2019, 6, 15, 1, 2, 3, tzinfo=UTC)}
            | {"component": "%ASA-7-1", "message": "x"},
        ),
        (
            "Jun 15 01:02:03 2019 gate a: x",
            {"time": datetime(2019, 6, 15, 1, 2, 3, tzinfo=UTC)}
            | {"host": "gate", "component": "a", "message": "x"},
        ),
        (
            "Jun 15 01:02:03 fe80::1 a: x",
            {"time": datetime(2024, 6, 15, 1, 2, 3, tzinfo=UTC)}
            | {"host": "fe80::1", "component": "a", "message": "x"},
        ),
        (
            "Jun 15 01:02:03 CST a: x",
            {"time": datetime(2024, 6, 15, 1, 2, 3, tzinfo=UTC)}
            | {"host": "CST", "component": "a", "message": "x"},
        ),
        ("<191>text alone", {"severity": "DEBUG", "message": "text alone"}),
        ("<192>no such priority", {"message": "no such priority"}),
        ("<13>", {"severity": "NOTICE", "message": ""}),
        ("<13>1 - - - - - -", {"severity": "NOTICE", "message": ""}),
        ("<13>1 - - - - - - ", {"severity": "NOTICE", "message": ""}),
        ("<13>1 - -a b - - - x", {"severity": "NOTICE", "host": "-a", "component": "b"}
         | {"message": "x"}),
        ('<13>1 - - - - - [a@1 b="c \\"]\\\\"][d] x', {"severity": "NOTICE", "message": "x"}),
        ("<13>1 yesterday h - - - - x", {"severity": "NOTICE", "host": "h", "message": "x"}),
        # Structured data that does not end: it is a PRI with a text of its own.
        ('<13>1 - h - - - [a b="c x', {"severity": "NOTICE", "message": '1 - h - - - [a b="c x'}),
        ("no header at all", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_syslog_splits_in_all_its_forms(line: str, expected: dict[str, Any]) -> None:
    assert fields(line, SYSLOG) == expected


# OpenStack and HDFS.


@pytest.mark.parametrize(
    "head",
    ["", "   ", "  7 ", "2024-01-02 03:04:05.006 7 ", "2024-01-02T03:04:05 7 ",
     "a.log.1.2024-01-02_03:04:05 2024-01-02 03:04:05.006 7 ", "Jan  2 03:04:05 h nova-api[7]: "],
)  # fmt: skip
@pytest.mark.parametrize("request_", ["", " [-]", " [None req-1 a b]", " [req-1 - - -] [-]"])
def test_openstack_says_the_same_whatever_stands_before_it(head: str, request_: str) -> None:
    found = fields(f"{head}INFO nova.compute.manager{request_} VM Started [now]", OPENSTACK)
    assert (found["severity"], found["component"]) == ("INFO", "nova.compute.manager")
    assert found["message"] == "VM Started [now]"
    assert ("time" in found) == ("2024" in head or "Jan" in head)


@pytest.mark.parametrize(
    "message",
    ["[instance: {}] up", "DELETE /v2/a/servers/{} done", "Deleting files /x/instances/{}_del",
     "Deleted allocation for instance {}", "Instance {} is unknown"],
)  # fmt: skip
def test_an_instance_is_the_session_wherever_it_is_named(message: str) -> None:
    instance, other = (f"{digit}1112222-3333-4444-8555-666677778888" for digit in "1a")
    line = f"INFO nova.compute [req-{other} {other}] {message.format(instance)}"
    assert fields(line, OPENSTACK)["session"] == instance
    assert "session" not in fields(f"INFO nova.compute [-] image {other} at x", OPENSTACK)


def test_a_line_of_a_traceback_or_a_document_is_no_line_of_nova() -> None:
    for line in ("", "  <guest>", "Traceback (most recent call last):", "</domain>", "INFO"):
        assert not fields(line, OPENSTACK)


def test_of_several_blocks_the_first_is_the_session() -> None:
    line = "090214 071530 9 INFO dfs.FSNamesystem: ask 10.0.0.1:50010 to delete blk_-1 blk_2"
    assert fields(line, HDFS)["session"] == "blk_-1"


# JSON.


def ours(**paths: str | list[str]) -> System:
    return System.model_validate({"name": "ours", "description": "", "paths": paths})


@pytest.mark.parametrize(
    "line",
    ["", "text", "{", '{"message":"a"', '{"message":"a"} x', '{"message":"a"}{"message":"b"}',
     '["message"]', '"message"', "3", "null", '{"message":null}', '{"massage":"a"}',
     '{"message":"\\ud800"}', '{"message":"a\nb"}', "[" * 100_000, '{"message":' * 1_000,
     '{"a":{"message":"b"}}', "{'message':'a'}", '{"message":NaN}', '{"message":"\\x"}'],
)  # fmt: skip
def test_broken_json_and_json_without_a_message_is_judged_whole(line: str) -> None:
    assert not fields(line, JSON)


@pytest.mark.parametrize(
    ("value", "message"),
    [("", ""), ("a\n", "a"), ("a\tb\u0000c", "a\tb\u0000c"), ("größe", "größe"), (3, "3"),
     (True, "true"), ('"{}\\', '"{}\\'), ('{"a":null}', '{"a":null}'), ("[1]", "[1]"), ("{}", "{}"),
     ("[x] {y}", "[x] {y}")],
)  # fmt: skip
def test_a_message_may_be_any_value_that_holds_no_others(value: object, message: str) -> None:
    for ascii_ in (True, False):
        line = json.dumps({"message": value, "pid": 3}, ensure_ascii=ascii_, indent=1)
        assert fields(line, JSON) == {"message": message}


def test_a_path_leads_to_one_place() -> None:
    line = '{"a":{"b":["x",{"c.d":"y"}],"e":"z"},"a.b":"flat","ä":"non-ascii","one":[{"f":"g"}]}'
    for path, message in {
        "a.b[0]": "x",
        "a.b[1]['c.d']": "y",
        "a.e": "z",
        "['a.b']": "flat",
        "ä": "non-ascii",
        "one[].f": "g",
        "['a']['e']": "z",
    }.items():
        assert fields(line, ours(message=path)) == {"message": message}
    for path in ("a.b[2]", "a.c", "b", "a.b[]", "a.b.c", "e", "one.f"):
        assert not fields(line, ours(message=path))
    assert fields('{"\\u00e4":"escaped"}', ours(message="ä")) == {"message": "escaped"}


def test_the_first_path_with_a_value_counts_in_each_line() -> None:
    lines = pl.Series(['{"a":"1","b":"2"}', '{"b":"3"}', '{"a":null,"b":"4"}', "{}"])
    frame = split(lines, ours(message=["a", "b"], host=["h", "b"]))
    assert frame["message"].to_list() == ["1", "3", "4", "{}"]
    assert frame["host"].to_list() == ["2", "3", "4", None]


@pytest.mark.parametrize("value", [{}, [], {"a": None}, [None], [1, "a"], {"a": {"message": "x"}}])
def test_an_object_or_a_list_is_no_value(value: object) -> None:
    system = ours(message=["a.b", "c", "d[0]", "e[]", "f[k=v].w"], host=["h", "m"])
    for line in ({"a": {"b": value}}, {"c": value}, {"d": [value]}, {"e": [value]},
                 {"f": [{"k": "v", "w": value}]}):  # fmt: skip
        assert not fields(json.dumps(line), system)
    line_ = json.dumps({"c": "text", "h": value, "m": "web"})
    assert fields(line_, system) == {"message": "text", "host": "web"}
    text = json.dumps(value, separators=(",", ":"))
    assert fields(json.dumps({"c": text}), system) == {"message": text}


def test_a_value_may_be_read_as_json_or_as_a_severity() -> None:
    system = ours(message="m | json", severity=["p | priority", "n | severity-number"])
    for value, expected in (({"a": [1, "ä"]}, '{"a":[1,"ä"]}'), ("x", "x"), (3, "3")):
        assert fields(json.dumps({"m": value}), system) == {"message": expected}
    assert not fields('{"m":{}}', system)
    for key, value, severity in (
        ("p", 34, "CRITICAL"), ("p", "191", "DEBUG"), ("p", 192, None), ("p", "x", None),
        ("n", 1, "TRACE"), ("n", "12", "INFO"), ("n", 24, "FATAL"), ("n", 0, None),
        ("n", "SEVERITY_NUMBER_WARN", "WARN"), ("n", "SEVERITY_NUMBER_ERROR4", "ERROR"),
    ):  # fmt: skip
        found = fields(json.dumps({"m": "x", key: value}), system)
        assert found.get("severity") == severity
    for path in ("m | yaml", "m |", " | json", "m[k=]", "m[**]"):
        with pytest.raises(ValueError, match="is no path"):
            ours(message=path)


def test_an_element_is_found_by_what_it_holds() -> None:
    line = '{"a":[{"k":"x","v":1},3,{"k":["y"]},{"k":"y.z","v":{"s":"found"}},{"k":"y.z"}]}'
    assert fields(line, ours(message="a[k=y.z].v.s")) == {"message": "found"}
    assert fields(line, ours(message="a[k=x].v")) == {"message": "1"}
    for path in ("a[k=y].v", "a[k=z].v", "a[v=y.z].k"):
        assert not fields(line, ours(message=path))


def test_all_elements_are_one_message_where_all_have_one_and_it_is_judged_whole() -> None:
    system = ours(message="a[*].m", severity="a[*].s", time="a[*].t")
    for elements, message in (
        ([{"m": "x"}], "x"),
        ([{"m": "x\n"}, {"m": "y"}, {"m": "x"}], "x\ny\nx"),
        ([{"m": "x"}] * 8, "\n".join("x" * 8)),
        ([{"m": "x"}] * 9, None),
        ([{"m": "x" * 99}] * 2, "x" * 99 + "\n" + "x" * 99),
        ([{"m": "x" * 100}] * 2, None),
        ([{"m": "x" * 300}], "x" * 300),
        ([{"m": "x"}, {"n": "y"}], None),
        ([{"m": "x"}, {"m": {"y": "z"}}], None),
        ([], None),
    ):
        assert fields(json.dumps({"a": elements}), system).get("message") == message
    elements = [{"m": "x", "s": "INFO"}, {"m": "y", "t": "1"}, {"m": "z", "s": "INFO", "t": "2"}]
    found = fields(json.dumps({"a": elements}), system)
    assert (found["severity"], found["time"]) == ("INFO", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    elements[1]["s"] = "ERROR"
    assert fields(json.dumps({"a": elements}), system)["severity"] == "INFO ERROR"
    assert fields('{"a":["x","y"]}', ours(message="a[*]")) == {"message": "x\ny"}


AT = datetime(2022, 5, 6, 7, 8, 11, tzinfo=UTC)
AT_NANO = str(int(AT.timestamp()) * 10**9)


def otlp(*records: dict[str, Any], resource: dict[str, str] | None = None) -> str:
    attributes = [{"key": k, "value": {"stringValue": v}} for k, v in (resource or {}).items()]
    scopes = [{"scope": {}, "logRecords": records}]
    return json.dumps(
        {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": scopes}]}
    )


def body(text: str) -> dict[str, Any]:
    return {"body": {"stringValue": text}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"severityText": "Warning", "severityNumber": 17}, {"severity": "Warning"}),
        ({"severityText": "", "severityNumber": 17}, {"severity": "ERROR"}),
        ({"severityNumber": 10}, {"severity": "INFO"}),
        ({"severityNumber": 0}, {}),
        ({"timeUnixNano": AT_NANO, "observedTimeUnixNano": "1"}, {"time": AT}),
        ({"timeUnixNano": "0", "observedTimeUnixNano": AT_NANO}, {"time": AT}),
        ({"timeUnixNano": 0, "observedTimeUnixNano": int(AT_NANO)}, {"time": AT}),
        ({"observedTimeUnixNano": AT_NANO}, {"time": AT}),
        ({"timeUnixNano": "0"}, {}),
    ],
)
def test_a_record_of_opentelemetry_says_its_severity_and_its_time(
    record: dict[str, Any], expected: dict[str, Any]
) -> None:
    line = body("up") | record
    for text in (otlp(line), json.dumps(line)):
        assert fields(text, JSON) == {"message": "up"} | expected


def test_a_record_of_opentelemetry_says_where_it_comes_from() -> None:
    resource = {"service.name": "store", "host.name": "db5", "host.id": "7"}
    line = otlp(body("up"), resource=resource)
    assert fields(line, JSON) == {"message": "up", "component": "store", "host": "db5"}


@pytest.mark.parametrize("key", ["message", "msg", "log"])
def test_a_body_of_several_values_is_its_message_or_all_of_it(key: str) -> None:
    def of(key: str) -> dict[str, Any]:
        values = [
            {"key": "n", "value": {"intValue": "3"}},
            {"key": key, "value": {"stringValue": "x"}},
        ]
        return {"body": {"kvlistValue": {"values": values}}}

    for record in (of(key), of("k")):
        whole = json.dumps(record["body"], separators=(",", ":"))
        for line in (otlp(record), json.dumps(record)):
            assert fields(line, JSON) == {"message": "x" if record == of(key) else whole}
    assert not fields(otlp({"body": {}}), JSON)


def test_a_batch_is_judged_as_one_line_while_it_is_short() -> None:
    several = [body("a") | {"severityNumber": 9}, body("b") | {"severityNumber": 17}]
    found = fields(otlp(*several, resource={"service.name": "store"}), JSON)
    assert found == {"message": "a\nb", "severity": "INFO ERROR", "component": "store"}
    # All its parts, wherever they stand.
    resources = [
        json.loads(otlp(body(m), resource={"service.name": m}))["resourceLogs"][0] for m in "abb"
    ]
    resources[0]["scopeLogs"] *= 2
    found = fields(json.dumps({"resourceLogs": resources}), JSON)
    assert found == {"message": "a\na\nb\nb", "component": "a b"}
    # What would not be judged whole does not split, and is counted.
    assert not fields(otlp(*[body("a")] * 9), JSON)
    assert not fields(otlp(body("a" * 150), body("b" * 150)), JSON)
    assert not fields(otlp(body("a"), {"body": {}}), JSON)
    assert not fields(otlp(), JSON)


@pytest.mark.parametrize("key", ["message", "msg", "log"])
def test_where_a_line_stood_in_its_file_is_not_its_message(key: str) -> None:
    log = {"offset": 0, "file": {"path": "/x"}}
    assert fields(json.dumps({"log": log, "json": {key: "oops"}}), JSON) == {"message": "oops"}
    assert not fields(json.dumps({"log": log, "app": {key: "oops"}}), JSON)
    assert not fields(json.dumps({"log": log, "json": {key: {"a": "oops"}}}), JSON)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Filebeat
        ({"process": {"name": "su"}}, {"component": "su"}),
        ({"log": {"syslog": {"appname": "su", "severity": {"name": "Error"}}}},
         {"component": "su", "severity": "Error"}),
        ({"syslog": {"severity_label": "Notice"}}, {"severity": "Notice"}),
        ({"syslog": {"severity_label": "Informational"}}, {"severity": "INFO"}),
        ({"host": {"hostname": "h"}}, {"host": "h"}),
        ({"host": {"name": "n", "hostname": "h"}}, {"host": "n"}),
        ({"host": {"ip": ["10.0.0.1"]}}, {}),
        ({"host": "h"}, {"host": "h"}),
        # Fluent Bit
        ({"ident": "su", "pri": "34", "host": "h"},
         {"component": "su", "severity": "CRITICAL", "host": "h"}),
        ({"pri": 13}, {"severity": "NOTICE"}),
        ({"time": "May  6 07:08:11"}, {"time": AT.replace(year=2024)}),
        ({"date": AT.timestamp()}, {"time": AT}),
        # Vector
        ({"appname": "su", "severity": "crit", "hostname": "h"},
         {"component": "su", "severity": "CRITICAL", "host": "h"}),
        # pino: the same numbers mean other severities.
        ({"level": 20}, {"severity": "DEBUG"}),
    ],
)  # fmt: skip
def test_what_shippers_add_to_a_message_is_read(
    line: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert fields(json.dumps({"message": "x"} | line), JSON) == {"message": "x"} | expected


# Everything.


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_large_batch_splits_as_its_lines_do(name: str) -> None:
    lines = pl.Series([*EXAMPLES, "", "\x00", "größe\t\r", *EXAMPLES])
    parts = split(lines, SYSTEMS[name], NOW)
    whole = split(pl.concat([lines] * 100), SYSTEMS[name], NOW)
    assert whole.equals(pl.concat([parts] * 100))
    assert split(lines[:0], SYSTEMS[name], NOW).schema == whole.schema


#: Bytes as they come: at random, and examples that were cut, spliced and damaged.
DAMAGED = st.lists(
    st.sampled_from([example.encode() for example in EXAMPLES])
    | st.tuples(st.sampled_from([e.encode() for e in EXAMPLES]), st.integers(0, 200)).map(
        lambda cut: cut[0][: cut[1]]
    )
    | st.tuples(st.sampled_from([e.encode() for e in EXAMPLES]), st.integers(0, 200)).map(
        lambda cut: cut[0][cut[1] :]
    )
    | st.binary(max_size=30)
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    max_size=4,
).map(b"".join)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(DAMAGED, max_size=5))
def test_no_bytes_make_splitting_or_masking_fail(values: list[bytes]) -> None:
    raw = decode(values)
    for system in SYSTEMS.values():
        lines = split(raw, system)
        assert lines["raw"].to_list() == raw.to_list()
        assert lines["text"].null_count() == lines["message"].null_count() == 0
        assert lines.filter(~pl.col("split"))["text"].is_in(raw.implode()).all()
        # A time that Python knows, and can be written into an event.
        assert all(time is None or time.isoformat() for time in lines["time"].to_list())
        templates = mask(lines["text"])
        assert mask(templates).equals(templates)


#: Keys of the profile, so that paths lead somewhere, and values that no shipper writes.
KEYS = sorted({key for path in JSON.paths.message + JSON.paths.severity + JSON.paths.component
               for key in re.findall(r"\w+", path)}) if JSON.paths else []  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**400)
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", "\x00", "{}", '{"a":1}', "[", "0"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=25,
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5), max_size=5))
def test_no_json_makes_splitting_fail(values: list[dict[str, Any]]) -> None:
    raw = decode([json.dumps(value).encode() for value in values])
    lines = split(raw, JSON)
    assert lines["raw"].to_list() == raw.to_list()
    # A line splits as it does alone.
    for line, row in zip(raw, lines.rows(), strict=True):
        assert split(pl.Series([line]), JSON).row(0) == row


def hostile(depth: int) -> dict[str, str]:
    record = '{"body":{"stringValue":"a"}}'
    deep = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[' * depth + "]}]}]}" * depth
    wide = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{",".join([record] * depth)}]}}]}}]}}'
    resource = f'{{"scopeLogs":[{{"logRecords":[{record}]}}]}}'
    return {
        "deep objects": '{"message":' * depth + "1" + "}" * depth,
        "deep lists": '{"log":' + "[" * depth + "]" * depth + "}",
        "deep batches": deep,
        "many records": wide,
        "many resources": f'{{"resourceLogs":[{",".join([resource] * depth)}]}}',
        "duplicate keys": "{" + ",".join(['"message":{"message":"a"}'] * depth) + "}",
        "a huge number": '{"message":"a","time":' + "9" * depth + "}",
        "a huge exponent": '{"message":"a","time":1e' + "9" * depth + "}",
        "escapes": '{"message":"' + "\\u0000" * depth + '"}',
        "surrogates": '{"message":"' + "\\ud800" * depth + '"}',
        "text like an object": json.dumps({"message": "{" + '"message":' * depth + "}"}),
        "an object like text": json.dumps({"log": {"a" * depth: ["x"] * depth}}),
        "attributes": json.dumps(
            {"resourceLogs": [{"resource": {"attributes": [{"key": "host.name"}] * depth}}]}
        ),
    }


@pytest.mark.parametrize("kind", hostile(1))
def test_hostile_json_splits_in_linear_time(kind: str) -> None:
    # What takes quadratic time takes minutes here.
    for depth in (1, 2, 100, 150, 20_000):
        line = hostile(depth)[kind]
        lines = split(pl.Series([line, '{"message":"a"}']), JSON)
        assert lines["raw"][0] == line
        assert lines["message"][1] == "a"


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_line_of_a_megabyte_splits_in_linear_time(name: str) -> None:
    # A pattern that backtracks would take minutes here.
    head = SYSTEMS[name].examples[0].line
    for piece in ("x", "[", "a: ", '\\"', '{"a":'):
        tail = piece * (1_000_000 // len(piece))
        lines = split(pl.Series([head + tail, tail]), SYSTEMS[name])
        assert lines["text"].str.len_bytes().min() == len(tail)


#: Of each development log: its lines, those that do not split, of these the empty ones, and the
#: sessions. What does not split and is not empty continues the line before it: XML that libvirt
#: is given, tracebacks, and messages of several lines.
COUNTS = {
    "bgl.real-head": (10_000, 0, 0, 0),
    "bgl.real-sample": (1_400, 0, 0, 0),
    "bgl.reconstructed": (135_736, 0, 0, 0),
    "hdfs.real": (156_103, 0, 0, 8_071),
    "liberty.reconstructed": (200_000, 0, 0, 0),
    "openstack.real-destroy": (13_922, 4_762, 566, 197),
    "openstack.real-mixed": (25_659, 266, 260, 1_162),
    "spirit.natural": (100_000, 0, 0, 0),
    "spirit.reconstructed": (150_000, 0, 0, 0),
    "thunderbird.natural": (100_000, 0, 0, 0),
    "thunderbird.real": (15_263, 0, 0, 0),
    "thunderbird.reconstructed": (150_000, 0, 0, 0),
}

#: How a line of nova begins, whatever stands before its level.
HEADER = r"^.{0,120}\b(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) (?:nova|os_vif|oslo)"


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development logs are not beside the checkout")
@pytest.mark.parametrize("log", COUNTS)
def test_no_well_formed_line_of_the_development_logs_is_left_unsplit(log: str) -> None:
    lines = read_lines(SHARED / f"{log}.log.gz", load_system(log.split(".", maxsplit=1)[0]))
    unsplit = lines.filter(~pl.col("split"))["raw"]
    empty = int((unsplit.str.strip_chars() == "").sum())
    sessions = lines["session"].drop_nulls().n_unique()
    assert (lines.height, len(unsplit), empty, sessions) == COUNTS[log]
    assert not unsplit.str.contains(HEADER).any()
    timed = lines.height if not log.startswith("openstack") else 0
    assert lines["time"].count() == timed


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development logs are not beside the checkout")
@pytest.mark.parametrize("system", ["hdfs", "openstack"])
def test_every_labelled_session_is_found(system: str) -> None:
    labelled = pl.read_csv(SHARED / f"{system}.real.labels.csv").to_series()
    logs = sorted(SHARED.glob(f"{system}.real*.log.gz"))
    found = pl.concat([read_lines(log, SYSTEMS[system])["session"] for log in logs])
    assert set(found.drop_nulls()) == set(labelled)
