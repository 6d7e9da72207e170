"""A headless Chromium, driven over two pipes with its DevTools protocol. It needs no package beside Python's own.

    with Chromium() as browser:
        page = browser.open(Path("page.html").absolute().as_uri(), 1280, 800)
        page.press("1")
        page.screenshot("page.png")

The tests of pages and the scripts that make screenshots use it. It needs Linux or macOS.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--no-default-browser-check", "--mute-audio", "--force-color-profile=srgb",
)  # fmt: skip
PATIENCE = 60.0
"""Seconds until an answer of the browser, or a condition of a page, counts as missing."""
KEYS = {"Backspace": 8, "Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
"""Code of each key that has a name."""


def program() -> str | None:
    """Return the path of an installed Chromium or Chrome, None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Chromium:
    """One browser process with an empty profile. It ends with the `with` block."""

    def __init__(self) -> None:
        path = program()
        if os.name != "posix":
            raise RuntimeError("this script needs Linux or macOS: Windows passes no pipes to a browser")
        if path is None:
            raise RuntimeError(f"no Chromium found, expected one of {', '.join(PROGRAMS)} on the path")
        self.events: list[dict[str, Any]] = []
        self._profile = tempfile.TemporaryDirectory(prefix="raf-chromium-", ignore_cleanup_errors=True)
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={self._profile.name}"]
        reads, self._out = _pipe()
        self._in, writes = _pipe()
        # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
        actions = [
            (os.POSIX_SPAWN_DUP2, reads, 3),
            (os.POSIX_SPAWN_DUP2, writes, 4),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        self._process = os.posix_spawn(path, [path, *flags], os.environ, file_actions=actions, setpgroup=0)
        os.close(reads)
        os.close(writes)
        self._rest, self._number = b"", 0

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and remove its profile."""
        with contextlib.suppress(OSError, TimeoutError):
            self.call("Browser.close")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send one command and return its result; events that arrive meanwhile are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser gave no answer within {PATIENCE:g} s")
            data = os.read(self._in, 2**20)
            if not data:
                raise OSError("the browser has ended")
            self._rest += data
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def open(
        self,
        address: str,
        width: int = 1280,
        height: int = 800,
        phone: bool = False,
        dark: bool = False,
        private: bool = False,
    ) -> Page:
        """Open a tab at an address and return it once it has loaded.

        Args:
            address: what to load.
            width, height: of the tab in pixels of the page.
            phone: have a touch screen with two pixels of the screen for one of the page.
            dark: prefer a dark colour scheme.
            private: share no storage with other tabs.
        """
        apart = {"browserContextId": self.call("Target.createBrowserContext")["browserContextId"]} if private else {}
        target = self.call("Target.createTarget", url="about:blank", **apart)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        page.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.go(address)
        return page


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors do not collide with 3 and 4 of the new process."""
    ends = os.pipe()
    import fcntl

    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command to this tab."""
        return self.browser.call(method, self.session, **parameters)

    def go(self, address: str) -> None:
        """Load an address and wait until it has loaded."""
        if error := self.call("Page.navigate", url=address).get("errorText"):
            raise RuntimeError(f"{address}: {error}")
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def reload(self) -> None:
        """Load the page again."""
        self.run("window.isOld = true")
        self.call("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression. RuntimeError where it throws."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self._true(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"not true within {PATIENCE:g} s: {condition}")
            time.sleep(0.01)

    def _true(self, condition: str) -> bool:
        try:
            return self.run(f"Boolean({condition})")
        except RuntimeError:  # the page is being replaced
            return False

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, hold it until it was sent `times` times, and release it."""
        about = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
        text = {"Enter": "\r"}.get(key, key) if len(key) == 1 or key == "Enter" else ""
        for turn in range(times):
            kind = "keyDown" if text else "rawKeyDown"
            self.call("Input.dispatchKeyEvent", type=kind, text=text, autoRepeat=turn > 0, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, selector: str, times: int = 1) -> None:
        """Click `times` times in the middle of an element, which must not be covered by another one."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            "const at = [b.x + b.width / 2, b.y + b.height / 2];"
            "if (!e.contains(document.elementFromPoint(...at))) throw Error('covered'); return at; })()"
        )
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def offline(self, off: bool) -> None:
        """Cut this tab from every network, or connect it again."""
        self.call(
            "Network.emulateNetworkConditions", offline=off, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def errors(self) -> list[str]:
        """Everything that the console showed as an error or warning, and every exception that nothing caught."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            method, about = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(str(about["exceptionDetails"].get("exception", about["exceptionDetails"])))
            elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
            elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                found.append(str([value.get("value") for value in about["args"]]))
        return found

    def screenshot(self, path: str | Path) -> None:
        """Write what the tab shows as a PNG file."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close the tab."""
        self.browser.call("Target.closeTarget", targetId=self.target)
