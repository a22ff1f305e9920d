"""The older wire forms and server layouts, each with the real executable: paths, digests, basic auth, https."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until
from tests.loopback import Loopback, Peer, Story
from tests.support.sample_agents import build

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def test_names_and_versions_at_the_limits_of_what_is_allowed(host: Host) -> None:
    """Whatever a name or a version may hold, it goes through URLs, the disk, the command line and the memory."""
    names, versions = ("_", "0", "A+b~c.d-e_F", "n" * 64), ("1.0+x~y-z_", "v" * 64)
    for version in versions:
        for name in names:
            host.publish(version, name)
        host.meta.desire(*(host.meta.agent(name, version) for name in names))
        for _ in range(2):  # the second finds it good
            applied = host.apply()
            assert (applied.code, applied.document["refused"]) == (0, []), applied.out
        assert [host.ask(name).version for name in names] == [version] * len(names)
    held = host.updater("hold", *names, "--reason", "all of them")
    assert (held.code, held.out.count("\n")) == (0, len(names))
    assert {host.status().condition("Ready", name) for name in names} == {("False", "HeldByOperator")}
    assert host.updater("release", *names).code == 0
    for name in names:
        assert host.updater("rollback", name).code == 0
        assert host.ask(name).version == versions[0]
        assert "RolledBack by operator:" in host.updater("history", name).out


def test_an_older_server_sends_no_user_no_folder_and_digest_files(host: Host) -> None:
    host.meta.older()
    host.publish("1.0.0")
    host.desire("1.0.0")

    without = host.apply()
    assert without.code == 3
    [refused] = without.document["refused"]
    assert (refused["reason"], refused["rule"]) == ("InvalidSpec", "work_dir")
    assert "`work_dir`" in refused["message"]

    host.configure(work_dir=str(host.work))
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0"
    assert any(request.path.endswith(".tar.gz.md5") for request in host.meta.requests)
    before = len(host.meta.requests)
    assert host.apply().actions() == ""
    assert [request.path for request in host.meta.requests[before:]] == ["/api/heartbeat"], (
        "what is as desired needs no digest file"
    )


@pytest.mark.parametrize("path", ["/heartbeat", "/api/heartbeat"])
def test_a_full_url_names_the_path(host: Host, path: str) -> None:
    host.configure(server=f"{host.meta.url}{path}")
    host.install("1.0.0")
    beats = {request.path for request in host.meta.requests if request.method == "POST"}
    assert beats == {path}


def test_a_flat_layout_behind_basic_auth(host: Host) -> None:
    host.meta.require_basic_auth("updater", "s3cret pässword")
    host.meta.publish(NAME, "1.0.0", build(NAME, "1.0.0", lifetime=600), layout="flat")
    host.desire("1.0.0", md5="")
    password = host.folder / "password"
    password.write_text("s3cret pässword\n", encoding="utf-8")
    host.configure(
        tarball_layout="{tarball}/{name}-{version}.tar.gz",
        auth={"user": "updater", "password_file": "password"},
    )

    assert host.apply().code == 0

    assert host.ask().version == "1.0.0"
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz"]
    assert "s3cret" not in host.log

    password.write_text("0therw1se")
    refused = host.updater("apply", "--once", "-o", "json")
    assert refused.code == 0
    assert refused.condition("ServerReachable", None) == ("False", "ServerUnreachable")
    assert "401" in refused.out
    assert "0therw1se" not in refused.out + host.log
    assert host.ask().version == "1.0.0"


@pytest.mark.parametrize("form", ["hex", "HEX", "base", "empty", "sha256 alone", "sha256 and hex", "bare digest file"])
def test_the_forms_of_a_digest(host: Host, form: str) -> None:
    host.publish("1.0.0")
    release = host.meta.release(NAME, "1.0.0")
    keys = {
        "hex": {"md5": release.md5},
        "HEX": {"md5": release.md5.upper()},
        "base": {"md5": release.base},
        "empty": {"md5": ""},
        "sha256 alone": {"md5": "", "sha256": release.sha256},
        "sha256 and hex": {"md5": release.md5, "sha256": release.sha256.upper()},
        "bare digest file": {"md5": ""},
    }
    if form == "bare digest file":
        host.meta.serve(release.url.removeprefix(host.meta.url) + ".md5", release.md5.encode())
    host.desire("1.0.0", **keys[form])

    assert host.apply().code == 0

    assert host.ask().version == "1.0.0"
    assert host.apply().actions() == ""


def test_a_digest_file_that_is_missing_or_wrong_is_a_clear_refusal(host: Host) -> None:
    pid = host.install("1.0.0")
    host.meta.publish(NAME, "2.0.0", build(NAME, "2.0.0", lifetime=600), digest_file=False)
    host.desire("2.0.0", md5="")

    missing = host.apply()
    assert (missing.code, missing.condition("Ready")) == (3, ("False", "FetchFailed"))
    assert ".tar.gz.md5" in missing.agent()["held"]["message"]

    url = host.meta.release(NAME, "2.0.0").url
    host.meta.serve(url.removeprefix(host.meta.url) + ".md5", b"<html>not found</html>")
    wrong = host.apply()
    assert (wrong.code, wrong.condition("Ready")) == (3, ("False", "FetchFailed"))
    assert "32 hex digits" in wrong.agent()["held"]["message"]

    host.meta.serve(url.removeprefix(host.meta.url) + ".md5", b"0" * 32)
    other = host.apply()
    assert (other.code, other.condition("Ready")) == (3, ("False", "DigestMismatch"))
    assert host.pid() == pid
    assert host.version() == "1.0.0"


def test_a_desired_file_stands_in_for_the_server(host: Host) -> None:
    host.publish("1.0.0")
    host.meta.answer_raw(500, "never asked")
    desired = host.folder / "desired.json"
    desired.write_text(_answer(host, "1.0.0"))
    host.configure(server=None, desired="desired.json")

    assert host.apply().code == 0

    assert host.ask().version == "1.0.0"
    assert host.meta.heartbeats == []
    desired.write_text("{")
    broken = host.apply()
    assert (broken.code, broken.actions()) == (0, "")
    assert broken.condition("ServerReachable", None) == ("False", "ResponseInvalid")


def _answer(host: Host, version: str) -> str:
    return json.dumps({"errorMessage": "", "desiredAgents": [host.meta.agent(NAME, version)]})


def test_https_with_a_private_authority(host: Host, tmp_path: Path) -> None:
    """Heartbeat, digest file and tarball over TLS; without the CA file nothing is trusted, and nothing touched."""
    trustme = pytest.importorskip("trustme", reason="trustme is among the dev dependencies")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tarball = build(NAME, "1.0.0", lifetime=600)
    host.meta.publish(NAME, "1.0.0", tarball)
    host.desire("1.0.0")

    with Loopback(_relay(host), tls=context) as secure:
        host.configure(server=f"{secure.origin}/heartbeat")
        untrusted = host.updater("apply", "--once")
        assert untrusted.code == 69
        assert "tls.ca_file" in untrusted.err

        host.configure(tls={"ca_file": str(tmp_path / "ca.pem")})
        host.desire("1.0.0", tarball=f"{secure.origin}/releases/{NAME}", md5="")
        result = host.apply()
        assert result.code == 0, result

    assert host.ask().version == "1.0.0"
    paths = [request.line.split()[1].rpartition("/")[2] for request in secure.requests]
    assert {"heartbeat", f"{NAME}-1.0.0.tar.gz.md5", f"{NAME}-1.0.0.tar.gz"} <= set(paths)


def _relay(host: Host) -> Story:
    """A story: ask the plain ops-meta the same, and answer what it says."""

    def respond(peer: Peer) -> None:
        request = peer.request()
        method, path, _ = request.line.split()
        plain = http.client.HTTPConnection(host.meta.server)
        try:
            plain.request(method, path, body=request.body)
            answer = plain.getresponse()
            body = answer.read()
        finally:
            plain.close()
        head = f'HTTP/1.1 {answer.status} Words\r\nContent-Length: {len(body)}\r\nETag: "one"\r\n\r\n'
        peer.send(head.encode() + body)

    return respond


def test_a_password_that_is_gone_is_as_a_server_that_is_gone(host: Host) -> None:
    """What crashed is healed, what needs no password goes on; only what is to run on and on is not begun without it."""
    host.meta.require_basic_auth("updater", "s3cret")
    password = host.folder / "password"
    host.configure(auth={"user": "updater", "password_file": "password"})
    nothing = host.apply()
    assert (nothing.code, "auth.password_file: " in nothing.err) == (69, True)

    password.write_text("s3cret")
    password.chmod(0o600)
    host.install("1.0.0")
    host.settle()
    password.unlink()
    host.crash()
    until(lambda: host.pid() is None, "the agent is gone")
    healed = host.apply()
    assert (healed.code, healed.condition("ServerReachable", None)) == (0, ("False", "ServerUnreachable"))
    assert host.ask().version == "1.0.0"
    for command in (["status"], ["history"], ["hold", NAME, "--reason", "x"], ["release", NAME]):
        assert host.updater(*command).code == 0, command
    for command in (["daemon", "--check"], ["daemon"]):
        assert host.updater(*command).code == 78, command
    assert host.updater("check").code == 3
