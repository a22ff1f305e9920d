"""Mutated responses, digest files and archives, by a seed: nothing comes out but what is expected, and a good entry
beside a spoilt one is served always.

A share of it runs among the tests; whole it is `./control prove hostile`.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import tarfile
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import field, frozen

from reconcile.errors import FetchFailed, ReconcileError, ResponseInvalid
from reconcile.net.remote_files import parse_digest_file
from reconcile.storage.codec import answer_from_json, answer_to_json
from tests.hostile.responses import FALCON, SIBLING_TEXT, serve
from tests.hostile.tarballs import CONTROL_MEMBER, directory, hard, member, soft, tar
from tests.hostile.unpacking import Bench
from updater.sources import wire

SEED = 20161025
_KEPT = 20  # failures that are printed
_PLACES = 50  # directories to unpack into, each used again and again

_VALUES = (
    *("null", "true", "false", "0", "-1", "1e999", "NaN", "-Infinity", "[]", "{}", '""', '" "', '"\\u0000"', '"."'),
    *('"\\ud800"', '"\\udfff\\ud800"', '"../.."', '"/"', '"#0"', '"root"', '"start"', '"stop"', '"http://"', "9" * 400),
    *("[" * 40 + "]" * 40, '{"a":' * 10 + "1" + "}" * 10, '"http://[::1/"', '"http://u:p@h/?q#f"', '"sibling"'),
    *('{"name": "sibling"}', "[null, NaN]", '"\x1b[2J"', '"\x7f"', '"é"', '"\\uD83D\\uDE00"', f'"{"x" * 5000}"'),
)
_BYTES = (b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\n", b"u")
_DIGEST_FILE = b"490ac172dabecc867289079d48e84a66  falcon-agent-5.1.3.tar.gz\n"
_DIGEST_PIECES = (b" ", b"\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"A", b"g", b"\\", b"*", b"\xd9\xa4")


@frozen(kw_only=True)
class Fuzzed:
    """What came of `count` mutants. `ends`: how often each end was met. `failures`: the first of them, as text."""

    count: int
    ends: Counter[str] = field(factory=Counter)
    failures: list[str] = field(factory=list)

    def fail(self, number: int, what: str) -> None:
        if len(self.failures) < _KEPT:
            self.failures.append(f"mutant {number}: {what}")

    def met(self, number: int, work: Callable[[], str]) -> None:
        """Count how it ends. An unexpected exception is what is looked for."""
        try:
            self.ends[work()] += 1
        except Exception:
            self.ends["exception"] += 1
            self.fail(number, traceback.format_exc())

    def reported(self, number: int, text: str) -> None:
        """Hold that what people see is fit for a terminal."""
        if not text.isprintable():
            self.fail(number, f"printed what is not fit for a terminal: {text!r}")

    def __str__(self) -> str:
        ends = ", ".join(f"{end} {count}" for end, count in self.ends.most_common())
        return f"{self.count} mutants: {ends}; {len(self.failures)} failures"


# -- responses --


def responses(count: int, seed: int = SEED) -> Fuzzed:
    """Half of them with a spoilt entry beside a good one, which must be served; half with spoilt bytes anywhere."""
    dice, found = random.Random(seed), Fuzzed(count=count)
    for number in range(count):
        spoilt, look = (_with_spoilt_entry, _beside_a_good_one) if number % 2 else (_with_spoilt_bytes, _whatever_comes)
        found.met(number, partial(look, found, number, spoilt(dice)))
    return found


def _with_spoilt_entry(dice: random.Random) -> bytes:
    """The contract's example with one to four changes of one entry, of values, keys and raw bytes in its strings."""
    pairs = [[json.dumps(key), json.dumps(value)] for key, value in FALCON.items()]
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(pairs))
        match dice.randrange(6):
            case 0 | 1 | 2:
                pairs[at][1] = dice.choice(_VALUES)
            case 3:
                pairs.append([dice.choice(pairs)[0], dice.choice(_VALUES)])
            case 4 if len(pairs) > 1:
                del pairs[at]
            case _:
                pairs[at][1] = json.dumps(_spoilt_text(dice, pairs[at][1]))
    inner = ", ".join(f"{key}: {value}" for key, value in pairs)
    entry = b"{%b}" % inner.encode("utf-8", "surrogatepass")
    if dice.random() < 0.1:
        entry = dice.choice(_VALUES).encode()
    if dice.random() < 0.2:  # bytes that are no text, inside a string
        entry = entry.replace(b'"', b'"\xff', 1)
    both = [entry, SIBLING_TEXT.encode()]
    dice.shuffle(both)
    return b'{"errorMessage": "", "desiredAgents": [%b]}' % b", ".join(both)


