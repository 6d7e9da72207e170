"""A JupyterLab server and notebooks in a headless Chromium: open, run all cells, find what a cell shows.

    with Chromium() as browser, JupyterLab(folder) as lab:
        page = lab.open(browser, "notebook.ipynb")
        run_all(page)

The browser test of the puppet and `puppet_screenshot.py` use it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from chromium import Chromium, Page

PATIENCE = 300.0
"""Seconds until a server that does not answer, or a cell that does not end, counts as hanging."""
QUIET = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
"""The question about news covers a corner of the page."""


class JupyterLab:
    """A server over the notebooks of a folder. It listens on this machine only, and ends with the `with` block.

    Its kernels have the environment of this process. Settings of the user are neither read nor written.
    """

    def __init__(self, folder: str | Path):
        self._own = tempfile.TemporaryDirectory(prefix="raf-lab-", ignore_cleanup_errors=True)
        own, self.token, self.port = Path(self._own.name), secrets.token_hex(16), _free_port()
        (own / "config" / "labconfig").mkdir(parents=True)
        (own / "config" / "labconfig" / "page_config.json").write_text(json.dumps(QUIET), encoding="utf-8")
        places = {name: str(own / name.lower()) for name in ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
        places |= {"JUPYTER_CONFIG_DIR": str(own / "config"), "JUPYTER_RUNTIME_DIR": str(own / "runtime")}
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={Path(folder).resolve()}", "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        self._log = (own / "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            command, env={**os.environ, **places, "JUPYTER_PREFER_ENV_PATH": "1"}, stdout=self._log, stderr=self._log
        )

    def __enter__(self) -> JupyterLab:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={self.token}", timeout=10).close()
                return self
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None or time.monotonic() > end:
                    self._log.seek(0)
                    text = self._log.read()
                    self.close()
                    raise RuntimeError(f"JupyterLab did not start: {text[-2000:]}") from None
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and its kernels."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._own.cleanup()

    def open(self, browser: Chromium, notebook: str, width: int = 1280, height: int = 900) -> Page:
        """Open a notebook alone on the page and return it once its kernel is ready."""
        address = f"http://127.0.0.1:{self.port}/doc/tree/{notebook}?token={self.token}"
        page = browser.open(address, width, height)
        until(page, "window.jupyterapp && jupyterapp.shell.currentWidget?.sessionContext?.isReady")
        until(page, "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'")
        return page


def run_all(page: Page) -> None:
    """Run all cells of the notebook that the page shows; RuntimeError with the text of a cell's error."""
    page.run("window.allRun = false")
    page.run("void jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.allRun = true; })")
    until(page, "window.allRun")
    cells = page.run("JSON.stringify(jupyterapp.shell.currentWidget.content.model.toJSON().cells)")
    outputs = [output for cell in json.loads(cells) for output in cell.get("outputs", [])]
    if errors := [output for output in outputs if output["output_type"] == "error"]:
        raise RuntimeError(f"a cell failed: {errors[0]['ename']}: {errors[0]['evalue']}")


def until(page: Page, condition: str, patience: float = PATIENCE) -> None:
    """Wait until a JavaScript expression is true, longer than `Page.wait` does."""
    end = time.monotonic() + patience
    while True:
        try:
            if page.run(f"Boolean({condition})"):
                return
        except RuntimeError:  # the page is still loading
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"not true within {patience:g} s: {condition}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
