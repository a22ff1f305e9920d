"""`updater publish` signs with the real minisign: what it signs, hosts' own code verifies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconcile.act.signatures import check_bytes, check_comment
from reconcile.decide.desired import Signing
from reconcile.decide.minisign import parse_signature
from tests.updater.lint.agents import tarball
from updater.cli import run

pytestmark = pytest.mark.system
ARCH = "linux_amd64"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    public = tmp_path / "key.pub"
    subprocess.run(["minisign", "-G", "-W", "-s", path, "-p", public], check=True, capture_output=True)
    return path


def signing(key: Path, comment: str) -> Signing:
    public = key.with_suffix(".pub").read_text().splitlines()[1]
    return Signing(url="http://files/x.minisig", comment=comment, keys=frozenset({public}))


def publish(tmp_path: Path, key: Path, version: str) -> int:
    agent = tarball(tmp_path, name=f"my-agent-{version}.tar.gz")
    www = tmp_path / "www"
    words = ["--to", str(www), "--arch", ARCH, "--url", "http://files", "--desired", str(www / "desired.json")]
    return run(["publish", str(agent), *words, "--minisign-key", str(key)])


def test_what_is_published_verifies_on_a_host(tmp_path: Path, key: Path) -> None:
    assert publish(tmp_path, key, "1.0.0") == 0
    laid = tmp_path / "www" / ARCH / "my-agent-1.0.0.tar.gz"
    signed = check_comment(
        laid.with_name(f"{laid.name}.minisig").read_bytes(), signing(key, f"{ARCH}/my-agent-1.0.0.tar.gz")
    )
    with laid.open("rb") as file:
        check_bytes(signed, file)


def test_each_desired_state_has_a_higher_serial(tmp_path: Path, key: Path) -> None:
    serials = []
    for version in ("1.0.0", "1.0.1", "1.0.2"):  # within one second, probably
        assert publish(tmp_path, key, version) == 0
        desired = tmp_path / "www" / "desired.json"
        signature = desired.with_name("desired.json.minisig").read_bytes()
        comment = parse_signature(signature).comment.decode()
        assert comment.startswith("ops-updater desired desired.json serial=")
        with desired.open("rb") as file:
            check_bytes(check_comment(signature, signing(key, comment)), file)
        serials.append(int(comment.partition("serial=")[2]))
    assert serials == sorted(set(serials))


def test_a_key_that_is_none_publishes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("no key")
    assert publish(tmp_path, tmp_path / "key", "1.0.0") == 1
    assert "minisign could not sign" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "www").rglob("*") if path.is_file()]
