"""The documents say what the code does: reasons, config keys and defaults, exit codes, the tree, links.

Prose is not tested, but every list in it that has a counterpart in the code is.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import reasons_page
from updater.check.check import CHECKS
from updater.commands import completion, context, parser
from updater.output.reasons import REASONS as REASONS_TABLE
from updater.settings.config import Config, ConfigWrong, load
from updater.settings.keys import leaves
from updater.version import VERSION

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGES = ("probes", "reconcile", "updater")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

# The reasons that conditions may have, in this version and in later ones: the interface promises this list.
INTERFACE = (DOCS / "interface.md").read_text(encoding="utf-8")
REASONS = frozenset(re.findall(r"\w+", INTERFACE.partition(" Reasons: ")[2].partition("; each has")[0]))
# What an event of history is called that belongs to no plan; it is no reason of a condition.
NO_REASON = "News"
# A page that names a place on its author's machine was written from it and not for the reader.
PLACES_OF_A_MACHINE = re.compile(r"/(?:(?:root|work)\b|tmp/\w|Users/|home/(?!falcon\b))[\w/]*")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def table(page: str, header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    _, _, rest = page.partition(f"{header}\n")
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# Reasons


def reasons_in_code(*, but: Path) -> set[str]:
    """Every reason that stands as a text of its own in what conditions are made of, except for the table itself."""
    found = set()
    for package in PACKAGES:
        for module in set((ROOT / package).rglob("*.py")) - {but}:
            for node in ast.walk(ast.parse(read(module))):
                if isinstance(node, ast.Constant) and node.value in REASONS:
                    found.add(str(node.value))
    return found


def test_every_reason_that_the_code_can_raise_has_its_row() -> None:
    table = ROOT / "updater/output/reasons.py"
    assert reasons_in_code(but=table) == set(REASONS_TABLE) == REASONS


def test_the_page_of_reasons_is_made_from_the_table() -> None:
    page = read(reasons_page.PAGE)
    assert page == reasons_page.with_list(page), "write it by `python -m tests.reasons_page`"
    headings = re.findall(r"^### (\w+)$", page, flags=re.MULTILINE)
    assert headings == list(REASONS_TABLE)
    assert all(reason.meaning in " ".join(page.split()) for reason in REASONS_TABLE.values())


CASES = [(name, words) for name, reason in REASONS_TABLE.items() for words in reason.cases]


@pytest.mark.parametrize(("name", "words"), CASES)
def test_words_of_a_message_that_the_table_explains_are_said(name: str, words: str) -> None:
    sources = {path: read(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [str(path) for path, text in sources.items() if words in text and path.name != "reasons.py"]


def test_the_code_knows_no_reason_that_the_list_lacks() -> None:
    """Where a reason is set (`reason = "..."`, `reason="..."`) it is one of the list."""
    texts = [read(module) for name in PACKAGES for module in (ROOT / name).rglob("*.py")]
    used = {reason for text in texts for reason in re.findall(r'\breason(?:: \S+)? ?= ?"(\w+)"', text)}
    assert len(used) > 15
    assert used - {NO_REASON} <= REASONS


def test_the_list_of_reasons_was_found() -> None:
    assert len(REASONS) == 45
    assert {"AsDesired", "InternalError"} <= REASONS


# The config


def documented() -> dict[str, str]:
    """Key -> default, as docs/configuration.md has them."""
    rows = table(read(DOCS / "configuration.md"), "| key | default | meaning |")
    return {row[0].strip("`"): row[1] for row in rows}


def test_every_key_is_documented_as_the_table_of_keys_has_it() -> None:
    rows = table(read(DOCS / "configuration.md"), "| key | default | meaning |")
    expected = [
        (f"`{path}`", "none" if key.default is None else f"`{json.dumps(key.default)}`") for path, key in leaves()
    ]
    assert [(row[0], row[1]) for row in rows] == expected
    for row, (_, key) in zip(rows, leaves(), strict=True):
        assert row[2].startswith(key.says), f"{row[0]}: its meaning begins otherwise in updater/settings/keys.py"
        assert len(key.says) > 5


def config_with(folder: Path, key: str, value: object) -> Config:
    """A config that is right, with one more key."""
    (folder / "password").write_text("secret")
    document: dict[str, Any] = {"server": "meta:2000", "auth": {"user": "u", "password_file": "password"}}
    document["fleet_lock"] = {"url": "https://lock.test"}
    outer, _, inner = key.partition(".")
    if inner:
        document.setdefault(outer, {})[inner] = value
    elif key:
        document[outer] = value
    path = folder / "cfg.json"
    path.write_text(json.dumps(document))
    return load(path)


DEFAULTS = {key: default for key, default in documented().items() if default != "none"}


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items(), ids=DEFAULTS.keys())
def test_a_default_that_is_written_out_changes_nothing(key: str, default: str, tmp_path: Path) -> None:
    assert config_with(tmp_path, key, json.loads(default.strip("`"))) == config_with(tmp_path, "", None)


@pytest.mark.parametrize("key", documented())
def test_a_documented_key_is_known(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigWrong) as raised:
        config_with(tmp_path, key, [[1]])
    assert not any("unknown" in error for error in raised.value.errors)
    assert any(error.startswith((f"{key}: ", f"{key}[")) for error in raised.value.errors)


def test_the_example_loads() -> None:
    config = load(ROOT / "cfg.example.json")
    assert (config.server, config.interval, config.hostname) == ("127.0.0.1:2000", 300, None)


def test_the_examples_in_the_text_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```json\n(.*?)```", read(DOCS / "configuration.md"), flags=re.DOTALL)
    configs = [block for block in blocks if "desiredAgents" not in block]
    assert len(configs) == 5
    for name in ("meta.password", "ca.pem"):
        (tmp_path / name).write_text("x")
    for block in configs:
        (tmp_path / "cfg.json").write_text(block.replace("/etc/ssl/private-ca.pem", "ca.pem"))
        load(tmp_path / "cfg.json")


# Exit codes


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    codes = {int(row[0]) for row in table(INTERFACE, "| code | meaning |")}
    assert codes == {
        *(context.OK, context.BROKE, context.CHANGED, context.NOT_AS_DESIRED, context.ROLLED_BACK),
        *(context.USAGE, context.NO_DESIRED_STATE, context.TOOL_MISSING, context.BUSY, context.CONFIG),
    }


def test_every_check_has_its_row() -> None:
    header = "| check | good when | bad | a note |"
    rows = [row[0].strip("`") for row in table(read(DOCS / "operating.md"), header)]
    assert rows == ["config", *(getattr(one, "__name__", "") for one in CHECKS)]


# The README


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_a_readme_says_in_thirty_lines_what_it_is_and_how_to_begin(name: str) -> None:
    """A title, a sentence, the picture of a plan, three commands and one of cron, five promises, the demo."""
    begin = "\n".join(read(ROOT / name).splitlines()[:30])
    order = [
        r"^# ops-updater$",
        r"^ops-updater \S",
        r"^!\[[^\]]*`plan`[^\]]*\]\(docs/pictures/plan\.svg\)$",
        r"^```sh\n\./control setup .*\n\./control plan .*\n\./control start .*\n```$",
        r"^.*`\*/5 \* \* \* \* \S+ -c \S+ apply --once --splay 200`$",
        r"^(- \*\*[^-]+){5}",
        r"`?\./control demo",
    ]
    found = [re.search(pattern, begin, flags=re.MULTILINE) for pattern in order]
    assert None not in found, order[found.index(None)]
    places = [one.start() for one in found if one]
    assert places == sorted(places)
    assert len(re.findall(r"^- \*\*", begin, flags=re.MULTILINE)) == 5


# The tree


def tree() -> set[str]:
    """The paths that the first block of docs/architecture.md draws by indentation."""
    block = read(DOCS / "architecture.md").split("```")[1]
    found, folders = set(), [""]
    for line in block.strip().splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        path = folders[depth] + name
        found.add(path)
        if name.endswith("/"):
            folders[depth + 1 :] = [path]
    return found


def test_the_tree_is_the_real_one() -> None:
    drawn = tree()
    assert [path for path in sorted(drawn) if not (ROOT / path).exists()] == []
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and "demo" not in path.parts
    }
    assert sorted(modules - drawn) == []


def test_where_to_add_something_names_what_is_there() -> None:
    section = read(DOCS / "architecture.md").partition("## Where to add something\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w/]+(?:\.py|/))`", section)
    places = [f"/{path.relative_to(ROOT)}" for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*")]
    assert len(named) > 20
    assert [name for name in named if not any(f"{place}/".endswith(f"/{name.rstrip('/')}/") for place in places)] == []


def test_the_boundaries_that_catch_everything_are_listed() -> None:
    section = read(DOCS / "architecture.md").partition("`except Exception` stands")[2].partition("\n## ")[0]
    listed = re.findall(r"`(\w+/\w+\.py)`", section)
    modules = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "except Exception" in read(path)
    ]
    assert sorted(listed) == sorted(f"{path.parent.name}/{path.name}" for path in modules)


DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))


def test_every_decision_is_listed_once_and_marked_where_it_was_superseded() -> None:
    in_force, _, superseded = read(DOCS / "adr" / "README.md").partition("## Superseded")
    for record in DECISIONS:
        lines = read(record).splitlines()
        entry = f"- [{record.name[:4]}]({record.name}): {lines[0].partition('. ')[2]}"
        there, elsewhere = (superseded, in_force) if "**Superseded**" in lines[2] else (in_force, superseded)
        assert there.count(entry) == 1, f"docs/adr/README.md lacks: {entry}"
        assert f"- [{record.name[:4]}]" not in elsewhere


@pytest.mark.parametrize("record", DECISIONS, ids=lambda path: str(path.stem))
def test_a_decision_says_when_it_would_be_another(record: Path) -> None:
    headings = re.findall(r"^## (.+)$", read(record), flags=re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "What would change our mind"]
    assert 20 <= len(read(record).splitlines()) <= 40


# All pages


def anchors(page: str) -> set[str]:
    """The headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(read(there)), target


