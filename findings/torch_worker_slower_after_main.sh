#!/usr/bin/env bash
# Versions: torch 2.13.0 for CPUs, with the OpenMP that it brings.
# Input:    a worker thread, as a server that computes apart from its main thread has, runs small
#           operations on all cores. In one process the main thread has run one operation before, in
#           the other none.
# Expected: equal times: the main thread waits and computes nothing.
# Seen:     after that one operation the worker takes over 1.2 times as long, for good (1.4 to 1.7 on
#           two cores with nothing else to do). The main thread's sleeping team counts as threads
#           that want cores, so the worker's no longer wait awake for one another.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" PIP_DISABLE_PIP_VERSION_CHECK=1
unset GOMP_SPINCOUNT OMP_WAIT_POLICY OMP_NUM_THREADS
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 numpy==2.4.6
cat > job.py <<'PY'
import sys
import threading
import time

import torch
from torch.nn.functional import conv2d, silu


def work():
    x, weight = torch.randn(8, 128, 16, 16), torch.randn(128, 128, 3, 3)
    for turn in range(200):
        if turn == 50:
            began = time.perf_counter()
        y = conv2d(x, weight, padding=1)
        for _ in range(20):
            y = silu(y) + 1
        sum(range(20000))  # the work of Python between two operations
    print(time.perf_counter() - began)


if sys.argv[1] == "after":
    silu(torch.randn(8, 128, 16, 16))
worker = threading.Thread(target=work)
worker.start()
worker.join()
PY
least() { for _ in 1 2 3 4 5; do venv/bin/python job.py "$1"; done | sort -g | head -n 1; }
alone="$(least alone)"
after="$(least after)"
echo "alone $alone s, after one operation of the main thread $after s"
awk -v a="$alone" -v b="$after" 'BEGIN { exit !(b > 1.2 * a) }'
