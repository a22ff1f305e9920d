"""The JSON forms of memory: what can be remembered comes back as it was, through real JSON; what is damaged raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from probes.codec import decode, encode
from probes.observed import HomeRef
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    Outcome,
    Prune,
    ResponseFingerprint,
    Result,
    Start,
    Stop,
    SwitchVersion,
    Unpack,
    Verify,
)
from reconcile.decide.conditions import Condition
from reconcile.decide.records.content import ConfigMemory, Content, DigestFile
from reconcile.decide.records.record import (
    AgentRecord,
    Awaited,
    ControlCall,
    Crashes,
    Failure,
    FailureKind,
    LateFetch,
    PendingUpgrade,
    Pin,
    UpgradePhase,
)
from reconcile.source import Answer, DesiredSignature, Entry, Malformed
from reconcile.storage.codec import (
    EVIDENCE_LIMIT,
    HistoryEvent,
    answer_from_json,
    answer_to_json,
    event_to_json,
    likeness,
)

times = st.floats(0, 4e9)
words = st.text(max_size=20)
places = st.builds(HomeRef, name=words, work_dir=words, run_user=words, config_name=st.none() | words)
contents = st.builds(
    Content,
    version=words,
    digests=st.frozensets(words, max_size=3),
    config=st.none() | words,
    at=st.none() | places,
)
configs = st.builds(ConfigMemory, name=words, url=words, digest=words, etag=st.none() | words)
failures = st.builds(
    Failure,
    content=contents,
    verdict=st.sampled_from(FailureKind),
    reason=words,
    message=words,
    at=times,
    count=st.integers(1, 1000),
    served=st.none() | st.builds(ResponseFingerprint, url=words, etag=words, modified=words, length=words, found=words),
    downloads=st.integers(0, 9),
    downloaded_at=times,
    home=st.none() | places,
)
calls = st.builds(
    ControlCall,
    version=words,
    verb=words,
    pid=st.integers(1, 4194304),
    started=st.integers(0, 2**63),
    boot=words,
    limit_s=times,
)
records = st.builds(
    AgentRecord,
    name=words,
    work_dir=words,
    run_user=words,
    config=st.none() | configs,
    delivering=st.none() | st.text(),
    remote_config=st.none() | configs,
    digest_file=st.none()
    | st.builds(DigestFile, url=words, digest=words, etag=st.none() | words, unasked=st.integers(0, 9)),
    confirmation=st.none()
    | st.builds(
        PendingUpgrade,
        to=contents,
        before=st.none() | contents,
        stage=st.sampled_from(UpgradePhase),
        at=times,
        deadline=st.none() | times,
        boot=words,
        tries=st.integers(1, 3),
        came_up=st.booleans(),
        left=st.none() | places,
    ),
    good=st.none() | contents,
    fallback=st.none() | contents,
    interrupted=st.none() | contents,
    never_up=st.none() | contents,
    failures=st.lists(failures, max_size=3).map(tuple),
    crashes=st.none() | st.builds(Crashes, count=st.integers(0, 1000), at=times),
    stopped_by_us=st.booleans(),
    pin=st.none() | st.builds(Pin, version=words, owner=words, at=times),
    calls=st.lists(calls, max_size=2).map(tuple),
    used=st.lists(words, max_size=3).map(tuple),
    stuck=st.frozensets(words, max_size=3),
    awaited=st.none() | st.builds(Awaited, content=st.none() | contents, since=times),
    late_fetch=st.none() | st.builds(LateFetch, content=contents, runs=st.integers(1, 99)),
    conditions=st.lists(
        st.builds(Condition, type=words, status=words, reason=words, message=words, since=times), max_size=2
    ).map(tuple),
)
entries = st.builds(
    Entry, **dict.fromkeys(("name", "version", "tarball", "md5", "sha256", "cmd", "run_user", "work_dir"), words)
) | st.builds(Malformed, name=words, message=words)


def through_json(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


@given(records)
def test_every_record_comes_back(record: AgentRecord) -> None:
    assert decode(AgentRecord, through_json(encode(record))) == record


signatures = st.none() | st.builds(DesiredSignature, key=words, serial=st.integers(0, 10**18), digest=words)


@given(st.builds(Answer, came_from=words, entries=st.lists(entries, max_size=3).map(tuple), signature=signatures))
def test_every_answer_comes_back(answer: Answer) -> None:
    assert answer_from_json(through_json(answer_to_json(answer))) == answer


def test_a_memory_from_before_agents_moved_is_read() -> None:
    kept = through_json(encode(FULL))
    for fields, key in (
        (kept["confirmation"], "left"),
        (kept["confirmation"]["to"], "at"),
        (kept["failures"][0], "place"),
    ):
        assert fields.pop(key) is None
    assert decode(AgentRecord, kept) == FULL


FULL = AgentRecord(
    name="a",
    work_dir="/w",
    run_user="u",
    confirmation=PendingUpgrade(to=Content(version="2.0"), before=None, at=1.0),
    failures=(
        Failure(
            content=Content(version="2.0"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=1.0
        ),
    ),
)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("confirmation", "to"), None),
        (("confirmation", "stage"), "dancing"),
        (("confirmation", "steps"), 3),
        (("failures", 0, "content"), None),
        (("failures", 0, "verdict"), "maybe"),
        (("good",), "1.0"),
        (("conditions",), [{"type": "Ready"}]),
        (("used",), None),
    ],
)
def test_a_damaged_record_is_distinct_from_a_whole_one(place: tuple[Any, ...], value: object) -> None:
    document = through_json(encode(FULL))
    assert decode(AgentRecord, document) == FULL
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(AgentRecord, document)


@pytest.mark.parametrize("key", ["name", "work_dir", "run_user"])
def test_a_record_that_does_not_say_whose_and_where_is_a_damaged_one(key: str) -> None:
    document = through_json(encode(FULL))
    del document[key]
    with pytest.raises(ValueError, match=key):
        decode(AgentRecord, document)


def test_a_record_of_an_older_version_is_read_with_defaults_for_its_lacking_keys() -> None:
    for key, default in through_json(encode(AgentRecord(name="a", work_dir="/w", run_user="u"))).items():
        if key in ("name", "work_dir", "run_user"):
            continue
        document = through_json(encode(FULL))
        del document[key]
        assert encode(decode(AgentRecord, document)) == encode(FULL) | {key: default}


def test_a_record_of_a_newer_version_is_not_read() -> None:
    with pytest.raises(ValueError, match="unknown key"):
        decode(AgentRecord, through_json(encode(FULL)) | {"mood": "good"})


def event(*outcomes: Outcome, message: str = "1.0 -> 2.0") -> HistoryEvent:
    return HistoryEvent(name="a", at=1.0, reason="VersionDiffers", message=message, outcomes=outcomes)


@pytest.mark.parametrize(
    ("action", "version"),
    [
        (Fetch(url="http://meta", version="1.0.0", digests=frozenset()), "1.0.0"),
        (Verify(digests=frozenset()), None),
        (Unpack(version="2.0", directory="2.0", url="http://meta", digests=frozenset()), "2.0"),
        (Configure(name="cfg.json", digest="sha256:1", directory=None), None),
        (Stop(version="1.0"), "1.0"),
        (SwitchVersion(from_version="1.0", to="2.0"), "2.0"),
        (Start(version="2.0"), "2.0"),
        (Prune(names=(".stage-x",)), None),
    ],
)
def test_the_words_of_an_action(action: Action, version: str | None) -> None:
    outcome = Outcome(
        action=action,
        result=Result.FAILED,
        attempts=3,
        at=7.5,
        seconds=1.23456,
        reason="No",
        error="it failed",
        evidence="boom",
    )
    (reported,) = through_json(event_to_json(event(outcome)))["actions"]
    assert reported.pop("names", None) == ([".stage-x"] if isinstance(action, Prune) else None)
    assert reported == {
        "type": action.type,
        "version": version,
        "result": "failed",
        "attempts": 3,
        "at": 7.5,
        "seconds": 1.235,
        "reason": "No",
        "error": "it failed",
        "evidence": "boom",
    }


def test_the_end_of_a_failures_evidence_is_kept() -> None:
    talked = "x" * EVIDENCE_LIMIT + "the last words"
    outcome = Outcome(action=Start(version="1.0"), result=Result.FAILED, evidence=talked)
    (reported,) = event_to_json(event(outcome))["actions"]
    assert len(reported["evidence"]) == EVIDENCE_LIMIT
    assert reported["evidence"].endswith("the last words")


def test_events_are_alike_but_for_their_times() -> None:
    outcome = Outcome(action=Start(version="1.0"), result=Result.FAILED, seconds=1.0, reason="StartFailed", error="no")
    like = likeness(event(outcome))
    assert likeness(evolve(event(evolve(outcome, seconds=9.0, attempts=4, evidence="pid 7")), at=99.0)) == like
    assert likeness(event(evolve(outcome, error="never"))) != like
    assert likeness(event(outcome, message="2.0 -> 1.0")) != like
    assert likeness(event()) != like
    assert likeness(event(outcome, message="half a pair: \ud800")).encode()
