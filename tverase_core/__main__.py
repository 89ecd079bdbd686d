"""Task vectors from the command line, without ComfyUI.

    python -m tverase_core extract BASE TUNED -o OUT    tuned - base, from two models on disk
    python -m tverase_core apply BASE VECTOR -o OUT     an erased checkpoint
    python -m tverase_core combine VECTOR... -o OUT     a weighted sum of vectors
    python -m tverase_core inspect FILE...              what a file is

BASE and TUNED: a ComfyUI or CompVis checkpoint, a file of the UNet or diffusion transformer, or a
diffusers model (file, folder, or index of shards). TUNED may also be a LoRA made for BASE. Exit
codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from .console import escape_what_cannot_be_shown
from .errors import ConfigError, FormatError, TveraseError
from .files.apply import apply_to_file
from .files.checkpoint import CheckpointFile
from .files.extract import extract_between_files
from .files.lora.extract import extract_from_lora, is_lora_file
from .files.metadata import KIND, SUFFIX
from .files.task_vector_file import load_task_vector, read_provenance, save_task_vector
from .model.block_mask import BlockMask
from .model.fingerprint import describe
from .storage.new_file import check_not_source
from .storage.reproducible import read_header
from .vector.algebra import weighted_sum
from .vector.provenance import Provenance
from .vector.rounding import LOSS_TO_WARN


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    escape_what_cannot_be_shown()
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except (TveraseError, OSError) as error:
        sys.stderr.write(f"error: {_sentence(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    return 0


def extract(options: argparse.Namespace) -> None:
    out = _vector_file(options.output)
    name = options.concept or Path(options.output).name.removesuffix(SUFFIX)
    provenance = Provenance(
        concepts=(name,), title=f"{name} task vector", created=_now(), prediction=options.prediction
    )
    files = (options.base, options.tuned, out, provenance)
    if is_lora_file(options.tuned):
        made = extract_from_lora(*files, dtype=options.dtype, progress=_show)
    else:
        more = {"absent": options.absent, "dtype": options.dtype}
        made = extract_between_files(*files, **more, progress=_show)
    _say(f"base   {made.base}")
    _say(f"tuned  {made.tuned}")
    _say(f"{made.sentence()} {out}")


def apply(options: argparse.Namespace) -> None:
    vector = load_task_vector(options.vector)
    strength, mask, advice = options.strength, options.mask, vector.provenance.recommended
    if strength is None:
        if advice is None:
            raise ConfigError(
                f"{Path(options.vector).name}: recommends no strength. Give one with --strength."
            )
        # It was found with this mask: without, the strength would be another one.
        strength, mask = advice.strength, mask or advice.mask.to_text()
    made = apply_to_file(
        options.base,
        vector,
        strength,
        options.output,
        mask,
        allow_other_weights=options.allow_other_weights,
        progress=_show,
    )
    _say(f"base   {made.base} ({made.verdict.replace('_', ' ')})")
    _say(f"{made.changed} weights changed at strength {strength:g}: {options.output}")
    if made.lost.lost > LOSS_TO_WARN:
        _say(f"note: {made.lost.sentence()}. A base in a wider number format loses less.")


def combine(options: argparse.Namespace) -> None:
    out = _vector_file(options.output)
    check_not_source(out, options.vectors)
    factors = options.factor or [1.0] * len(options.vectors)
    if len(factors) != len(options.vectors):
        raise ConfigError(
            f"expected one --factor for each of {len(options.vectors)} vectors, got {len(factors)}"
        )
    total = weighted_sum(zip(map(load_task_vector, options.vectors), factors, strict=True))
    save_task_vector(out, total, dtype=options.dtype)
    _say(f"{len(total)} weights, length {total.norm():.4g}: {out}")


def inspect(options: argparse.Namespace) -> None:
    for path in options.files:
        if Path(path).is_file() and path.endswith(".safetensors"):
            header = read_header(path)
            if header.metadata.get("tverase.kind") == KIND:
                base, provenance = read_provenance(path)
                concepts = ", ".join(provenance.concepts) or "unnamed"
                _say(f"{Path(path).name}: task vector of {concepts}; {len(header.tensors)} tensors")
                _say(f"  made from {describe(base)}")
                for step in provenance.history:
                    _say(f"  {step}")
                if provenance.recommended:
                    advice = provenance.recommended
                    mask = f", mask {advice.mask.to_text()}" * (advice.mask != BlockMask.full())
                    _say(f"  recommended strength {advice.strength:g}{mask}")
                continue
        with CheckpointFile(path) as checkpoint:
            _say(checkpoint.described())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tverase_core",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(command.__name__, help=text, description=text)
        made.set_defaults(command=command)
        return made

    one = add(extract, "Write tuned - base as a task vector; a few hundred MB of memory do.")
    one.add_argument("base", help="the model before it learned the concept")
    one.add_argument("tuned", help="the model after, or a LoRA (a file, or a folder of PEFT)")
    one.add_argument(
        "--absent",
        choices=("refuse", "unchanged"),
        default="refuse",
        help="what weights count as that tuned lacks; unchanged: for files of edited weights alone",
    )
    one.add_argument("--concept", default="", help="its name; else the file's")
    one.add_argument(
        "--prediction", choices=("epsilon", "v", "flow"), default="", help="what it predicts"
    )
    two = add(apply, "Write the base with strength times the vector subtracted.")
    two.add_argument("base", help="one checkpoint or diffusion-model file")
    two.add_argument("vector", help=f"a {SUFFIX} file; it is loaded whole")
    two.add_argument(
        "--strength", type=float, help=">= 0; else what the file recommends, with its mask"
    )
    two.add_argument("--mask", default="", help="blocks and kinds, such as 'kind:cross_attn'")
    two.add_argument("--allow-other-weights", action="store_true", help="a descendant's too")
    three = add(combine, "Write a weighted sum of task vectors of one base.")
    three.add_argument("vectors", nargs="+", help=f"{SUFFIX} files; they are loaded whole")
    three.add_argument(
        "--factor", type=float, action="append", help="once for each vector, in order; else 1"
    )
    for sub in (one, two, three):
        sub.add_argument("-o", "--output", required=True, help="the file to write")
    for sub in (one, three):
        sub.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    four = add(inspect, "Say what files are.")
    four.add_argument("files", nargs="+")
    return parser


def _vector_file(path: str) -> Path:
    if not path.endswith(SUFFIX):
        raise FormatError(f"{Path(path).name}: a task-vector file must end in {SUFFIX}")
    return Path(path)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _show(done: int, total: int, message: str) -> None:
    """A line that overwrites itself, for people only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{100 * done // total:3d} %  {message}"[:100])
        sys.stderr.write("\n" if done == total else "")
        sys.stderr.flush()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