# Long pages, and the page at whose top their contents are.
CONTENTS = {
    **{f"{name}.md": "operating.md" for name in ("operating", "steering", "watching", "reasons")},
    **{
        f"{name}.md": f"{name}.md"
        for name in "agents architecture configuration migrating reliability security".split()
    },
    **{f"zh/{name}.md": f"zh/{name}.md" for name in ("agents", "migrating", "operating")},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_each_topic_is_one_jump_away(name: str) -> None:
    """Each heading of the second level has its link in the contents."""
    contents = read(DOCS / CONTENTS[name]).partition("\n## ")[0]
    headings = re.findall(r"^## (.+)$", read(DOCS / name), flags=re.MULTILINE)
    linked = set(re.findall(rf"\]\((?:{Path(name).name})?#([^)]+)\)", contents))
    assert len(headings) > 1
    assert [heading for heading in headings if not anchors(f"# {heading}") & linked] == []


def test_the_index_names_each_page() -> None:
    index = read(DOCS / "README.md")
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert [name for name in sorted(pages) if f"]({name}" not in index] == []
    assert [path.name for path in (DOCS / "zh").iterdir() if f"](zh/{path.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_row_of_a_table_has_the_cells_of_its_header(page: Path) -> None:
    """Else it is shown with a cell too many or too few: a `|` within a cell is written with a backslash before it."""
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    for rows in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()]
        assert re.fullmatch(r"\|(?:---\|)+", rows.splitlines()[1]), rows
        assert set(cells) == {cells[0]}, rows.splitlines()[next(n for n, one in enumerate(cells) if one != cells[0])]


def test_the_pages_that_code_and_messages_name_are_there() -> None:
    files = [path for folder in (*PACKAGES, "contrib") for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    named = {
        (str(path.relative_to(ROOT)), page)
        for path in [*files, ROOT / "control"]
        if path.is_file()
        for page in re.findall(r"docs/[\w/-]+\.md", read(path))
    }
    assert len(named) > 20
    assert [(path, page) for path, page in named if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_place_of_a_machine(page: Path) -> None:
    assert PLACES_OF_A_MACHINE.findall(read(page)) == []
    assert str(ROOT) not in read(page)


def test_the_verbs_that_the_pages_name_are_those_of_control() -> None:
    helped = subprocess.run([ROOT / "control", "help"], check=True, capture_output=True, text=True).stdout
    verbs = set(re.findall(r"^  ([a-z]+)  ", helped, flags=re.MULTILINE))
    commands = completion.words(["updater", ""])
    named = {verb for page in PAGES for verb in re.findall(r"\./control (\w+)", read(page))}
    assert commands is not None
    assert named <= verbs | commands.keys()


FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What is typed, in a line of a block: up to a comment, what it is for, or what the shell makes of the rest.
TYPED = re.compile(r"(?:^|\$ |/)updater (?=[-a-z])((?:(?!  | #| >|`|\)).)+)", re.MULTILINE)
OF_A_PLACEHOLDER = {"S": "200", "T": "10m", "L": "debug", "SECONDS": "200"}


def commands_of(page: str) -> list[list[str]]:
    """What the page lets one type; not what it only hints at, by `...`, `[...]` or `A|B`."""
    typed = [line for block in FENCED.findall(page) for line in TYPED.findall(block)]
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", page)))
    typed += [span.partition(" ")[2] for span in spans if re.match(r"(\S*/)?updater -?\w", span)]
    return [shlex.split(line) for line in typed if not re.search(r"[][|…]|\.\.\.|COMMAND|, ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_lets_one_type_is_understood(page: Path) -> None:
    """One that is only named must be there; one with more words is parsed as the command line does it."""
    for words in commands_of(read(page)):
        more = ["--help"] if len(words) == 1 else []
        with suppress(SystemExit):
            parser.parse([*(OF_A_PLACEHOLDER.get(word, word) for word in words), *more], argparse.Namespace())


def test_commands_are_found_in_the_pages() -> None:
    """Or the test above would prove nothing."""
    assert commands_of("```sh\n.venv/bin/updater plan --fly   # `updater apply`\n```\nor `updater why\nNAME`") == [
        ["plan", "--fly"],
        ["why", "NAME"],
    ]
    found = [words for page in PAGES for words in commands_of(read(page))]
    assert len(found) > 70
    assert {words[0] for words in found} >= {"plan", "apply", "check", "lint", "hold", "completion", "why", "rollback"}


def test_the_changelog_begins_with_the_version() -> None:
    first = re.search(r"^## \[(.+)\] - (unreleased|\d{4}-\d\d-\d\d)$", read(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)
    assert first is not None
    number, _, in_the_making = VERSION.partition(".dev")
    assert first[1] == number
    assert not in_the_making or first[2] == "unreleased"


def test_the_hardened_example_loads(tmp_path: Path) -> None:
    [block] = re.findall(r"```json\n(.*?)```", read(DOCS / "security.md"), flags=re.DOTALL)
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "cfg.json").write_text(block.replace("/etc/ssl/private-ca.pem", "ca.pem"))
    config = load(tmp_path / "cfg.json")
    assert config.trusted_keys is not None
    assert config.require_https
