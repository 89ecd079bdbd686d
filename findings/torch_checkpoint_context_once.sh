#!/usr/bin/env bash
# Versions: torch 2.13.0 (CPU).
# Input:    torch.utils.checkpoint with use_reentrant=False and a `context_fn` that gives two context
#           managers made by contextlib.contextmanager, as its documentation asks for context
#           managers; then two backward passes over one graph, the first with retain_graph=True.
# Expected: the block is computed again in each backward pass, as it is without `context_fn`.
# Seen:     `context_fn` is called once, in the forward pass, and the one context that it gave for
#           recomputing is entered at every recomputation. A generator's can be entered once: the
#           second backward pass dies with "AttributeError: '_GeneratorContextManager' object has no
#           attribute 'args'", which names neither the checkpoint nor the context. With a context that
#           opens anew at each entry both passes give the same gradient.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0
venv/bin/python - <<'PY'
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch.utils.checkpoint import checkpoint

entered = []


@contextmanager
def noted():
    entered.append(1)
    yield


class Anew(ExitStack):
    def __enter__(self):
        self.enter_context(noted())
        return self


def gradients(context_fn=None):
    """Of two backward passes over one graph."""
    weight = torch.full((3, 3), 0.1, requires_grad=True)

    def block(x):
        return torch.tanh(x @ weight).square()

    options = {} if context_fn is None else {"context_fn": context_fn}
    loss = checkpoint(block, torch.ones(2, 3), use_reentrant=False, **options).sum()
    found = []
    for again in (True, False):
        loss.backward(retain_graph=again)
        found.append(weight.grad.clone())
        weight.grad = None
    return found


plain = gradients()
assert torch.equal(*plain)
opened = gradients(lambda: (nullcontext(), Anew()))
assert len(entered) == 2, entered
assert all(map(torch.equal, plain, opened))
try:
    gradients(lambda: (nullcontext(), noted()))
except AttributeError as error:
    print("the second backward pass:", error)
    assert "'_GeneratorContextManager' object has no attribute 'args'" in str(error)
else:
    raise AssertionError("a generator's context was entered twice")
PY
