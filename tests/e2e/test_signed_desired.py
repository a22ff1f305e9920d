"""A signed desired state with the real executable: what is not signed as this file changes nothing."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from reconcile.decide.desired_serial import desired_comment
from tests.e2e.host import NAME, Completed, Host
from tests.e2e.processes import until
from tests.signer import Signer
from tests.support.sample_agents import build

pytestmark = [pytest.mark.slow, pytest.mark.warm]

OURS, NEXT, STRANGER = Signer(1), Signer(2), Signer(3)
NOW = int(time.time())


def serve(host: Host, version: str, serial: int, signer: Signer = OURS, *, name: str = "desired.json") -> None:
    """Publish a version and a signed desired state that names it."""
    tarball = build(NAME, version, lifetime=600)
    host.meta.publish(NAME, version, tarball, minisig=signer.sign_release(tarball, NAME, version))
    body = json.dumps({"desiredAgents": [host.meta.agent(NAME, version)]}).encode()
    host.meta.serve("/desired.json", body)
    host.meta.serve("/desired.json.minisig", signer.sign(body, desired_comment(name, serial)))


@pytest.fixture
def signed(host: Host) -> Host:
    url = f"{host.meta.url}/desired.json"
    keys = [OURS.public, NEXT.public]
    host.configure(server=None, desired=url, trusted_keys=keys, require_signed_desired=True)
    return host


def install(host: Host, version: str = "1.0.0", serial: int = NOW) -> int:
    serve(host, version, serial)
    applied = host.apply()
    assert (applied.code, applied.document["desired_serial"]) == (0, serial), applied
    host.settle()
    return host.ask().pid


def refused(host: Host, words: str) -> Completed:
    """The old version runs on, the same process, and the reason is logged once."""
    pid = host.pid()
    applied = host.apply()
    assert (applied.code, applied.condition("ServerReachable", None)) == (0, ("False", "SignatureInvalid")), applied
    assert words in applied.out
    assert host.pid() == pid
    return applied


def test_only_what_is_signed_as_this_file_and_is_not_older_changes_anything(signed: Host) -> None:
    install(signed)
    serve(signed, "2.0.0", NOW + 10, STRANGER)
    refused(signed, "which is not among trusted_keys")
    serve(signed, "2.0.0", NOW + 10, name="canary.json")
    refused(signed, "its trusted comment is")
    serve(signed, "2.0.0", NOW - 10)
    refused(signed, f"its serial {NOW - 10} is older than {NOW}")
    serve(signed, "2.0.0", NOW)
    refused(signed, "was accepted with other bytes before")
    serve(signed, "2.0.0", NOW + 100_000)
    planned = signed.plan()
    assert planned.condition("ServerReachable", None) == ("False", "SignatureInvalid")
    assert planned.agent()["desired"]["version"] == "1.0.0"
    signed.crash()
    healed = signed.apply()
    assert (healed.code, signed.ask().version) == (0, "1.0.0"), "a crash is healed whatever is served"
    serve(signed, "2.0.0", NOW + 10)
    assert signed.apply().code == 0
    assert signed.ask().version == "2.0.0"
    assert signed.log.count("ServerReachable is now False (SignatureInvalid)") == 1, "logged once while it lasts"


def test_without_a_memory_an_unsigned_state_is_none(signed: Host) -> None:
    serve(signed, "1.0.0", NOW, STRANGER)
    applied = signed.updater("apply", "--once")
    assert applied.code == 69
    assert "which is not among trusted_keys" in applied.err
    assert signed.updater("check").code == 3


@pytest.mark.parametrize("lost", ["state.db", "desired-serials.json"])
def test_a_lost_memory_takes_no_older_file_as_long_as_one_of_both_is_there(signed: Host, lost: str) -> None:
    install(signed)
    (signed.var / lost).unlink()
    serve(signed, "2.0.0", NOW - 10)
    if lost == "state.db":  # it knows no agent any more, nor does it touch one
        assert signed.updater("apply", "--once").code == 69
    else:
        refused(signed, "is older than")
    assert signed.ask().version == "1.0.0"
    serve(signed, "2.0.0", NOW + 10)
    assert signed.apply().code == 0
    assert signed.ask().version == "2.0.0"
    assert json.loads((signed.var / "desired-serials.json").read_text())[0]["serial"] == NOW + 10


def test_a_key_that_is_no_longer_trusted_is_forgotten(signed: Host) -> None:
    install(signed)
    signed.configure(trusted_keys=[NEXT.public])
    refused(signed, "which is not among trusted_keys")
    serve(signed, "2.0.0", NOW - 20, NEXT)
    assert signed.apply().code == 0
    signed.settle()
    signed.configure(trusted_keys=[OURS.public, NEXT.public])
    serve(signed, "3.0.0", NOW - 30)
    assert signed.apply().code == 0, "its serials were forgotten with it"
    assert signed.ask().version == "3.0.0"


def test_an_operators_file_needs_no_signature_and_offline_uses_what_was_accepted(signed: Host) -> None:
    install(signed)
    tarball = build(NAME, "2.0.0", lifetime=600)
    signed.meta.publish(NAME, "2.0.0", tarball, minisig=OURS.sign_release(tarball, NAME, "2.0.0"))
    own = signed.folder / "own.json"
    own.write_text(json.dumps({"desiredAgents": [signed.meta.agent(NAME, "2.0.0")]}))
    assert signed.apply("--desired", str(own)).code == 0
    assert signed.ask().version == "2.0.0"
    serve(signed, "3.0.0", NOW + 10, STRANGER)
    assert signed.apply("--offline").code == 0
    assert signed.ask().version == "1.0.0", "what was accepted last, signed"


def test_a_local_file_is_verified_as_well(signed: Host) -> None:
    serve(signed, "1.0.0", NOW)
    body = json.dumps({"desiredAgents": [signed.meta.agent(NAME, "1.0.0")]}).encode()
    path = signed.folder / "fleet.json"
    path.write_bytes(body)
    signed.configure(desired="fleet.json")
    assert signed.updater("apply", "--once").code == 69
    path.with_name("fleet.json.minisig").write_bytes(OURS.sign(body, desired_comment("fleet.json", NOW)))
    assert signed.apply().code == 0
    assert signed.ask().version == "1.0.0"


def test_a_polling_daemon_takes_a_signed_change_and_makes_no_pass_for_a_refused_one(signed: Host) -> None:
    serve(signed, "1.0.0", NOW)
    signed.configure(desired_poll=1, interval="30d", log_level="debug")

    def asked(path: str) -> int:
        return sum(request.path == path for request in signed.meta.requests)

    with signed.daemon():
        until(lambda: "1.0.0 is good" in signed.log, "the first version is taken up")
        serve(signed, "2.0.0", NOW - 1)
        signed.wait_for_log("ServerReachable is now False (SignatureInvalid)")
        passes, polls = signed.log.count("next pass in"), asked("/desired.json.minisig")
        until(lambda: asked("/desired.json.minisig") >= polls + 3, "it is asked for again and again")
        assert signed.log.count("next pass in") <= passes + 1
        serve(signed, "2.0.0", NOW + 1)
        until(lambda: signed.version() == "2.0.0", "the repaired one is taken up")
    assert signed.log.count("ServerReachable is now False") == 1


def test_a_config_that_could_not_verify_is_wrong(signed: Host) -> None:
    signed.configure(server="meta:2000")
    both = signed.updater("plan")
    assert (both.code, "a `server` signs nothing" in both.err) == (78, True)
    signed.configure(server=None, trusted_keys=None)
    keyless = signed.updater("plan")
    assert (keyless.code, "needs `trusted_keys`" in keyless.err) == (78, True)
