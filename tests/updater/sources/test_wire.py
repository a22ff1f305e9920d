"""The wire form: what a server may send, what we make of it, and what we send."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconcile.errors import ResponseInvalid
from reconcile.source import Answer, Entry, HostReport, Malformed, ReportedAgent
from updater.sources.wire import parse_answer, report_body

FALCON = {
    "name": "falcon-agent",
    "version": "5.1.3",
    "tarball": "http://11.11.11.11:8888/releases/falcon",
    "md5": "490ac172dabecc867289079d48e84a66",
    "cmd": "start",
    "runUser": "falcon",
    "workDir": "/home/falcon/open-falcon",
    "configFileName": "cfg.json",
    "configRemoteUrl": "http://11.11.11.11:8888/falcon/conf/falcon-agent-cfg.json",
}
SIBLING = Entry(name="dinp-agent", version="1.0.0", cmd="start")
SIBLING_TEXT = '{"name": "dinp-agent", "version": "1.0.0", "cmd": "start"}'


def parsed(document: object) -> Answer:
    return parse_answer(json.dumps(document).encode(), "http://meta/api/heartbeat")


def only(entry: str | bytes) -> Entry | Malformed:
    """Parse an answer that holds this entry, as raw JSON, beside a good one, which must be served."""
    raw = entry.encode("utf-8", "surrogatepass") if isinstance(entry, str) else entry
    answer = parse_answer(b'{"desiredAgents": [%b, %b]}' % (raw, SIBLING_TEXT.encode()), "here")
    [first, second] = answer.entries
    assert second == SIBLING
    return first


# Answers


def test_the_contracts_example() -> None:
    answer = parsed({"errorMessage": "", "desiredAgents": [{**FALCON, "sha256": "ab" * 32, "colour": {"x": [1]}}]})
    assert answer == Answer(
        came_from="http://meta/api/heartbeat",
        entries=(
            Entry(
                name="falcon-agent",
                version="5.1.3",
                tarball="http://11.11.11.11:8888/releases/falcon",
                md5="490ac172dabecc867289079d48e84a66",
                sha256="ab" * 32,
                cmd="start",
                run_user="falcon",
                work_dir="/home/falcon/open-falcon",
                config_file_name="cfg.json",
                config_remote_url="http://11.11.11.11:8888/falcon/conf/falcon-agent-cfg.json",
            ),
        ),
    )


@pytest.mark.parametrize(
    "absent", [{}, dict.fromkeys(FALCON), dict.fromkeys(FALCON, "")], ids=["absent", "null", "empty"]
)
def test_what_older_servers_leave_out(absent: dict[str, object]) -> None:
    assert parsed({"desiredAgents": [{**absent, "name": "a"}]}).entries == (Entry(name="a"),)


@pytest.mark.parametrize(
    "document",
    [
        {"errorMessage": "", "desiredAgents": []},
        {"errorMessage": None, "desiredAgents": None},
        {"desiredAgents": None, "success": True, "other": 1.5},
    ],
)
def test_nothing_desired_is_a_valid_answer(document: object) -> None:
    assert parsed(document).entries == ()


def test_a_byte_order_mark_is_no_harm() -> None:
    assert parse_answer(b'\xef\xbb\xbf{"desiredAgents": []}', "a file").entries == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "nothing"),
        (b" \n", "nothing"),
        (b"body is blank", "body is blank"),
        (b"body format error\n", "body format error"),
        (
            b"<html>\n<body>Bad \x1b[31mGateway",
            r"the page 'Bad \\\\x1b\[31mGateway' instead of JSON",
        ),
        (b'{"success": false, "message": "no such host"}', "no such host"),
        (b'{"success": false}', "success is false"),
        (b'{"success": false, "message": "no", "desiredAgents": []}', "error: no"),
        (b'{"errorMessage": "db is down", "desiredAgents": []}', "db is down"),
        (b'{"errorMessage": "db\\u001b[2J\\nis down"}', r"db\\x1b\[2J is down"),
        (b'{"errorMessage": 0, "desiredAgents": []}', "not a string"),
        (b'{"errorMessage": false, "desiredAgents": []}', "not a string"),
        (b'{"errorMessage": {}, "desiredAgents": []}', "not a string"),
        (b"{}", "without the key desiredAgents"),
        (b'{"errorMessage": "", "DesiredAgents": []}', "Found the keys: errorMessage, DesiredAgents"),
        (b'{"desiredAgents": {}}', "an object, expected a list"),
        (b'{"desiredAgents": ""}', "a string, expected a list"),
        (b'{"desiredAgents": false}', "true or false, expected a list"),
        (b'{"desiredAgents": NaN}', "NaN"),
        (b'{"desiredAgents": [], "desiredAgents": []}', "twice"),
        (b'{"desiredAgents": [], "x": 1, "x": 1}', "twice"),
        (b'{"desiredAgents": []} {}', "not JSON"),
        (b'{"desiredAgents": [', "not JSON"),
        (b'{"desiredAgents": [\xff]}', "not JSON"),
        (b"[]", "a list, expected a JSON object"),
        (b"null", "null, expected a JSON object"),
        (b"1", "a number, expected a JSON object"),
        (b"9" * 100_000, "digits|not JSON"),
        (b"[" * 100_000, "32 deep"),
        (b'{"a":' * 100_000, "32 deep"),
        (b'{"desiredAgents": [' + b"{}," * 400 + b"{}]}", "401 agents"),
        (b'{"desiredAgents": [' + b"[]," * 300_000 + b"[]]}", "20000 objects and lists"),
        (b'{"desiredAgents": [], "x": [' + b"0," * 50_000 + b"0]}", "50000 values"),
        ('{"desiredAgents": []}'.encode("utf-16"), "not JSON"),
    ],
)
def test_what_is_no_answer(body: bytes, message: str) -> None:
    with pytest.raises(ResponseInvalid, match=message) as raised:
        parse_answer(body, "http://meta/api/heartbeat")
    assert str(raised.value).startswith("http://meta/api/heartbeat answered with")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


def test_brackets_in_strings_are_not_depth() -> None:
    text = "[{," * 1000 + '"\\'
    assert only(json.dumps({"name": "a", "cmd": text})) == Entry(name="a", cmd=text)


def test_four_hundred_entries_are_served() -> None:
    assert len(parsed({"desiredAgents": [{"name": f"a{n}"} for n in range(400)]}).entries) == 400


# Entries


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("null", "expected an object, found null"),
        ('"falcon"', "expected an object, found a string"),
        ("[]", "expected an object, found a list"),
        ("7", "expected an object, found a number"),
        ("NaN", "NaN is not JSON"),
        ("{}", "name: missing or empty"),
        ('{"name": ""}', "name: missing or empty"),
        ('{"name": null, "cmd": "stop"}', "name: missing or empty"),
        ('{"name": 7}', "name: expected a string, found a number"),
        ('{"name": {"x": NaN}}', "name: x: NaN is not JSON"),
    ],
)
def test_an_entry_without_a_name_is_a_value_and_its_sibling_is_served(entry: str, message: str) -> None:
    found = only(entry)
    assert isinstance(found, Malformed)
    assert found.name == "#1"
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("entry", "name", "key", "message"),
    [
        ('{"name": "a", "version": 1.0}', "a", "version", "a number with a point or an exponent"),
        ('{"name": "a", "version": 1e2}', "a", "version", "a number with a point or an exponent"),
        ('{"name": "a", "version": true}', "a", "version", "expected a string, found true or false"),
        ('{"name": "a", "version": %s}' % ("9" * 5000), "a", "version", "a number of 5000 digits"),
        ('{"name": "a", "md5": true}', "a", "md5", "expected a string, found true or false"),
        ('{"name": "a", "md5": 7}', "a", "md5", "expected a string, found a number"),
        ('{"name": "a", "runUser": ["x"]}', "a", "runUser", "expected a string, found a list"),
        ('{"name": "a", "runUser": 1000}', "a", "runUser", "expected a string, found a number"),
        ('{"name": "a", "workDir": {}}', "a", "workDir", "expected a string, found an object"),
        ('{"name": "a", "cmd": "start", "cmd": "stop"}', "a", "cmd", "it stands twice"),
        ('{"name": "a", "name": "b"}', "a", "name", "it stands twice"),
        ('{"name": "a", "x": -Infinity}', "a", "x", "-Infinity is not JSON"),
        ('{"name": "a", "x": {"y": NaN}}', "a", "x", "y: NaN is not JSON"),
        ('{"name": "a", "x": [1, {"y": NaN}]}', "a", "x", "y: NaN is not JSON"),
        ('{"name": "a", "x": %s}' % ("9" * 5000), "a", "x", "a number of 5000 digits"),
        ('{"name": "a", "cmd": "x\\u0000"}', "a", "cmd", r"the character U\+0000 at position 1"),
        ('{"name": "a", "cmd": "x\x00"}', "a", "cmd", r"the character U\+0000 at position 1"),
        ('{"name": "a", "cmd": "x\ny"}', "a", "cmd", r"the character U\+000A"),
        ('{"name": "a", "cmd": "\\u009b"}', "a", "cmd", r"the character U\+009B"),
        ('{"name": "a\\ud800"}', r"a\ud800", "name", r"the character U\+D800"),
        ('{"name": "a\\n"}', "a", "name", r"the character U\+000A"),
        (b'{"name": "a", "cmd": "\xff"}', "a", "cmd", r"the character U\+DCFF"),
        ('{"name": "\x1b[2J", "cmd": 1}', r"\x1b[2J", "name", "the character"),
        ('{"name": "%s"}' % ("x" * 4097), "x" * 61 + "...", "name", "4097 characters"),
    ],
)
def test_a_key_without_a_usable_form_is_a_fault_and_the_rest_is_read(
    entry: str | bytes, name: str, key: str, message: str
) -> None:
    found = only(entry)
    assert isinstance(found, Entry)
    assert found.name == name
    reported = {fault.key: fault.message for fault in found.faults}
    assert re.search(message, reported[key])
    assert key not in ("cmd", "version", "md5") or not getattr(found, key)


def test_what_says_stop_says_so_whatever_else_is_wrong() -> None:
    raw = '{"name": "a", "version": 1.5, "md5": [], "md5": 1, "cmd": "STOP", "workDir": "/srv", "x": NaN}'
    found = only(raw)
    assert isinstance(found, Entry)
    assert (found.cmd, found.work_dir) == ("stop", "/srv")
    assert {fault.key for fault in found.faults} == {"version", "md5", "x"}


MD5, SHA256 = "490ac172dabecc867289079d48e84a66", "5f" * 32


@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [
        *(
            (key, f"{before}{value}{after}", value)
            for key, value in {**FALCON, "sha256": SHA256}.items()
            if key != "name"
            for before, after in (("", "\n"), ("", "\r\n"), (" ", "  "), ("\t", "\xa0"), ("\ufeff", ""))
        ),
        *(("cmd", text, text.strip().lower()) for text in ("START", "Stop", " sTaRt\n", "", "  ")),
        *(
            ("md5", text, MD5)
            for text in (
                f"{MD5}  falcon-agent-5.1.3.tar.gz",
                f"{MD5} *falcon-agent-5.1.3.tar.gz\n",
                f"{MD5}\tx",
                f"{MD5}  -\r\n",
                f" {MD5}  a name with blanks",
            )
        ),
        ("md5", f"{MD5.upper()}  x", MD5.upper()),
        ("sha256", f"{SHA256}  falcon-agent-5.1.3.tar.gz\n", SHA256),
        *(("md5", text, text) for text in ("ask Bob", f"MD5 (x) = {MD5}", "http://sums/falcon x", f"{MD5[:-1]}  x")),
        *(("version", number, str(number)) for number in (7, 20240131, 0, -5)),
        ("version", " 1.10\n", "1.10"),
        ("workDir", "/srv/a b ", "/srv/a b"),
        ("configFileName", "config/cfg.json ", "config/cfg.json"),
        ("runUser", " ", None),
        ("workDir", "\n", None),
    ],
)
def test_forms_of_the_field_are_read_as_they_are_meant(key: str, written: object, meant: str | None) -> None:
    attribute = re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", key)
    found = only(json.dumps({**FALCON, key: written}))
    assert isinstance(found, Entry)
    assert (getattr(found, attribute), found.faults) == (meant, ())


def test_two_pasted_lines_name_no_digest() -> None:
    found = only(json.dumps({**FALCON, "md5": f"{MD5}  x\n{MD5}  y\n"}))
    assert isinstance(found, Entry)
    assert [fault.key for fault in found.faults] == ["md5"]


def test_a_name_is_never_cut() -> None:
    assert only('{"name": " a "}') == Entry(name=" a ")


def test_what_only_the_policy_may_refuse_is_well_formed() -> None:
    found = only('{"name": "../x", "version": "..", "cmd": "dance", "workDir": "/etc", "runUser": "#0"}')
    assert found == Entry(name="../x", version="..", cmd="dance", work_dir="/etc", run_user="#0")


def test_surrogate_pairs_and_other_scripts_are_text() -> None:
    assert only('{"name": "\\ud83d\\ude00", "cmd": "é"}') == Entry(name="\U0001f600", cmd="é")


# Whatever comes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from([*FALCON]), inner, max_size=4)
    ),
    max_leaves=20,
)


def answer_or_refusal(body: bytes) -> Answer | None:
    """Return the answer, or None for a refusal; whatever is said of the server's bytes must be fit for a terminal."""
    answer = None
    try:
        answer = parse_answer(body, "here")
        said = [entry.name + entry.message for entry in answer.entries if isinstance(entry, Malformed)]
        faulty = [entry for entry in answer.entries if isinstance(entry, Entry) and entry.faults]
        said += [entry.name for entry in faulty if any(fault.key == "name" for fault in entry.faults)]
        said += [fault.key + fault.message for entry in faulty for fault in entry.faults]
    except ResponseInvalid as refusal:
        said = [refusal.message]
    assert all(words.isprintable() for words in said)
    return answer


