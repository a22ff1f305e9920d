"""The page in a real Chromium: what is on screen, a failing upgrade seen live, the keyboard, and no script at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser import CHROMEDRIVER, CHROMIUM, ENTER, TAB, Browser
from tests.e2e.host import NAME, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from updater.demo import agent as agents

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="needs Debian's chromium and chromium-driver; `./control test --system` installs them",
    ),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        one = Host(tmp_path, meta, processes)
        one.configure(interval=1, control_timeout={"start": 3}, http={"enabled": True, "listen": "127.0.0.1:0"})
        yield one
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as one:
        yield one


# What the page takes for now from then on.
FIVE_PAST_MIDNIGHT = """
const Real = Date;
window.Date = class extends Real {
  constructor(...words) { super(...(words.length ? words : [2026, 0, 1, 0, 5, 9])); }
};
"""


def test_a_failing_upgrade_is_seen_live(host: Host, browser: Browser) -> None:
    host.install("1.0.0")
    with host.daemon("--now"):
        browser.go(host.local_http())
        browser.wait_for(lambda: "As desired" in browser.text("header"), "all is well")
        assert browser.text("h1") == "liutian-01"
        assert "1.0.0 started" in browser.text(f"#agent-{NAME}")
        browser.run("window.sameDocument = true")

        host.publish("1.1.0", broken_start=True)
        host.desire("1.1.0")
        browser.wait_for(lambda: "Now: start 1.1.0" in browser.text(f"#agent-{NAME}"), "the start is seen")
        assert "At work on falcon-agent" in browser.text("header")
        browser.wait_for(lambda: "Quarantined" in browser.text(f"#agent-{NAME}"), "it was rolled back")
        assert "1.0.0 started" in browser.text(f"#agent-{NAME}")
        assert "1.1.0 was rolled back" in browser.text(f"#agent-{NAME}")
        assert "StartFailed" in browser.text("#history")
        assert browser.run("return document.title").startswith("✕ liutian-01: ")
        assert browser.run("return window.sameDocument") is True  # the page was not loaded again
        assert browser.complaints() == []
    browser.wait_for(lambda: "has not answered since" in browser.text("#silence"), "its silence is shown")
    assert re.search(r"since ([01]\d|2[0-3]):\d\d:\d\d \S+\. ", browser.text("#silence")), "24 hours, with the zone"


def test_the_keyboard_alone_is_enough(host: Host, browser: Browser) -> None:
    host.install("1.0.0")
    with host.daemon("--now"):
        browser.go(host.local_http())
        browser.wait_for(lambda: "As desired" in browser.text("header"), "all is well")
        focused = "return document.activeElement.innerText"
        browser.press(TAB)
        assert browser.run(focused) == "Skip to the agents"
        assert browser.run("return document.activeElement.getBoundingClientRect().left >= 0")
        browser.press(TAB)
        assert browser.run(focused).startswith("Conditions")
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert "Ready" not in browser.text(f"#agent-{NAME}")
        browser.press(ENTER)
        assert "Ready" in browser.text(f"#agent-{NAME}")

        # What one opened stays open, and the focus where it is, while the agent changes under it.
        host.publish("1.1.0")
        host.desire("1.1.0")
        browser.wait_for(lambda: "1.1.0 started" in browser.text(f"#agent-{NAME} .line"), "the upgrade is seen")
        browser.wait_for(lambda: "1.1.0 in use" in browser.text(f"#agent-{NAME}"), "its conditions are open")
        assert browser.run(focused).startswith("Conditions")
        lines = browser.run("return document.querySelectorAll('#history a').length")
        assert lines > 0
        for _ in range(lines):
            browser.press(TAB)
            assert browser.run(focused) == NAME, "each line of history leads to its agent"
        browser.press(TAB + TAB)
        assert browser.run(focused) == "metrics"


def test_trouble_alone_and_from_a_line_of_history_to_its_agent(host: Host, browser: Browser) -> None:
    host.install("1.0.0")
    host.publish("1.1.0")
    host.meta.corrupt(NAME, "1.1.0")
    host.desire("1.1.0")
    with host.daemon("--now"):
        browser.looks(width=390, height=640)
        browser.go(host.local_http())
        browser.wait_for(lambda: "In trouble 1" in browser.text("#agents"), "there is a choice")
        browser.run("document.querySelector('#views a[href*=trouble]').click()")
        browser.wait_for(lambda: browser.run("return location.search") == "?trouble", "the other view")
        browser.run("window.sameDocument = true")
        browser.wait_for(lambda: "BackingOff" in browser.text(f"#agent-{NAME}"), "it is there")
        host.meta.down()  # it is fetched again as the view that it is
        browser.wait_for(lambda: "ServerUnreachable" in browser.text("header"), "it was fetched again")
        assert browser.run("return location.search + window.sameDocument") == "?troubletrue"
        assert browser.run("return document.querySelector('#views [aria-current]').innerText") == "In trouble 1"
        browser.run("document.querySelector('#history a').click()")
        browser.wait_for(lambda: browser.run("return location.hash") == f"#agent-{NAME}", "the agent")
        assert browser.run("return document.querySelector(':target').id") == f"agent-{NAME}"
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        assert browser.complaints() == []


def test_it_is_whole_without_a_script_on_a_narrow_screen_and_in_the_dark(host: Host, browser: Browser) -> None:
    host.install("1.0.0")
    with host.daemon("--now"):
        url = host.local_http()
        until(lambda: "As desired" in httpx.get(url, trust_env=False).text, "the first pass is shown")
        browser.looks(width=360, height=640, dark=True, scripts=False)
        browser.go(url)
        assert browser.text("h1") == "liutian-01"
        assert NAME in browser.text("#agents")
        browser.looks(width=360, height=640, dark=True)
        browser.go(url)
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"
        browser.looks(width=1200)
        browser.go(url)
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 248)"


def test_a_page_of_another_site_gets_nothing(host: Host, browser: Browser, tmp_path: Path) -> None:
    """A file has the origin null, another port of this host is another: what any page that one visits can try."""
    host.install("1.0.0")
    with host.daemon("--now"):
        url = host.local_http()
        browser.go(url)
        other = tmp_path / "other.html"
        other.write_text("<title>other</title>")
        for foreign in (other.as_uri(), f"{host.meta.url}/nothing"):
            browser.go(foreign)
            answered = browser.run(
                """
                const [url] = arguments;
                const tries = ["config/reload", "status", ""].flatMap((path) => [
                  fetch(url + path).then((answer) => answer.text()),
                  fetch(url + path, { mode: "no-cors" }).then((answer) => answer.text()),
                  fetch(url + path, { method: "POST", mode: "no-cors" }).then((answer) => answer.text()),
                ]);
                const image = new Promise((done) => {
                  const one = new Image();
                  one.onload = () => done("loaded");
                  one.onerror = () => done("");
                  one.src = url + "config/reload";
                });
                return Promise.all([...tries, image].map((one) => one.catch(() => "")));
                """,
                url,
            )
            assert answered == [""] * 10
        assert "config read again" not in (host.var / "app.log").read_text()
