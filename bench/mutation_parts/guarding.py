"""Guards of the host layer taken out one by one: refusals, and what is put back at the end."""

from __future__ import annotations

from .fault import Fault

GUARDS_TESTS = ("tests/robustness/test_guards.py",)
MISSING = ("tests/nodes/test_missing_embeddings.py",)
HOSTILE = ("tests/robustness/test_hostile.py",)


def _never(what: str, condition: str, tests: tuple[str, ...] = GUARDS_TESTS) -> Fault:
    """The guard's `if` is never true. condition: the line, which stands once in the file."""
    return Fault(what, condition, f"{condition.partition('if ')[0]}if False:", tests)


GUARDING: dict[str, list[Fault]] = {
    "nodes/host/app/complaints.py": [
        Fault(
            "the log is listened to for ever",
            "root.removeHandler(listener)",
            "pass",
            GUARDS_TESTS,
        )
    ],
    "nodes/host/app/demo_model.py": [_never("a missing demo model", "    if not file.exists():")],
    "nodes/host/app/image_folders.py": [
        _never(
            "pictures from anywhere",
            "    if not name.strip() or root not in path.parents or not path.is_dir():",
            HOSTILE,
        )
    ],
    "nodes/host/app/paths.py": [
        Fault(
            "a file that is not there",
            "    if found is None:\n        what =",
            "    if False:\n        what =",
            HOSTILE,
        ),
        Fault(
            "a model file that is not there",
            "    if found is None:\n        raise",
            "    if False:\n        raise",
            HOSTILE,
        ),
    ],
    "nodes/host/app/stock_loaders.py": [
        _never(
            "a listed file that is not there",
            "    if not can_be_path(name) or folder_paths.get_full_path(kind, name) is None:",
            HOSTILE,
        ),
        _never("a checkpoint without CLIP", "    if lacking:"),
    ],
    "nodes/host/app/version.py": [_never("a host that cannot train", "    if not can_train():")],
    "nodes/host/model/at_use.py": [
        _never("edits at use are left out in silence", "    if names:"),
        Fault(
            "an edit among the patches counts as hidden",
            "        and name not in model.patches\n",
            "",
            ("tests/nodes/flow/test_loose.py",),
        ),
        Fault(
            "the host takes the clone without edits for the model with them",
            "    clone.patches_uuid = uuid.uuid4()  #",
            "    #",
            GUARDS_TESTS,
        ),
    ],
    "nodes/host/model/computed.py": [
        _never("a patch that the host left out", "    if complaints:")
    ],
    "nodes/host/network/weight_slot.py": [
        Fault(
            "autograd is given the loader's inference tensors",
            "if torch.is_grad_enabled() and (brought or weight.is_inference()):",
            "if torch.is_grad_enabled() and brought:",
            GUARDS_TESTS,
        )
    ],
    "nodes/host/model/exact.py": [
        _never(
            "a host without functions on weights",
            '    if not hasattr(clone, "add_weight_wrapper"):',
        ),
    ],
    "nodes/host/model/export.py": [
        _never("any model is a UNet", '    if detect_layout(wanted).name != "sd-unet":'),
        _never("weights without a name are left out", "    if missing:"),
        _never("quantised weights are exported", "    if packed:"),
        Fault(
            "the clone stays on the device",
            "        clone.detach()  #",
            "        pass  #",
            GUARDS_TESTS,
        ),
    ],
    "nodes/host/model/extraction.py": [
        _never("patches that move nothing", "    if found.still and not found.deltas:"),
        _never(
            "a tuned model without the base's LoRA",
            "        if len(extra) < len(own) or not all("
            "a is b or _same_patch(a, b) for a, b in kept):",
        ),
        _never("weights of one model only", "    if missing or extra:"),
        _never("other shapes are subtracted", "        if wanted[key] != shape:"),
    ],
    "nodes/host/model/patching.py": [
        Fault(
            "the clone stays in dynamic memory",
            "model.clone(disable_dynamic=True)",
            "model.clone()",
            GUARDS_TESTS,
        ),
        Fault(
            "every failure of a clone is one of dynamic memory",
            '        if "non-dynamic delegate" not in str(refused):',
            "        if False:",
            GUARDS_TESTS,
        ),
    ],
    "nodes/host/model/siblings.py": [_never("a sibling is taken unasked", "    if not allowed:")],
    "nodes/host/model/weights.py": [_never("codes are taken for weights", "    if whole:")],
    "nodes/host/storage/formats.py": [
        _never("several scales for one weight", "    if factor.numel() != 1:"),
        Fault(
            "the host's word on a format that it does not know",
            "except (KeyError, NotImplementedError) as error:",
            "except ZeroDivisionError as error:",
            GUARDS_TESTS,
        ),
    ],
    "nodes/host/storage/view.py": [
        _never(
            "weights that cannot be read are left out",
            "    if view.unreadable and any(key not in view.shapes for key in keys):",
        ),
        Fault(
            "buffers count as patched",
            "elif name in layer._buffers or _has_layers(layer):",
            "elif name in layer._parameters and _has_layers(layer):",
            ("tests/nodes/flow/test_passed_over.py",),
        ),
        Fault(
            "quantised weights are trained",
            "    for key in [*sorted(view.packed), *view.unreadable]:",
            "    for key in []:",
            GUARDS_TESTS,
        ),
    ],
    "nodes/host/text/edits.py": [
        _never("a MODEL's vector on a CLIP", "    if not own:"),
        _never("an encoder whose weights are not edited", "        if others:"),
    ],
    "nodes/host/text/encoder.py": [
        _never("embeddings of another width", "        if found != dict(self.widths()):"),
    ],
    "nodes/host/text/towers.py": [
        _never(
            "a prompt of any length",
            "    if not tower.is_clip and (len(rows) < len(own) or max(map(len, rows)) > longest):",
        ),
    ],
    "nodes/host/text/tokens.py": [_never("embeddings that are missing", "    if names:", MISSING)],
    "nodes/host/training/peak.py": [
        Fault(
            "memory is watched for ever",
            "        done.set()\n        watcher.join()",
            "        pass",
            GUARDS_TESTS,
        )
    ],
    "nodes/host/training/adamw_8bit.py": [
        _never("8-bit moments in a checkpoint", "    if checkpoint_every:")
    ],
}
