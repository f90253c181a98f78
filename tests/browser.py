"""A headless Chromium for tests of pages, driven by the DevTools protocol through pipes."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update")


class Page:
    """A page that is open.

    Attributes:
      requests: addresses that were asked for.
      errors: what was thrown, or logged as an error.
    """

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._number, self._session, self._rest = 0, None, b""
        self._loaded = False
        self.requests, self.errors = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            self._rest += os.read(self._answers, 2**16)
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"])
        elif message.get("method") == "Page.loadEventFired":
            self._loaded = True
        return message

    def open(self, path, width, height=900, dark=False):
        """Opens a file in a window of this size."""
        self._loaded = False
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=path.absolute().as_uri())
        while not self._loaded:
            self._next()

    def run(self, script):
        """The value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def screenshot(self, path, whole=False):
        taken = self.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=whole,
            **({"clip": {"x": 0, "y": 0, "scale": 1, **self._size()}} if whole else {}),
        )
        path.write_bytes(base64.b64decode(taken["data"]))

    def _size(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"width": size["width"], "height": size["height"]}


@contextmanager
def browser(profile):
    """Yields a `Page`; the browser reaches no network, and ends with the block."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    # The protocol's pipes are file descriptors 3 and 4.
    flags = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--remote-debugging-pipe",
        *QUIET,
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", *flags],
        pass_fds=(theirs, ours),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    page = Page(commands, answers)
    try:
        yield page
    finally:
        page._session = None
        page.call("Browser.close")
        process.wait(timeout=30)
        os.close(commands)
        os.close(answers)
