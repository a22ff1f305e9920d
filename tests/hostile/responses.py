"""Responses of a server that is broken, careless or hostile: refused as a whole, or one entry of them, and then the
good entry beside it is served all the same."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

from attrs import frozen

from reconcile.decide.desired import DesiredAgent
from reconcile.decide.policy.accept import accept
from reconcile.decide.policy.inputs import Lookups, Policy
from reconcile.errors import ResponseInvalid
from reconcile.source import Answer
from tests.hostile.case import Case, Seen
from updater.sources.wire import parse_answer

WORK = "/home/falcon/open-falcon"
FALCON = {
    "name": "falcon-agent",
    "version": "5.1.3",
    "tarball": "http://11.11.11.11:8888/releases/falcon",
    "md5": "490ac172dabecc867289079d48e84a66",
    "cmd": "start",
    "workDir": WORK,
    "configFileName": "cfg.json",
    "configRemoteUrl": "http://11.11.11.11:8888/falcon/conf/falcon-agent-cfg.json",
}
DELIVERED = "configured"  # this agent was given a remote config before
SIBLING = {**FALCON, "name": "sibling"}
SIBLING_TEXT = json.dumps(SIBLING)
POLICY = Policy(own_user="falcon", own_folders=("/opt/ops-updater",), arch="linux_amd64")


@frozen(kw_only=True)
class Served:
    """What comes of a response. `meant`: what is made of each entry that is served. `text`: all that people see
    of those that are refused."""

    agents: tuple[str, ...]
    meant: tuple[str, ...]
    rules: tuple[str, ...]
    text: str


def serve(body: bytes) -> Served:
    """Take a response as a pass does: read it, and let this host's policy judge. Raise ResponseInvalid."""
    answer: Answer = parse_answer(body, "http://meta:2000/api/heartbeat")
    desired = accept(answer, POLICY, Lookups(delivered=frozenset({DELIVERED})))
    return Served(
        agents=tuple(agent.name for agent in desired.agents),
        meant=tuple(map(_meant, desired.agents)),
        rules=tuple(refusal.rule for refusal in desired.refused),
        text="; ".join(f"{refusal.name}: {refusal.message}" for refusal in desired.refused),
    )


def _meant(agent: DesiredAgent) -> str:
    digests = "" if agent.artifact is None else " ".join(digest.hex for digest in agent.artifact.digests)
    config = "no config" if agent.config is None else f"config {agent.config.name}"
    return f"{agent.name}: {agent.run.value} {agent.version} in {agent.work_dir}, digest {digests}, {config}"


def _answered(body: bytes, folder: Path) -> Seen:
    del folder  # nothing is written
    try:
        served = serve(body)
    except ResponseInvalid as err:
        return Seen(end="ResponseInvalid", said=err.message, breach="" if len(err.message) < 500 else "said too much")
    if not served.rules:
        return Seen(end=f"served {len(served.agents)}", said="; ".join(served.meant))
    sibling = "sibling served" if "sibling" in served.agents else "sibling not served"
    return Seen(end=f"refused by {' '.join(served.rules)}, {sibling}", said=served.text)


def entry(**keys: object) -> str:
    return json.dumps({**FALCON, **keys})


# A whole response: (its bytes, what people see)
WHOLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "nothing"),
    "white space": (b" \n", "nothing"),
    "400's plain text with a 200": (b"body is blank", "body is blank"),
    "a page of a proxy": (b"<html><body>Bad Gateway", "of a proxy"),
    "a page with escapes": (b"<html>\x1b[31m\x1b]0;owned\x07", r"\\x1b\[31m"),
    "success is false": (b'{"success": false, "message": "no such host"}', "no such host"),
    "success is false, and agents beside it": (b'{"success": false, "message": "no", "desiredAgents": []}', "no"),
    "an error message, and agents beside it": (
        b'{"errorMessage": "db is down", "desiredAgents": [%b]}' % SIBLING_TEXT.encode(),
        "db is down",
    ),
    "an error message that forges lines": (b'{"errorMessage": "x\\n2026-01-01 INFO all is well"}', "x 2026"),
    "an error message that is a number": (b'{"errorMessage": 0, "desiredAgents": []}', "not a string"),
    "an error message that is an object": (b'{"errorMessage": {"a": 1}, "desiredAgents": []}', "not a string"),
    "an error message of a megabyte": (b'{"errorMessage": "%b"}' % (b"x" * 1_000_000), "xxx"),
    "no agents at all": (b"{}", "without the key desiredAgents"),
    "the key in another case": (b'{"DesiredAgents": []}', "Found the keys: DesiredAgents"),
    "agents in an object": (b'{"desiredAgents": {"0": {}}}', "an object, expected a list"),
    "agents in a string": (b'{"desiredAgents": "[]"}', "a string, expected a list"),
    "agents are false": (b'{"desiredAgents": false}', "true or false"),
    "agents are zero": (b'{"desiredAgents": 0}', "a number"),
    "agents are NaN": (b'{"desiredAgents": NaN}', "NaN"),
    "agents twice": (b'{"desiredAgents": [], "desiredAgents": [%b]}' % SIBLING_TEXT.encode(), "twice"),
    "an error message twice": (b'{"errorMessage": "", "errorMessage": "x", "desiredAgents": []}', "twice"),
    "something behind the end": (b'{"desiredAgents": []} {}', "not JSON"),
    "cut short": (b'{"desiredAgents": [', "not JSON"),
    "cut short in a string": (b'{"desiredAgents": [{"name": "fal', "not JSON"),
    "single quotes": (b"{'desiredAgents': []}", "not JSON"),
    "a comma too many": (b'{"desiredAgents": [],}', "not JSON"),
    "a comment": (b'{"desiredAgents": [] /* none */}', "not JSON"),
    "bytes where a value belongs": (b'{"desiredAgents": [\xff\xfe]}', "not JSON"),
    "UTF-16": ('{"desiredAgents": []}'.encode("utf-16"), "not JSON"),
    "NULs": (b"\0" * 1000, "not JSON"),
    "a list": (b"[]", "a list, expected a JSON object"),
    "null": (b"null", "null, expected"),
    "a string": (b'"desiredAgents"', "a string, expected"),
    "a number of 100,000 digits": (b"9" * 100_000, "digits"),
    "a number of 100,000 digits as a value": (b'{"desiredAgents": [], "x": %b}' % (b"9" * 100_000), "digits"),
    "100,000 lists deep": (b"[" * 100_000, "32 deep"),
    "100,000 objects deep": (b'{"a":' * 100_000, "32 deep"),
    "33 deep beside good agents": (
        b'{"desiredAgents": [%b], "x": %b%b}' % (SIBLING_TEXT.encode(), b"[" * 33, b"]" * 33),
        "32 deep",
    ),
    "more agents than anybody has": (b'{"desiredAgents": [' + b"{}," * 400 + b"{}]}", "401 agents"),
    "half a million zeros": (b'{"desiredAgents": [' + b"0," * 500_000 + b"0]}", "values"),
    "a hundred thousand keys": (
        b'{"desiredAgents": [], %b}' % b",".join(b'"%d":0' % number for number in range(100_000)),
        "values",
    ),
    "a million empty lists": (b'{"desiredAgents": [' + b"[]," * 340_000 + b"[]]}", "objects and lists"),
}


def raw_entry(pair: str) -> str:
    """The contract's entry with one more key, as raw JSON."""
    return f"{entry()[:-1]}, {pair}}}"


# One entry, as raw JSON, beside a good one: (the entry, the rule that refuses it, what people see)
ENTRY: dict[str, tuple[str | bytes, str, str]] = {
    "an entry that is null": ("null", "form", "found null"),
    "an entry that is a string": ('"falcon-agent"', "form", "found a string"),
    "an entry that is a list": ("[1, 2]", "form", "found a list"),
    "an entry that is NaN": ("NaN", "form", "NaN is not JSON"),
    "an entry of nothing": ("{}", "form", "name: missing"),
    "a name that is a number": (entry(name=7), "form", "name: expected a string"),
    "a version that is a number": (entry(version=1.0), "form", "version: expected a string"),
    "a version that is an object": (entry(version={"$gt": ""}), "form", "version: expected a string"),
    "a cmd that is a list": (entry(cmd=["start"]), "form", "cmd: expected a string"),
    "a digest that is true": (entry(md5=True), "form", "md5: expected a string"),
    "a user that is zero": (entry(runUser=0), "form", "runUser: expected a string"),
    "an unknown key that is NaN": (raw_entry('"x": {"y": [NaN]}'), "form", "x: .*NaN is not JSON"),
    "an unknown key with an endless number": (raw_entry(f'"x": -{"1" * 9000}'), "form", "x: a number of 9001 digits"),
    "a key twice": ('{"name": "a", "cmd": "start", "cmd": "stop"}', "form", "stands twice"),
    "its name twice": ('{"name": "a", "name": "b"}', "form", "stands twice"),
    "a NUL in a path": (entry(workDir="/home/x\0/etc"), "form", r"U\+0000"),
    "a line feed inside a cmd": (entry(cmd="sta\nrt"), "form", r"cmd: the character U\+000A"),
    "a line feed after a name": (entry(name="falcon-agent\n"), "form", r"name: the character U\+000A"),
    "a version that has lost its zero": (entry(version=1.1), "form", "version: expected a string.*1\\.10 is 1\\.1"),
    "a raw control character": ('{"name": "a\x1b[2J"}', "form", r"U\+001B"),
    "half of a surrogate pair": ('{"name": "a\\ud800"}', "form", r"U\+D800"),
    "halves in the wrong order": ('{"name": "\\udc00\\ud800"}', "form", r"U\+DC00"),
    "bytes that are no UTF-8": (b'{"name": "a", "workDir": "/home/\xff"}', "form", r"U\+DCFF"),
    "overlong UTF-8": (b'{"name": "a", "workDir": "/home\xc0\xaf"}', "form", r"U\+DCC0"),
    "a value of 5,000 characters": (entry(version="1" * 5000), "form", "5000 characters"),
    "a name that climbs": (entry(name="../../etc"), "name", "not allowed"),
    "a name that is the parent": (entry(name=".."), "name", "not allowed"),
    "a name of one dot": (entry(name="."), "name", "not allowed"),
    "a hidden name": (entry(name=".stage-1"), "name", "not allowed"),
    "a name like an option": (entry(name="-rf"), "name", "not allowed"),
    "a name for a shell": (entry(name="a;reboot"), "name", "not allowed"),
    "a name in other letters": (entry(name="fаlcon"), "name", "not allowed"),  # noqa: RUF001 - Cyrillic, on purpose
    "a name of 65 letters": (entry(name="n" * 65), "name", "not allowed"),
    "a version that climbs": (entry(version="1/../../.."), "version", "not allowed"),
    "a version with dots": (entry(version="1..2"), "version", "not allowed"),
    "an empty version": (entry(version=""), "version", "empty"),
    "an unknown cmd": (entry(cmd="restart"), "cmd", "unknown"),
    "an unknown cmd in capitals": (entry(cmd="RESTART"), "cmd", "unknown"),
    "two words as a cmd": (entry(cmd="start stop"), "cmd", "unknown"),
    "root by its number": (entry(runUser="#0"), "run_user", "runUser '#0' can't be a user"),
    "root by digits alone": (entry(runUser="0"), "run_user", "runUser '0' can't be a user"),
    "an option for sudo": (entry(runUser="-i"), "run_user", "runUser '-i' can't be a user"),
    "a relative workDir": (entry(workDir="open-falcon"), "work_dir", "not absolute"),
    "a workDir of two slashes": (entry(workDir="//home/falcon"), "work_dir", "not normalised"),
    "a workDir of a home's sign": (entry(workDir="~/agents"), "work_dir", "not absolute"),
    "a workDir of a variable": (entry(workDir="$HOME/agents"), "work_dir", "not absolute"),
    "a workDir with slashes amid": (entry(workDir="/home//falcon"), "work_dir", "not normalised"),
    "a workDir with a dot amid": (entry(workDir="/home/./falcon"), "work_dir", "not normalised"),
    "a workDir that is too long": (entry(workDir="/home" + "/x" * 600), "work_dir", "too long"),
    "a workDir that climbs": (entry(workDir="/home/falcon/../../etc"), "work_dir", "not normalised"),
    "the root as workDir": (entry(workDir="/"), "work_dir", "system directory"),
    "a workDir in /etc": (entry(workDir="/etc/cron.d"), "work_dir", "system directory"),
    "a workDir in /proc": (entry(workDir="/proc/self/cwd"), "work_dir", "system directory"),
    "a workDir that turns text around": (entry(workDir="/home/\u202egnp"), "work_dir", "not normalised"),
    "our own folder": (entry(name="ops-updater", workDir="/opt"), "own_folder", "own folder"),
    "an agent inside our folder": (entry(name="var", workDir="/opt/ops-updater"), "own_folder", "own folder"),
    "no tarball": (entry(tarball=""), "tarball", "empty"),
    "a tarball that is a file": (entry(tarball="file:///etc/shadow"), "tarball", "no known form"),
    "a tarball by ftp": (entry(tarball="ftp://host/x"), "tarball", "no known form"),
    "a tarball without a host": (entry(tarball="http:///x"), "tarball", "no known form"),
    "a tarball with a blank": (entry(tarball="http://h/a b"), "tarball", "no known form"),
    "a tarball of three kilobytes": (entry(tarball="http://h/" + "a" * 3000), "tarball", "no known form"),
    "a digest of 31 digits": (entry(md5="4" * 31), "md5", "no known form"),
    "a digest in other digits": (entry(md5="\u0664" * 32), "md5", "no known form"),
    "a sha256 of 32 digits": (entry(sha256="4" * 32), "sha256", "64 hex digits"),
    "a config that climbs": (
        entry(configFileName="../../.ssh/authorized_keys"),
        "config_file_name",
        "none of them '..'",
    ),
    "a config that climbs on its way": (entry(configFileName="a/../../b"), "config_file_name", "none of them '..'"),
    "a config at an absolute path": (entry(configFileName="/etc/shadow"), "config_file_name", "below the version's"),
    "a config over control": (entry(configFileName="control"), "config_file_name", "'control' is not allowed"),
    "a config over control by ./": (
        entry(configFileName="./control"),
        "config_file_name",
        "'./control' is not allowed",
    ),
    "a config over our marker": (entry(configFileName=".ops-updater.json"), "config_file_name", "json' is not allowed"),
    "a config with escapes": (entry(configFileName="a\u202eb"), "config_file_name", "control characters"),
    "a config from a file": (entry(configRemoteUrl="file:///etc/shadow"), "config_remote_url", "not an http"),
    "no URL for a config that was delivered": (entry(name=DELIVERED, configRemoteUrl=""), "config", "go together"),
    "no name for a config that was delivered": (entry(name=DELIVERED, configFileName=""), "config", "go together"),
    "two entries for one home": (f"{entry()}, {entry(version='9')}", "one_home one_home", "must send one"),
}

