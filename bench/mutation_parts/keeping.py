"""Faults in what is kept for the next run."""

from __future__ import annotations

from .fault import Fault

_PLACE = "tests/nodes/finished"
STORE, IDENTITY = (f"{_PLACE}/test_store.py",), (f"{_PLACE}/test_identity.py",)
TUNED, SEARCHED = (f"{_PLACE}/test_finetune_again.py",), (f"{_PLACE}/test_searches_again.py",)

KEEPING: dict[str, list[Fault]] = {
    "nodes/host/training/finished.py": [
        Fault("versions do not count", "(purpose, *versions, model", "(purpose, model", TUNED),
        Fault(
            "the MODEL does not count", "*versions, model, *parts())", "*versions, *parts())", TUNED
        ),
        Fault("what it is made of does not count", "model, *parts())", "model)", TUNED),
        Fault("what cannot be told is kept", "    if told.unknown:\n", "    if False:\n", SEARCHED),
        Fault("nothing is bounded", "if total <= MOST_BYTES:", "if True:", STORE),
        Fault("the newest goes too", "if path != newest:", "if True:", STORE),
        Fault(
            "use does not count",
            "        _mark_used(self._path)\n        self.remark(FOUND)\n",
            "        self.remark(FOUND)\n",
            STORE,
        ),
        Fault(
            "the order is the clock's",
            "max(time.time_ns(), latest + STEP_NS)",
            "time.time_ns()",
            STORE,
        ),
        Fault(
            "a read-only folder stops the run",
            "    with suppress(OSError):  # a folder that is only read serves as well\n",
            "    with suppress(ZeroDivisionError):\n",
            STORE,
        ),
        Fault(
            "a full disk loses the result",
            "except (TveraseError, OSError, ValueError) as problem:",
            "except ZeroDivisionError as problem:",
            STORE,
        ),
        Fault(
            "damaged results stop the run",
            "except (TveraseError, OSError, LookupError, TypeError, ValueError):",
            "except ZeroDivisionError:",
            STORE,
        ),
        Fault(
            "a folder that cannot be cleared stops the run",
            "        except OSError as problem:\n",
            "        except ZeroDivisionError as problem:\n",
            STORE,
        ),
        Fault("folders of others are results", " and path.is_file():", ":", STORE),
        Fault(
            "what a killed process left stays",
            '(".safetensors", ".tmp")',
            '(".safetensors",)',
            STORE,
        ),
        Fault("make anew finds the old one", 'reuse=choice == "reuse"', "reuse=True", TUNED),
        Fault("clear does nothing", 'if choice == "clear":', "if False:", STORE),
    ],
    "nodes/host/training/identity.py": [
        Fault("the base does not count", "base.sample_sha256, base.dtype", '""', IDENTITY),
        Fault(
            "patches do not count",
            '*("patches", "model_options", ',
            '*("model_options", ',
            IDENTITY,
        ),
        Fault("options do not count", '"patches", "model_options", ', '"patches", ', IDENTITY),
        Fault(
            "runtime-exact edits do not count", "yield exact_edits(patcher)", "yield None", IDENTITY
        ),
        Fault(
            "the noise schedule does not count",
            '("model_sampling", "latent_format")',
            "()",
            IDENTITY,
        ),
        Fault(
            "closures do not count",
            "value.__kwdefaults__, *cells]",
            "value.__kwdefaults__]",
            IDENTITY,
        ),
        Fault(
            "weights of a VAE do not count",
            "            self._tensor(value if",
            "            (value if",
            IDENTITY,
        ),
        Fault("a VAE that has drawn is another", '!= ("size", comfy.sd.VAE)', "!= ()", IDENTITY),
        Fault(
            "strangers pass for known", "        if not known:\n", "        if False:\n", IDENTITY
        ),
        Fault(
            "what shows nothing passes for known",
            "        if held is None:\n",
            "        if False:\n",
            IDENTITY,
        ),
        Fault("tensors without values pass", "and not value.is_meta", "", IDENTITY),
        Fault("places do not count", "            self._say(len(parts))\n", "", IDENTITY),
    ],
    "nodes/finetune/finished.py": [
        Fault("the losses stay in the story", "extra.pop(LOSSES)", "extra[LOSSES]", TUNED),
    ],
    "nodes/inversion/finished.py": [
        Fault(
            "the picture is another",
            "np.array(made.grid.convert(",
            "255 - np.array(made.grid.convert(",
            SEARCHED,
        ),
    ],
    "nodes/inversion/node.py": [
        Fault(
            "the judge does not count",
            "config, vae, judge, drawing_of",
            "config, vae, drawing_of",
            SEARCHED,
        ),
        Fault(
            "the VAE does not count",
            "config, vae, judge, drawing_of",
            "config, judge, drawing_of",
            SEARCHED,
        ),
        Fault(
            "how it is drawn does not count",
            "judge, drawing_of(widgets), *checks]",
            "judge, *checks]",
            SEARCHED,
        ),
        Fault(
            "the plain prompt does not count",
            'encoder.encode([prompt, ""])',
            'encoder.encode([""])',
            SEARCHED,
        ),
    ],
    "tverase_core/strength/choice_file.py": [
        Fault(
            "fields of another kind are taken",
            "    if not isinstance(held, (int, float) if kind is float else kind):\n",
            "    if False:\n",
            SEARCHED,
        ),
    ],
}
