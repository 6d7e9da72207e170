"""One notebook executed by papermill, in a process that never outlives the process that started it.

    python -P launch.py notebook PARENT NOTEBOOK COPY OPTIONS    execute NOTEBOOK into COPY (options: see `execute`)
    python -P launch.py kernel PARENT COMMAND...                 become COMMAND, a kernel

On Linux the system kills both the notebook's process and its kernel as soon as process PARENT is gone, even after
SIGKILL. Elsewhere the notebook's process waits in a thread for the end of its parent, and ipykernel does the same.
After SIGTERM (SIGBREAK on Windows) the kernel is interrupted, may save its work, and is shut down.
When the notebook fails, the last line printed that begins with `FAILED` says why.

This file is run by its path, so it works from every folder. It does not import raflib.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import traceback

FAILED = "notebook failed: "
PR_SET_PDEATHSIG = 1
if sys.platform == "win32":
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    """Signals after which the kernel is shut down."""
else:
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_with(parent: int) -> None:
    """Make this process end when process `parent`, which started it, has ended."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    else:
        watch(parent)
    if os.getppid() != parent:  # it ended before we had asked
        raise SystemExit(1)


def watch(parent: int) -> None:
    """End this process once process `parent` has ended, on a system that does not do it. SystemExit if it has."""
    import psutil  # a part of ipykernel's installation

    try:
        process = psutil.Process(parent)
    except psutil.NoSuchProcess:
        raise SystemExit(1) from None

    def wait() -> None:
        process.wait()
        os.kill(os.getpid(), signal.SIGTERM)  # on Windows at once; the kernel ends with this process

    threading.Thread(target=wait, daemon=True).start()


def execute(notebook: str, copy: str, parameters: dict, seconds: int, connection: str) -> int:
    """Execute `notebook` into `copy`; the exit status. A kernel that has not started after `seconds` is a failure.

    `connection` is the file that says where the kernel listens; it is removed in the end.
    """
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError

    class BoundKernelManager(AsyncKernelManager):
        """Starts a kernel that ends with this process."""

        def __init__(self, **options: object) -> None:
            super().__init__(connection_file=connection, **options)

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            command = super().format_kernel_cmd(extra_arguments)
            if sys.platform != "linux":
                return command
            return [sys.executable, "-P", "-S", __file__, "kernel", str(os.getpid()), *command]

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    how = {"progress_bar": False, "log_output": True, "start_timeout": seconds}
    try:
        papermill.execute_notebook(notebook, copy, parameters, kernel_manager_class=BoundKernelManager, **how)
    except papermill.PapermillExecutionError as error:
        print(error, file=sys.stderr)
        why = f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        why = "its kernel died (it was killed, or memory ran out)"
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
    else:
        return 0
    print(FAILED + " ".join(why.split()), file=sys.stderr, flush=True)
    return 1


def _leave(number: int, frame: object) -> None:
    """Raise SystemExit, so that papermill shuts its kernel down, and ignore further signals."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Command line: see the top of this file."""
    what, parent, *rest = arguments
    if what == "kernel":
        end_with(int(parent))
        os.execvp(rest[0], rest)
    for number in STOP_SIGNALS:
        signal.signal(number, _leave)
    end_with(int(parent))
    notebook, copy, options = rest
    return execute(notebook, copy, **json.loads(options))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