# Forms of the field whose meaning is beyond doubt, beside a good entry: (the entry, what is made of it)
READ: dict[str, tuple[str, str]] = {
    "a cmd in capitals": (entry(cmd="START"), "falcon-agent: start 5.1.3"),
    "a stop in capitals": (entry(cmd="Stop"), "falcon-agent: stop"),
    "a line feed after a cmd": (entry(cmd="start\n"), "falcon-agent: start 5.1.3"),
    "line ends of Windows after values": (
        entry(cmd="stop\r\n", version="5.1.3\r\n", workDir=f"{WORK}\r\n"),
        f"falcon-agent: stop 5.1.3 in {WORK},",
    ),
    "blanks around a version": (entry(version=" 5.1.4\t"), "falcon-agent: start 5.1.4 in"),
    "a version that is an integer": (entry(version=20161025), "falcon-agent: start 20161025 in"),
    "a line of md5sum as digest": (entry(md5=f"{FALCON['md5']}  x.tar.gz\n"), f"digest {FALCON['md5']}, config cfg"),
    "a config's URL alone": (entry(configFileName=""), f"digest {FALCON['md5']}, no config"),
    "a config's name alone": (entry(configRemoteUrl=""), f"digest {FALCON['md5']}, no config"),
    "a config in a folder": (entry(configFileName="./config/cfg.json"), "config config/cfg.json"),
    "stop, and an unknown key that is NaN": (
        '{"name": "a", "cmd": "stop", "workDir": "/home/x", "x": [NaN]}',
        "a: stop  in /home/x",
    ),
    "stop, and a digest that is none": (entry(cmd="stop", md5="none yet"), "falcon-agent: stop 5.1.3"),
}

