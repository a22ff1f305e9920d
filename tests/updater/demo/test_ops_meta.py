"""The demo's own ops-meta, asked by a client that shares no code with it."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from updater.demo.ops_meta import DemoOpsMeta

TARBALL = bytes(range(256)) * 40


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[DemoOpsMeta]:
    with DemoOpsMeta(tmp_path / "agents") as running:
        yield running


def get(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=60) as reply:
        return bytes(reply.read())


def beat(meta: DemoOpsMeta, **agent: str) -> dict[str, object]:
    body = json.dumps({"hostname": "h", "realAgents": [agent] if agent else []}).encode()
    answer = json.loads(get(f"http://{meta.address}/api/heartbeat", body))
    assert answer["errorMessage"] == ""
    (entry,) = answer["desiredAgents"]
    return dict(entry)


def test_an_entry_leads_to_its_tarball_and_config(meta: DemoOpsMeta, tmp_path: Path) -> None:
    meta.publish("falcon-agent", "1.0.0", TARBALL)
    meta.desire("falcon-agent", "1.0.0", config=b"{}")
    entry = beat(meta)
    (path,) = (path for path in meta.files if path.endswith(".tar.gz"))
    assert f"http://{meta.address}{path}".startswith(str(entry["tarball"]))
    assert get(f"http://{meta.address}{path}") == TARBALL
    assert entry["md5"] == hashlib.md5(TARBALL).hexdigest()
    assert get(f"http://{meta.address}{path}.md5").split() == [
        str(entry["md5"]).encode(),
        b"falcon-agent-1.0.0.tar.gz",
    ]
    assert get(str(entry["configRemoteUrl"])) == b"{}"
    assert (entry["cmd"], entry["workDir"]) == ("start", str(tmp_path / "agents"))


def test_the_last_report_counts(meta: DemoOpsMeta) -> None:
    meta.publish("falcon-agent", "1.0.0", TARBALL)
    meta.desire("falcon-agent", "1.0.0", cmd="stop")
    assert beat(meta, name="falcon-agent", version="1.0.0")["cmd"] == "stop"
    assert meta.reported("falcon-agent")["version"] == "1.0.0"
    beat(meta)
    assert meta.reported("falcon-agent") == {}


def test_a_corrupt_tarball_differs_in_one_byte_from_what_its_digest_names(meta: DemoOpsMeta) -> None:
    meta.publish("a", "1", TARBALL, is_corrupt=True)
    meta.desire("a", "1")
    (path,) = (path for path in meta.files if path.endswith(".tar.gz"))
    served = get(f"http://{meta.address}{path}")
    assert sum(one != other for one, other in zip(served, TARBALL, strict=True)) == 1
    assert beat(meta)["md5"] == hashlib.md5(TARBALL).hexdigest()


def test_what_is_not_there_is_404(meta: DemoOpsMeta) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"http://{meta.address}/releases/falcon/other.tar.gz")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"http://{meta.address}/elsewhere", b"{}")