@given(st.binary())
@example(b"{")
def test_any_bytes(body: bytes) -> None:
    answer_or_refusal(body)


@given(JSON, st.sampled_from(["", "x"]) | JSON)
def test_any_document(agents: Any, error: Any) -> None:
    answer = answer_or_refusal(json.dumps({"errorMessage": error, "desiredAgents": agents}).encode())
    if answer is not None:
        assert error in ("", None)


@given(st.lists(JSON, max_size=4), st.integers(0, 4))
def test_a_good_entry_among_any_others_is_served(others: list[Any], place: int) -> None:
    listed = [json.dumps(other) for other in others]
    listed.insert(place, SIBLING_TEXT)
    answer = answer_or_refusal(f'{{"desiredAgents": [{",".join(listed)}]}}'.encode())
    assert answer is not None
    assert answer.entries[min(place, len(others))] == SIBLING


@given(st.sampled_from(sorted(FALCON)), JSON | st.text(st.characters(exclude_categories=())))
def test_a_good_entry_beside_a_mutated_one_is_served(key: str, value: Any) -> None:
    only(json.dumps({**FALCON, key: value}))


@given(st.data())
def test_mutated_bytes_of_a_real_answer(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"errorMessage": "", "desiredAgents": [FALCON, json.loads(SIBLING_TEXT)]}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    answer_or_refusal(bytes(body))


# The report


def test_a_report_in_the_contracts_form() -> None:
    report = HostReport(
        hostname="liutian-01",
        ip="192.168.1.154",
        run_user="admin",
        updater_version="0.0.4",
        agents=(
            ReportedAgent(
                name="falcon-agent",
                version="5.1.3",
                status="started",
                timestamp=1477380651,
                run_user="falcon",
                work_dir="/home/falcon/open-falcon",
            ),
        ),
    )
    assert json.loads(report_body(report)) == {
        "hostname": "liutian-01",
        "ip": "192.168.1.154",
        "runUser": "admin",
        "updaterVersion": "0.0.4",
        "realAgents": [
            {
                "name": "falcon-agent",
                "version": "5.1.3",
                "status": "started",
                "timestamp": 1477380651,
                "runUser": "falcon",
                "workDir": "/home/falcon/open-falcon",
            }
        ],
    }


def test_a_report_without_agents_holds_a_list() -> None:
    body = report_body(HostReport(hostname="h", ip="::1", run_user="u", updater_version="1"))
    assert b'"realAgents":[]' in body


def test_extra_keys_come_behind_and_never_instead() -> None:
    agent = ReportedAgent(
        name="a",
        version="1",
        status="stoped",
        timestamp=1,
        run_user="u",
        work_dir="/w",
        extra=(("lastError", "no route"), ("status", "started")),
    )
    body = report_body(HostReport(hostname="h", ip="i", run_user="u", updater_version="1", agents=(agent,)))
    [sent] = json.loads(body)["realAgents"]
    assert (sent["status"], sent["lastError"]) == ("stoped", "no route")


def test_a_report_is_ascii_whatever_the_host_is_called() -> None:
    body = report_body(HostReport(hostname="h\udcff\u20ac", ip="i", run_user="u", updater_version="1"))
    assert body.isascii()
