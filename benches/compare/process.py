"""An arm's process, which works only while it is asked.

Between requests its whole process group is stopped (SIGSTOP), so that no pool of threads that waits by spinning
(OpenMP's under PyTorch, rayon's under flowgpu and Burn, a GPU poller) can take a core from whoever is asked. Better
than OMP_WAIT_POLICY=PASSIVE, which would cost PyTorch a system call at each of its parallel loops: every program runs
with the waiting policy that its users have. Where there is no SIGSTOP, pools are left to fall asleep by themselves.
"""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading


class Failed(Exception):
    """No answer; the message says why."""


class Process:
    def __init__(self, command: list[str]):
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        # A group of its own, with all processes that it starts; in this session, so that it ends if we do.
        group = {"process_group": 0} if os.name == "posix" else {}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, **group)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._signal("SIGSTOP")

    def ask(self, request: str, seconds: float) -> dict:
        """The answer to one request. A process that failed is of no more use."""
        self._signal("SIGCONT")
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"no answer to `{request}` in {seconds:.0f} s") from None
        except OSError:
            line = ""
        finally:
            self._signal("SIGSTOP")
        if not line:
            raise Failed(f"ended at `{request}`: {self._last_words()}")
        return json.loads(line)

    def close(self) -> None:
        self._signal("SIGCONT")
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._signal("SIGKILL")
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print too
                self.lines.put(line)
        self.lines.put("")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self.process.poll() is None:
            os.killpg(self.process.pid, getattr(signal, name))

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"
