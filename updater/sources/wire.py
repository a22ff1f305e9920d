"""The wire form of the contract, in and out: a heartbeat's body is built here, an answer is parsed here, nowhere else.

Parsing is strict where a value is used and forgiving everywhere else: unknown keys are ignored, forms of the field
whose meaning is beyond doubt are read (blanks at the ends, `START`, a pasted line of md5sum, an integer as version), a
key without a usable form is a fault of its entry, and the other entries are served. Only what makes the answer as a
whole untrustworthy (no JSON object, an error message, no list of agents) is ResponseInvalid. Whether a well-formed
entry is ALLOWED is for reconcile/decide/policy. This module is pure: bytes in, values out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from attrs import field

from probes.text import one_line
from probes.values import frozen
from reconcile.errors import ResponseInvalid
from reconcile.net.http_client import page_title
from reconcile.source import Answer, Entry, Fault, HostReport, Malformed, ReportedAgent, Rollout

_DEPTH = 32  # the contract's form needs 3; json.loads recurses, so the bound is checked before
_ENTRIES = 400  # no host has so many agents; one costs a pass up to 40 KB of memory
# What is parsed takes many times the room of its text: an empty object 64 bytes for two, a key 100 for five.
_CONTAINERS = 20_000  # objects and lists
_VALUES = 50_000
_STRING = 4096  # the longest path of Linux; no value of an entry needs more
_DIGITS = 100  # of a number; int() of a long text takes quadratic time
_AGENTS = "desiredAgents"
_FIELDS = {
    "version": "version",
    "tarball": "tarball",
    "md5": "md5",
    "sha256": "sha256",
    "cmd": "cmd",
    "runUser": "run_user",
    "workDir": "work_dir",
    "configFileName": "config_file_name",
    "configRemoteUrl": "config_remote_url",
}
_NONE_WHEN_ABSENT = frozenset({"run_user", "work_dir"})  # for these older servers' "" means absent, too
# Of a name nothing is cut: it is what everything else is known by. What stands around the others was pasted with them.
_BLANKS = " \t\r\n\v\f\xa0\ufeff"
_SUM_LINES = {"md5": r"([0-9A-Fa-f]{32})[ \t]+[^\r\n]+", "sha256": r"([0-9A-Fa-f]{64})[ \t]+[^\r\n]+"}

_Json: TypeAlias = Any  # what json.loads gives: its type is what this module is there to check
_STRUCTURE = r'(?s:\\.)|["\[\]{},]'
_UNFIT = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"  # controls; halves of surrogate pairs, bytes that aren't UTF-8


def report_body(report: HostReport) -> bytes:
    """Build the body of a heartbeat. `realAgents` is a list, even when empty; extra keys never hide the contract's."""
    return json.dumps(
        {
            "hostname": report.hostname,
            "ip": report.ip,
            "runUser": report.run_user,
            "updaterVersion": report.updater_version,
            "realAgents": [_real_agent(agent) for agent in report.agents],
        },
        separators=(",", ":"),
    ).encode("ascii")


def _real_agent(agent: ReportedAgent) -> dict[str, str | int]:
    ours: dict[str, str | int] = {
        "name": agent.name,
        "version": agent.version,
        "status": agent.status,
        "timestamp": agent.timestamp,
        "runUser": agent.run_user,
        "workDir": agent.work_dir,
    }
    return {**ours, **{key: value for key, value in agent.extra if key not in ours}}


def parse_answer(body: bytes, came_from: str) -> Answer:
    """Read an answer that came from `came_from` (for people, and for the messages). Raise ResponseInvalid."""
    document = _object(body, came_from)
    if words := _error_in(document):
        raise ResponseInvalid(f"{came_from} answered with an error: {one_line(words)}")
    listed = _agents_in(document, came_from)
    entries = tuple(_entry(value, position) for position, value in enumerate(listed, start=1))
    return Answer(entries=entries, came_from=came_from)


def _error_in(document: dict[str, _Json]) -> str:
    """The error that a server reports; empty: none."""
    error = document.get("errorMessage")
    if document.get("success") is False:
        error = document.get("message") or error or "success is false"
    if error is None:
        return ""
    return error if isinstance(error, str) else f"(not a string) {error!r}"


