"""A server as a child process: started on a free port, awaited, and ended whatever happens.

Knows nothing of engines (engines.py) or of what is asked of them (load.py).
"""
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Variables that would change what is measured: settings of servers and of thread pools.
FOREIGN = ("SERVING_", "OPTION_", "HF_", "SCONCE_", "LLAMA_ARG_", "VLLM_", "OMP_", "KMP_", "GOMP_",
           "MKL_", "CT2_", "SAGEMAKER_")


class Failure(Exception):
    """A server that cannot be measured, with the reason."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One running server; use it as a context manager."""

    def __init__(self, command, environment, port, cores):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        self.port, self.command = port, [str(word) for word in command]
        self.log = tempfile.NamedTemporaryFile(prefix="peers-", suffix=".log", delete=False)
        self.began = time.perf_counter()
        try:
            # A session of its own, so that its children can be ended with it.
            self.child = subprocess.Popen(
                self.command, env=clean | environment, stdin=subprocess.DEVNULL, stdout=self.log,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores))
        except OSError as error:
            self.forget()
            raise Failure(f"{self.command[0]} does not start: {error.strerror}") from None
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.forget()

    def forget(self):
        self.log.close()
        with contextlib.suppress(OSError):
            os.unlink(self.log.name)

    def check(self):
        """Fails with the end of the log if the server has ended."""
        code = self.child.poll()
        if code is not None:
            raise Failure(f"ended with code {code}: {self.last_words()}")

    def last_words(self, lines=2):
        text = Path(self.log.name).read_text(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in text[-lines:]) or "nothing in its log"

    def stop(self, patience=10):
        """Asks the whole group to end, then makes it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(patience)
                break
        # Children may outlive the parent that was waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def read_into_cache(folder):
    """Reads files once, so that each start finds them in the page cache."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    for path in paths:
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass
