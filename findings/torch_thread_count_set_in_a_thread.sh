#!/usr/bin/env bash
# Versions: torch 2.13.0.
# Input:    a thread, as a server that computes apart from its main one has, that calls
#           torch.set_num_threads(1) for itself before its first operation; the main one has set 3
#           and asked for its number.
# Expected: one of two things. Either the number is the process's: then the main thread has 1 too.
#           Or it is the thread's own: then no other thread hears of it, and it stays 1.
# Seen:     neither. The main thread keeps 3, but threads that start from now on have 1. And when
#           the main thread then sets 2 for itself, the worker, whose call came first, has 2 as
#           well: each thread takes the last number that anyone has set when it first asks, over
#           what it has set itself. Set again after that, its number stays.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import threading

import torch

torch.set_num_threads(3)
assert torch.get_num_threads() == 3
has_set, main_has_set = threading.Event(), threading.Event()
seen = {}


def worker():
    torch.set_num_threads(1)
    has_set.set()
    main_has_set.wait()
    seen["worker, which set 1"] = torch.get_num_threads()
    torch.set_num_threads(1)
    seen["worker, which set 1 again"] = torch.get_num_threads()


def later():
    seen["thread started after that"] = torch.get_num_threads()


first = threading.Thread(target=worker)
first.start()
has_set.wait()
seen["main, which set 3"] = torch.get_num_threads()
second = threading.Thread(target=later)
second.start()
second.join()
torch.set_num_threads(2)
main_has_set.set()
first.join()
print(seen)
assert seen == {
    "main, which set 3": 3,
    "thread started after that": 1,
    "worker, which set 1": 2,
    "worker, which set 1 again": 1,
}, "torch changed"
PY
