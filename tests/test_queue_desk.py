from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDS = """
import os, sys, threading
from pathlib import Path
from stoker.queue.desk import Desk
from stoker.queue.journal import Journal

for turn in range(20):
    desk = Desk(Journal(Path(sys.argv[1]) / f"{turn}.sqlite"), lease=5.0, attempts=1)
    begun = threading.Barrier(4)

    def ask(name):
        begun.wait()
        for part in range(10**6):
            desk.put(name, part, "m:f", 0.0, [b""])

    for name in "abc":
        threading.Thread(target=ask, args=(name,), daemon=True).start()
    begun.wait()
    threading.Event().wait(0.02)
    desk.end()
print("ended", flush=True)
os._exit(0)
"""


def test_a_journal_is_not_closed_amid_what_a_thread_asks(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS, tmp_path], capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