def _agents_in(document: dict[str, _Json], came_from: str) -> list[_Json]:
    """The list of agents. Raise ResponseInvalid."""
    if _AGENTS not in document:
        raise ResponseInvalid(
            f"{came_from} answered without the key desiredAgents; is the server's path right? Found the keys: "
            f"{one_line(', '.join(document)) or 'none'}"
        )
    listed = [] if document[_AGENTS] is None else document[_AGENTS]
    if not isinstance(listed, list):
        raise ResponseInvalid(f"{came_from} answered with desiredAgents = {_kind(listed)}, expected a list or null")
    if len(listed) > _ENTRIES:
        raise ResponseInvalid(f"{came_from} answered with {len(listed)} agents, at most {_ENTRIES} are taken")
    return listed


@frozen(kw_only=True)
class _Unusable:
    """Stands in the parsed document for what JSON allows or Python takes, and we don't. Of an object: what was `seen`
    of it, and its `faults` by their keys."""

    message: str
    seen: Mapping[str, _Json] = field(factory=dict)
    faults: Mapping[str, str] = field(factory=dict)


_CONSTANTS = {word: _Unusable(message=f"{word} is not JSON") for word in ("NaN", "Infinity", "-Infinity")}


def _object(body: bytes, came_from: str) -> dict[str, _Json]:
    """Parse the outermost object. Bytes that aren't UTF-8 spoil only the string that they stand in."""
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if problem := _shape_problem(text):
        raise ResponseInvalid(f"{came_from} answered with JSON {problem}")
    try:
        document = json.loads(
            text,
            strict=False,  # a raw control character is the fault of its entry, see _UNFIT
            object_pairs_hook=_pairs,
            parse_constant=_CONSTANTS.__getitem__,
            parse_int=_integer,
            parse_float=_number,
        )
    except ValueError as error:
        _refuse_text(text, came_from, error)
    if isinstance(document, _Unusable):
        raise ResponseInvalid(f"{came_from} answered with a broken object: {document.message}")
    if not isinstance(document, dict):
        raise ResponseInvalid(f"{came_from} answered with {_kind(document)}, expected a JSON object")
    return document


def _refuse_text(text: str, came_from: str, error: ValueError) -> NoReturn:
    """Say what came instead of JSON, in the server's own words: `body is blank`, a proxy's page, nothing."""
    words = one_line(text)
    if not words:
        raise ResponseInvalid(f"{came_from} answered with nothing, expected a JSON object") from error
    title = page_title(text)
    if title is not None:
        page = f"the page {title!r}" if title else "a page without a title"
        raise ResponseInvalid(f"{came_from} answered with {page} instead of JSON; is it that of a proxy?") from error
    raise ResponseInvalid(
        f"{came_from} answered with what is not JSON ({one_line(str(error), 80)}): {words}"
    ) from error


def _shape_problem(text: str) -> str:
    """Say why a document isn't even parsed; empty where it may be."""
    depth, opened, values, in_string = 0, 0, 1, False
    for match in re.finditer(_STRUCTURE, text):
        token = match[0]
        if token == '"':
            in_string = not in_string
        elif in_string or token[0] == "\\":
            continue
        elif token == ",":
            values += 1
            if values > _VALUES:
                return f"of more than {_VALUES} values"
        elif token in "[{":
            depth += 1
            opened += 1
            if depth > _DEPTH:
                return f"nested more than {_DEPTH} deep"
            if opened > _CONTAINERS:
                return f"of more than {_CONTAINERS} objects and lists"
        else:
            depth -= 1
    return ""


def _pairs(pairs: list[tuple[str, _Json]]) -> dict[str, _Json] | _Unusable:
    """Make an object; one that holds something unusable, or a key twice, is unusable as a whole."""
    seen: dict[str, _Json] = {}
    faults: dict[str, str] = {}
    message = ""
    for key, value in pairs:
        if key in seen:
            faults[key] = "it stands twice"
            message = message or f"the key {one_line(key, 40)!r} stands twice"
        elif spoilt := _unusable_in(value, key):
            faults[key] = spoilt.message
            message = message or f"{one_line(key, 40)}: {spoilt.message}"
        seen.setdefault(key, value)
    return _Unusable(message=message, seen=seen, faults=faults) if faults else seen


def _unusable_in(value: _Json, key: str) -> _Unusable | None:
    """Find what spoils the value of a key. In the list of agents it spoils its entry alone."""
    if isinstance(value, list) and key != _AGENTS:
        return next((spoilt for item in value if (spoilt := _unusable_in(item, ""))), None)
    return value if isinstance(value, _Unusable) else None