def _spoilt_text(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    new = chr(dice.choice([dice.randrange(128), dice.randrange(0x110000), ord("/"), ord("."), 0x202E]))
    return text[:at] + new * dice.choice([1, 1, 1, 70, 3000]) + text[at + dice.randrange(3) :]


def _with_spoilt_bytes(dice: random.Random) -> bytes:
    good = json.dumps(FALCON).encode()
    body = bytearray(b'{"errorMessage": "", "desiredAgents": [%b, %b]}' % (good, SIBLING_TEXT.encode()))
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(body) or 1)
        match dice.randrange(5):
            case 0 if body:
                body[at] ^= 1 << dice.randrange(8)
            case 1:
                body[at : at + dice.randrange(20)] = b""
            case 2:
                body[at:at] = dice.choice(_BYTES) * dice.choice([1, 1, 2, 50])
            case 3:
                body[at:at] = body[dice.randrange(len(body) or 1) :][: dice.randrange(200)]
            case _:
                body[at:] = b"" if dice.random() < 0.2 else body[at:]
    return bytes(body)


def _beside_a_good_one(found: Fuzzed, number: int, body: bytes) -> str:
    """A spoilt entry that has become a second one of the same home takes the good one with it, by the rule one_home;
    JSON of more depth than is read takes the whole answer."""
    try:
        served = serve(body)
    except ResponseInvalid as err:
        if "32 deep" not in err.message:
            found.fail(number, f"one entry spoilt the answer: {err.message}: {body!r}")
        return "refused whole"
    found.reported(number, served.text)
    answer = wire.parse_answer(body, "here")
    if answer_from_json(json.loads(json.dumps(answer_to_json(answer)))) != answer:
        found.fail(number, f"kept as something else: {body!r}")
    if "sibling" in served.agents:
        return "good entry served"
    if "one_home" not in served.rules:
        found.fail(number, f"the good entry is not served: {body!r}")
    return "two entries of one home refused"


def _whatever_comes(found: Fuzzed, number: int, body: bytes) -> str:
    try:
        served = serve(body)
    except ResponseInvalid as err:
        found.reported(number, err.message)
        return "refused whole"
    found.reported(number, served.text)
    return "served" if served.agents else "nothing served"


# -- digest files --


def digest_files(count: int, seed: int = SEED) -> Fuzzed:
    """What `md5sum` prints, spoilt: a digest comes of it only where 32 hex digits are its first word."""
    dice, found = random.Random(seed), Fuzzed(count=count)
    for number in range(count):
        content = bytearray(_DIGEST_FILE)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(content) + 1)
            content[at : at + dice.randrange(4)] = dice.choice(_DIGEST_PIECES) * dice.choice([0, 1, 1, 2, 32])
        found.met(number, partial(_digest, found, number, bytes(content)))
    return found


def _digest(found: Fuzzed, number: int, content: bytes) -> str:
    try:
        digest = parse_digest_file(content, "http://files/x.md5")
    except FetchFailed as err:
        found.reported(number, err.message)
        return "refused"
    first = re.compile(rb"(\xef\xbb\xbf)?\s*%b(\s|$)" % digest.removeprefix("md5:").encode(), re.IGNORECASE)
    if first.match(content) is None:
        found.fail(number, f"{digest} read in {content!r}")
    return "read"


# -- archives --


def archives(count: int, folder: Path, seed: int = SEED) -> Fuzzed:
    """Bytes of the tar inside flipped, or of the gzip around it: unpacked or refused, and nothing outside changed."""
    dice, found = random.Random(seed), Fuzzed(count=count)
    blocks = tar(
        CONTROL_MEMBER,
        member("ö" * 120, b"x" * 600, format=tarfile.PAX_FORMAT, pax={"comment": "a"}),
        member("n" * 150, b"x"),
        soft("l", "control"),
        hard("h", "control"),
        directory("d"),
    )
    for number in range(count):
        place = folder / f"place-{number % _PLACES}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        found.met(number, partial(_unpacked, found, number, _spoilt_archive(dice, blocks), place))
    return found


def _spoilt_archive(dice: random.Random, blocks: bytes) -> bytes:
    mutated = bytearray(blocks)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(mutated))
        mutated[at] = dice.choice([0, 0xFF, ord("/"), ord("."), ord("9"), dice.randrange(256)])
        start = at - at % 512  # right checksums for most, so that more than the first check is met
        if dice.random() < 0.8 and mutated[start + 257 : start + 262] == b"ustar":
            mutated[start + 148 : start + 156] = b" " * 8
            mutated[start + 148 : start + 156] = b"%06o\0 " % sum(mutated[start : start + 512])
    packed = bytearray(gzip.compress(bytes(mutated), 1))
    if dice.random() < 0.1:
        packed[dice.randrange(len(packed))] ^= 1 << dice.randrange(8)
    return bytes(packed)


def _unpacked(found: Fuzzed, number: int, tarball: bytes, place: Path) -> str:
    bench = Bench(place)
    before = bench.outside()
    try:
        bench.unpack(tarball)
        end = "unpacked"
    except ReconcileError as err:
        end = err.reason
        found.reported(number, err.message)
        if len(err.message) > 1500:
            found.fail(number, "said too much")
    if bench.outside() != before:
        found.fail(number, "changed what lay beside it")
    return end