# Look-alikes, which must be served: (the body, how many agents)
BENIGN: dict[str, tuple[bytes, int]] = {
    "the contract's example": (b'{"errorMessage": "", "desiredAgents": [%b]}' % entry().encode(), 1),
    "null for agents": (b'{"errorMessage": "", "desiredAgents": null}', 0),
    "null for the error message": (b'{"errorMessage": null, "desiredAgents": []}', 0),
    "success is true": (b'{"success": true, "desiredAgents": []}', 0),
    "a byte order mark": (b'\xef\xbb\xbf{"desiredAgents": []}', 0),
    "line ends of Windows": (b'{\r\n"desiredAgents": []\r\n}\r\n', 0),
    "unknown keys, deep ones too": (
        b'{"desiredAgents": [%b], "x": %b%b}' % (SIBLING_TEXT.encode(), b"[" * 31, b"]" * 31),
        1,
    ),
    "brackets in a string": (b'{"desiredAgents": [%b]}' % entry(colour="[{," * 20_000 + '"\\').encode(), 1),
    "a surrogate pair in an unknown key": (
        b'{"desiredAgents": [%b], "x": "\\ud83d\\ude00"}' % SIBLING_TEXT.encode(),
        1,
    ),
    "a huge exponent in an unknown key": (b'{"desiredAgents": [%b], "x": 1e999}' % SIBLING_TEXT.encode(), 1),
    "what older servers leave empty": (
        b'{"desiredAgents": [%b]}' % entry(md5="", runUser="", configFileName="", configRemoteUrl="").encode(),
        1,
    ),
    "stop with nothing else": (
        b'{"desiredAgents": [{"name": "a", "cmd": "stop", "workDir": "/home/x", "tarball": "", "version": ""}]}',
        1,
    ),
    "no cmd": (b'{"desiredAgents": [{"name": "a", "workDir": "/home/x"}]}', 1),
    "names of every kind of letter": (b'{"desiredAgents": [%b]}' % entry(name="_A.b+c~d-9").encode(), 1),
    "a version with a plus": (b'{"desiredAgents": [%b]}' % entry(version="5.1.3+git.2~rc1").encode(), 1),
    "a digest in capitals": (b'{"desiredAgents": [%b]}' % entry(md5="490AC172DABECC867289079D48E84A66").encode(), 1),
    "a workDir with a slash behind": (b'{"desiredAgents": [%b]}' % entry(workDir=f"{WORK}/").encode(), 1),
    "a workDir in another script": (b'{"desiredAgents": [%b]}' % entry(workDir="/home/größe").encode(), 1),
    "two agents of one workDir": (b'{"desiredAgents": [%b, %b]}' % (entry().encode(), SIBLING_TEXT.encode()), 2),
    "four hundred agents": (
        b'{"desiredAgents": [%b]}' % ", ".join(entry(name=f"a{number}") for number in range(400)).encode(),
        400,
    ),
}


def cases() -> list[Case]:
    """Each is read in this process, by the code that a pass runs."""
    found = [
        Case(group="response", name=name, expected="ResponseInvalid", says=says, observe=partial(_answered, body))
        for name, (body, says) in WHOLE.items()
    ]
    for name, (raw, rule, says) in ENTRY.items():
        body = b'{"desiredAgents": [%b, %b]}' % (raw if isinstance(raw, bytes) else raw.encode(), SIBLING_TEXT.encode())
        expected = f"refused by {rule}, sibling served"
        found.append(Case(group="response", name=name, expected=expected, says=says, observe=partial(_answered, body)))
    for name, (form, meant) in READ.items():
        body = b'{"desiredAgents": [%b, %b]}' % (form.encode(), SIBLING_TEXT.encode())
        observe = partial(_answered, body)
        found.append(
            Case(group="response", name=name, expected="served 2", says=re.escape(meant), benign=True, observe=observe)
        )
    for name, (body, count) in BENIGN.items():
        found.append(
            Case(group="response", name=name, expected=f"served {count}", benign=True, observe=partial(_answered, body))
        )
    return found