def _number(text: str) -> float | _Unusable:
    return float(text) if len(text) <= _DIGITS else _Unusable(message=f"a number of {len(text)} digits")


def _integer(text: str) -> int | _Unusable:
    return int(text) if len(text) <= _DIGITS else _Unusable(message=f"a number of {len(text)} digits")


def _entry(value: _Json, position: int) -> Entry | Malformed:
    """Read one entry. A key that can't be read is a fault, and the other keys are read all the same."""
    faults: dict[str, str] = {}
    if isinstance(value, _Unusable) and value.faults:
        value, faults = value.seen, dict(value.faults)
    if not isinstance(value, Mapping):
        message = value.message if isinstance(value, _Unusable) else f"expected an object, found {_kind(value)}"
        return Malformed(name=f"#{position}", message=message)
    name = _name(value.get("name"), faults)
    if not name:
        why = faults.get("name", "missing or empty, expected the agent's name")
        return Malformed(name=f"#{position}", message=f"name: {why}")
    values: dict[str, Any] = {attribute: _text(key, value.get(key), faults) for key, attribute in _FIELDS.items()}
    values |= {attribute: values[attribute] or None for attribute in _NONE_WHEN_ABSENT}
    rollout = _rollout(value.get("rollout"), faults)
    listed = tuple(Fault(one_line(key, 40), message) for key, message in faults.items())
    return Entry(name=name, **values, rollout=rollout, faults=listed)


def _text(key: str, found: _Json, faults: dict[str, str]) -> str:
    """A value; empty where there is none, or none that can be read, which is added to the faults."""
    meant = _meant(key, found)
    if key not in faults and (problem := _problem(key, meant)):
        faults[key] = problem
    return "" if key in faults else meant or ""


def _name(found: _Json, faults: dict[str, str]) -> str:
    """The agent's name; where that can't be used, what can be printed of it."""
    name = _text("name", found, faults)
    return one_line(found, 64) if "name" in faults and isinstance(found, str) else name


def _rollout(found: _Json, faults: dict[str, str]) -> Rollout | None:
    """A rollout; None where there is none, or none that can be read, which is added to the faults."""
    if found is None or "rollout" in faults:
        return None
    if problem := _rollout_problem(found):
        faults["rollout"] = problem
        return None
    return Rollout(percent=found["percent"], seed=found.get("seed"))


def _rollout_problem(found: _Json) -> str:
    """Say why a rollout can't be used; empty where it can. In doubt it is no rollout to all hosts."""
    if not isinstance(found, Mapping):
        return f'expected an object such as {{"percent": 5}}, found {_kind(found)}'
    percent, seed = found.get("percent"), found.get("seed")
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 100:
        return "percent: expected a number from 0 to 100"
    if seed is not None and (not isinstance(seed, str) or len(seed) > _STRING or re.search(_UNFIT, seed)):
        return f"seed: expected a text of at most {_STRING} characters"
    return ""


def _meant(key: str, found: _Json) -> _Json:
    """What a value means, where the field writes that in several forms: without blanks and line ends around it."""
    if key == "version" and type(found) is int:
        return str(found)
    if key == "name" or not isinstance(found, str):
        return found
    text = found.strip(_BLANKS)
    if key in _SUM_LINES and (line := re.fullmatch(_SUM_LINES[key], text)):
        return line[1]
    return text.lower() if key == "cmd" else text


def _problem(key: str, found: _Json) -> str:
    """Say why a value of an entry can't be used; empty where it can."""
    if found is None:
        return ""
    if key == "version" and isinstance(found, float):
        return "expected a string, found a number with a point or an exponent, which may have lost a zero (1.10 is 1.1)"
    if not isinstance(found, str):
        return f"expected a string, found {_kind(found)}"
    if len(found) > _STRING:
        return f"{len(found)} characters, at most {_STRING} are taken"
    if unfit := re.search(_UNFIT, found):
        return f"the character U+{ord(unfit[0]):04X} at position {unfit.start()} is not allowed"
    return ""


def _kind(value: _Json) -> str:
    """Name a value as JSON does."""
    if value is None:
        return "null"
    if isinstance(value, _Unusable):
        return f"something unusable ({value.message})"
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names[type(value)]
