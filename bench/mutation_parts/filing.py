"""Faults in files of vectors and in what reads and writes them."""

from __future__ import annotations

from .fault import Fault

HOSTILE = "tests/robustness/test_hostile.py"

FILING: dict[str, list[Fault]] = {
    "tverase_core/files/extract.py": [
        Fault(
            "base minus tuned",
            "return new.to(torch.float32) - old.to(torch.float32)",
            "return old.to(torch.float32) - new.to(torch.float32)",
        ),
        Fault(
            "a pruned file's vector is not marked",
            "content = PRUNED if self.only_prunes(keys) else provenance.content",
            "content = provenance.content",
        ),
        Fault(
            "only the first piece is asked for zeros",
            "        return all(only_prunes(_difference(old, new), new) for old, new in both)",
            "        return next(only_prunes(_difference(old, new), new) for old, new in both)",
        ),
        Fault(
            "files of unlike precision are not told",
            "                if self.unlike:\n",
            "                if False:\n",
        ),
        Fault(
            "swapped models are taken",
            "if names & set(_parents(key, text)) or hashes & words:",
            "if hashes & words:",
        ),
        Fault(
            "a difference after the first look is not seen",
            "for part in parts):",
            "for part in list(parts)[:1]):",
        ),
        Fault(
            "a file that changed while it was read is not noticed",
            "            self.new.check_unchanged()\n",
            "",
        ),
        Fault(
            "a broken weight is written",
            "                check_finite(piece, f",
            "                str(f",
        ),
    ],
    "tverase_core/files/lora/extract.py": [
        Fault(
            "what rounding took is not told",
            "self.lost += float((exact",
            "self.lost += 0 * float((exact",
        ),
    ],
    "tverase_core/files/lora/product.py": [
        Fault(
            "a middle factor is multiplied out unseen",
            "fits = fits and down[0].numel() * math.prod(mid.shape[2:]) == math.prod(shape[1:])",
            "pass",
            (HOSTILE,),
        ),
        Fault(
            "alpha is left out",
            'up = up * (float(parts["alpha"]) / down.shape[0])',
            'up = up * (float(parts["alpha"]) / float(parts["alpha"]))',
        ),
    ],
    "tverase_core/files/lora/names.py": [
        Fault(
            "A and B are swapped",
            '_SIDES = {"A": "down", "B": "up"}',
            '_SIDES = {"A": "up", "B": "down"}',
        ),
    ],
    "tverase_core/files/compact.py": [
        Fault(
            "factors of any size are multiplied out",
            "if whole > MOST_TIMES * stored:",
            "if False:",
            (HOSTILE,),
        ),
        Fault(
            "factors that are larger than the matrix are written",
            "if up.numel() + down.numel() >= delta.numel():",
            "if False:",
        ),
        Fault(
            "what rounding to the file's numbers takes is not told",
            "rebuilt = _product(up, down).double()",
            "rebuilt = delta.double()",
        ),
        Fault(
            "half a pair is dropped in silence",
            "        if partner is None:\n            raise FormatError(",
            "        if partner is None:\n            continue\n            raise FormatError(",
        ),
    ],
    "tverase_core/files/task_vector_file.py": [
        Fault(
            "a vector away from the concept is taken",
            "    check_direction(metadata, name)\n",
            "",
        ),
        Fault(
            "a file that erases nothing is taken", "    if not vector.deltas:\n", "    if False:\n"
        ),
    ],
    "tverase_core/files/checkpoint.py": [
        Fault(
            "a piece is read from the weight's start",
            "file.seek(weight.start + first * weight.dtype.itemsize)",
            "file.seek(weight.start)",
        ),
        Fault(
            "a weight that is cut is read as it is",
            "if view.nbytes and file.readinto(view) != view.nbytes:",
            "if view.nbytes and file.readinto(view) > view.nbytes:",
        ),
    ],
    "tverase_core/files/checkpoint_places.py": [
        Fault(
            "a pickle is opened", "if pickled and not _begins_as_safetensors(head):", "if False:"
        ),
    ],
    "tverase_core/files/apply.py": [
        Fault(
            "what is told of rounding leaves mask and strength out",
            "total.add_sample(edit.meant, edit.before",
            "total.add_sample(task_vector.deltas[edit.key], edit.before",
        ),
        Fault(
            "the mask is ignored",
            "masked_deltas(task_vector, mask, layout, sizes)",
            "masked_deltas(task_vector, BlockMask.full(), layout, sizes)",
            ("tests/core/files/test_apply.py", "tests/project/test_command_line.py"),
        ),
        Fault(
            "the base is not checked",
            "            allow_other_weights,\n        )\n",
            "            True,\n        )\n",
            ("tests/core/files/test_apply.py", "tests/project/test_command_line.py"),
        ),
        Fault("an edit that changes nothing is written", "if seen and not changed:", "if False:"),
        Fault(
            "the base may be replaced by its own edit",
            "    check_not_source(target, (source,))\n",
            "",
        ),
    ],
    "tverase_core/storage/content_hash.py": [
        Fault(
            "pieces overlap",
            "for first in range(0, numel, PIECE))",
            "for first in range(0, numel, PIECE - 1))",
        ),
        Fault(
            "the order of the pieces does not count",
            'b"".join(digest.result() for digest in self._digests)',
            'b"".join(sorted(digest.result() for digest in self._digests))',
        ),
    ],
    "tverase_core/storage/header.py": [
        Fault("tensors may overlap", "if entry.start != position or", "if"),
        Fault(
            "data after the last tensor is taken",
            "    if position != data_bytes:",
            "    if position > data_bytes:",
        ),
        Fault("a name may occur twice", "        if key in found:\n", "        if False:\n"),
    ],
    "tverase_core/storage/reproducible.py": [
        Fault("a damaged file is read", "    if stated and stated != got:", "    if False:"),
        Fault("NaN is written", '        _check_finite(key, tensor, "write")\n', ""),
        Fault(
            "a newer format is read",
            "if int(major) != FORMAT_MAJOR:",
            "if int(major) < FORMAT_MAJOR:",
        ),
        Fault("float16 is written", 'in _OURS - {"F16"}}', "in _OURS}"),
    ],
    "tverase_core/storage/new_file.py": [
        Fault("a name may hold a zero", "not _ODD.search(name)", "True", (HOSTILE,)),
        Fault(
            "a half-written file stays", "        temporary.unlink(missing_ok=True)", "        pass"
        ),
        Fault("a full disk is found while writing", "    if free < size:", "    if free < 0:"),
    ],
}
