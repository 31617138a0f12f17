"""A real browser for a test: chromium without a window, told what to do over a pair of pipes."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find():
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One page, by Chrome's DevTools protocol: messages in JSON, each ended by a zero byte."""

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.number = 0
        self.session = None

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to_browser.write(json.dumps(message).encode() + b"\0")
        self.to_browser.flush()
        while True:
            answer = json.loads(self.read_message())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def read_message(self):
        data = bytearray()
        while (byte := self.from_browser.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            data += byte
        return data

    def open(self, url):
        if not self.session:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target,
                                     flatten=True)["sessionId"]
        self.call("Page.navigate", url=url)

    def evaluate(self, script):
        """Its value, also where it promises one."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        return result["result"].get("value")

    def wait_for(self, script, wanted, timeout_s):
        """Until wanted(value of the script); returns the value."""
        deadline, value = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            value = self.evaluate(script)
            if wanted(value):
                return value
            time.sleep(0.3)
        raise AssertionError(f"the page does not become what is wanted; last: {value}")

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(program, width=1400, height=900):
    """Yields a Page. As root chromium runs only without its sandbox."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def as_3_and_4():  # where the browser expects them
        spare = os.dup(from_write)
        os.dup2(to_read, 3)
        os.dup2(spare, 4)
        os.set_inheritable(3, True)  # where it was 3 already

    # The browser's helpers may write into it until after its end: what is left is not our failure.
    with tempfile.TemporaryDirectory(prefix="koios-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", f"--user-data-dir={profile}",
             f"--window-size={width},{height}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=as_3_and_4, env=os.environ | {"HOME": profile})
        os.close(to_read)
        os.close(from_write)
        with os.fdopen(to_write, "wb") as sending, os.fdopen(from_read, "rb") as receiving:
            try:
                yield Page(sending, receiving)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                process.kill()
                process.wait()
