"""A real Chromium without a screen, driven over the WebDriver protocol through Debian's chromedriver.

It goes nowhere but where a test sends it: its own errands to the network are switched off, and each has a new profile.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

CHROMIUM, CHROMEDRIVER = (
    shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin") for name in ("chromium", "chromedriver")
)
LIMIT_S = 60.0
TAB, ENTER, SHIFT = "\ue004", "\ue007", "\ue008"

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --force-color-profile=srgb"
)


class Browser:
    """One browser with one tab, from `with` to its end. `profile`: a new folder for its files."""

    def __init__(self, profile: Path, *, flags: str = "") -> None:
        self._profile = profile
        self._flags = flags
        self._driver: subprocess.Popen[str] | None = None
        self._http = httpx.Client(timeout=LIMIT_S, trust_env=False)
        self._session = ""

    def __enter__(self) -> Browser:
        assert CHROMEDRIVER is not None
        self._driver = subprocess.Popen(
            [CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            options = {
                "binary": CHROMIUM,
                "args": [*_FLAGS.split(), *self._flags.split(), f"--user-data-dir={self._profile}"],
            }
            capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
            created = self._ask("POST", "/session", {"capabilities": capabilities})
            self._session = f"/session/{created['sessionId']}"
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(httpx.HTTPError):
            self._ask("DELETE", self._session)
        self._end()

    def _end(self) -> None:
        assert self._driver is not None
        self._driver.terminate()
        self._driver.communicate(timeout=LIMIT_S)
        self._http.close()

    def _port(self) -> int:
        assert self._driver is not None
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if match := re.search(r"started successfully on port (\d+)", line):
                return int(match[1])
        raise AssertionError("chromedriver ended before it listened")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self._http.request(method, self._base + path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
        return value

    # What a person does

    def go(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def press(self, keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    # What a person sees

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body returns, run in the page."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str = "body") -> str:
        """What is on the screen of an element, as a person would read it; empty where there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: it did not come so far; on screen:\n{self.text()}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the browser's console says since it was asked last: blocked things, errors of scripts."""
        entries = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries]

    def devtools(self, command: str, **parameters: Any) -> Any:
        body = {"cmd": command, "params": parameters}
        return self._ask("POST", f"{self._session}/goog/cdp/execute", body)

    def looks(self, *, width: int = 1200, height: int = 800, dark: bool = False, scripts: bool = True) -> None:
        """The screen and the wishes of the person before it. Without scripts from the next page on."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self.devtools("Emulation.setScriptExecutionDisabled", value=not scripts)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG, also what lies below the screen's edge."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
