"""What people do wrong on the canvas, and what the node must tell them."""

from __future__ import annotations

from typing import Any

Graph = dict[str, dict[str, Any]]
DRAW = {"width": 64, "height": 64, "sampler_name": "euler", "scheduler": "normal", "cfg": 1.0}
SAMPLED = {**DRAW, "sampling_steps": 1, "pictures_at_once": 4}


def item(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sampler(model: str) -> dict[str, Any]:
    size = {name: value for name, value in DRAW.items() if name not in ("width", "height")}
    links = {"positive": ["text", 0], "negative": ["text", 0], "latent_image": ["empty", 0]}
    return item("KSampler", model=[model, 0], **links, seed=1, steps=1, denoise=1.0, **size)


def learning() -> Graph:
    """From the concept's pictures to the erased model, on the demo model."""
    demo = {"model": ["demo", 0], "clip": ["demo", 1]}
    return {
        "demo": item("TVEraseDemoModel"),
        "tiny": item("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "set": item(
            "TVEraseConceptSetFromPrompt",
            **demo,
            prompt="a cat",
            concept="cat",
            count=2,
            seed=1,
            steps=1,
            batch_size=2,
            caption="",
            **DRAW,
        ),
        "blank": item("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "photos": item(
            "TVEraseConceptSetFromImages",
            **demo,
            vae=["demo", 2],
            images=["blank", 0],
            concept="cat",
            caption="",
        ),
        "latents": item(
            "TVEraseConceptSetFromLatents", **demo, latents=["set", 1], concept="cat", caption=""
        ),
        "tune": item(
            "TVEraseConceptFinetune",
            model=["demo", 0],
            concept_set=["set", 0],
            steps=1,
            learning_rate=1e-4,
            batch_size=2,
            accumulation=1,
            seed=1,
            flip=False,
            ema=False,
            weight_decay=0.0,
            gradient_clip=1.0,
            rank=0,
        ),
        "extract": item(
            "TVEraseExtractTaskVector", base=["demo", 0], tuned=["tune", 0], concept=""
        ),
        "mask": item("TVEraseBlockMask", model=["demo", 0], preset="full", rules=""),
        "apply": item(
            "TVEraseApplyNegatedTV",
            model=["demo", 0],
            task_vector=["extract", 0],
            strength=1.0,
            other_weights="refuse",
            block_mask=["mask", 0],
        ),
        "stock lora": item(
            "LoraLoaderModelOnly", model=["demo", 0], lora_name="lora.safetensors", strength_model=1
        ),
    }


def drawing() -> Graph:
    """Pictures of the base and of the erased model, and one after the other."""
    return {
        "text": item("CLIPTextEncode", text="a cat", clip=["demo", 1]),
        "empty": item("EmptyLatentImage", width=64, height=64, batch_size=1),
        "base": sampler("demo"),
        "erased": sampler("apply"),
        "before": item("VAEDecode", samples=["base", 0], vae=["demo", 2]),
        "after": item("VAEDecode", samples=["erased", 0], vae=["demo", 2]),
        "grid": item(
            "TVEraseBeforeAfterGrid", before=["before", 0], after=["after", 0], title="", columns=2
        ),
        "look": item("PreviewImage", images=["grid", 0]),
        "look before": item("PreviewImage", images=["before", 0]),
        "look after": item("PreviewImage", images=["after", 0]),
    }


def measuring() -> Graph:
    """Judge, triggers, automatic mask and strength."""
    demo = {"model": ["demo", 0], "clip": ["demo", 1]}
    triggers = {"inversion_set": ["triggers", 0], "retained": "a dog | dog"}
    return {
        "judge": item("TVEraseDemoJudge"),
        "triggers": item("TVEraseLoadInversionSet", file="demo.inversions.safetensors"),
        "invert": item(
            "TVEraseDiverseInversion",
            **demo,
            vae=["demo", 2],
            concept_set=["set", 0],
            judge=["judge", 0],
            prompt="",
            count=2,
            steps=1,
            learning_rate=1e-5,
            batch=1,
            seed=1,
            spread="apart",
            vectors=1,
            diversity=0.1,
            cosine_cap=0.2,
            template="a {}",
            start="cat",
            checks=2,
            restarts=0,
            at_once=0,
            resumable=False,
            **SAMPLED,
        ),
        "strength": item(
            "TVEraseAutoStrength",
            **demo,
            vae=["demo", 2],
            task_vector=["extract", 0],
            judge=["judge", 0],
            **triggers,
            prompt="",
            target=0.3,
            budget=0.5,
            max_strength=1.0,
            seed=1,
            when_infeasible="stop",
            step=0.5,
            pictures_per_trigger=2,
            pictures_per_retained=2,
            tuning_share=0.5,
            verify=True,
            other_weights="refuse",
            **SAMPLED,
        ),
        "auto mask": item(
            "TVEraseAutoBlockMask",
            **demo,
            task_vector=["extract", 0],
            concept_set=["set", 0],
            **triggers,
            by_kind=False,
            seed=1,
            fraction=0.9,
            strength=1.0,
            probes=2,
            most_triggers=1,
            **SAMPLED,
        ),
        "tell strength": item("PreviewAny", source=["strength", 0]),
        "tell mask": item("PreviewAny", source=["auto mask", 1]),
        "tell inversion": item("PreviewAny", source=["invert", 2]),
    }


def attacking() -> Graph:
    """An attack on the demo model itself."""
    return {
        "attack": item(
            "TVEraseConceptInversionAttack",
            model=["demo", 0],
            base=["demo", 0],
            clip=["demo", 1],
            vae=["demo", 2],
            concept_set=["set", 0],
            judge=["judge", 0],
            budget="quick",
            attacks=1,
            start="cat",
            sentences="object",
            template="a {}",
            prompt="",
            seed=1,
            checks=2,
            vectors=1,
            steps=1,
            pictures_per_step=1,
            learning_rate=1e-5,
            at_once=1,
            resumable=False,
            **SAMPLED,
        ),
        "tell attack": item("PreviewAny", source=["attack", 3]),
    }


def files_and_algebra() -> Graph:
    """What is saved and loaded, and the other ways to a vector."""
    demo = {"model": ["demo", 0], "clip": ["demo", 1]}
    return {
        "vector": item("TVEraseLoadTaskVector", file="tiny.tv.safetensors"),
        "save": item(
            "TVEraseSaveTaskVector",
            task_vector=["extract", 0],
            filename_prefix="cat",
            dtype="float32",
        ),
        "save set": item(
            "TVEraseSaveInversionSet", inversion_set=["triggers", 0], filename_prefix="cat"
        ),
        "export": item("TVEraseExportEmbeddings", inversion_set=["triggers", 0], name="cat"),
        "combine": item(
            "TVEraseCombineTaskVectors",
            first=["extract", 0],
            second=["extract", 0],
            first_factor=1.0,
            second_factor=1.0,
            orthogonalise=False,
        ),
        "esd": item(
            "TVEraseESD",
            **demo,
            concept_set=["set", 0],
            prompts="a cat",
            erase_from="",
            variant="x",
            steps=1,
            learning_rate=1e-5,
            batch_size=1,
            seed=1,
            eta=2.0,
            anchor="concept",
            width=64,
            height=64,
            sample_guidance=3.0,
            sample_steps=50,
        ),
        "uce": item(
            "TVEraseUCE",
            **demo,
            concepts="cat",
            guide="",
            preserve="",
            kind="object",
            expand=False,
            keep=0.5,
            preserve_weight=1.0,
            erase_weight=1.0,
            form="2025",
        ),
        "tell combined": item("PreviewAny", source=["combine", 1]),
        "tell esd": item("PreviewAny", source=["esd", 0]),
        "tell uce": item("PreviewAny", source=["uce", 0]),
    }


def erasers_that_train() -> Graph:
    """The baselines that learn from a concept set, and the CLIP's own erasure."""
    demo = {"model": ["demo", 0], "clip": ["demo", 1]}
    return {
        "stereo": item(
            "TVEraseSTEREO",
            **demo,
            concept_set=["set", 0],
            prompts="a cat",
            anchors="a cat on a beach",
            rounds=1,
            erase_steps=1,
            erase_learning_rate=1e-5,
            attack_steps=1,
            attack_learning_rate=1e-3,
            final_steps=1,
            final_learning_rate=1e-5,
            batch_size=1,
            seed=1,
            start="object",
            sentences="object",
            samples="noised pictures",
            variant="x",
            eta=1.0,
            anchor_weight=1.0,
            negative_weight=3.0,
            attacks_used=4,
            template="{}",
        ),
        "few shot": item(
            "TVEraseFewShot",
            **demo,
            concept_set=["set", 0],
            concept="",
            sentences="object",
            captions="a {}",
            epochs=1,
            batch_size=1,
            learning_rate=1e-5,
            seed=1,
            pictures=2,
            every_epoch=False,
            width=64,
            height=64,
        ),
        "apply to clip": item(
            "TVEraseApplyToCLIP",
            clip=["demo", 1],
            task_vector=["few shot", 0],
            strength=1.0,
            other_weights="refuse",
        ),
        "tell stereo": item("PreviewAny", source=["stereo", 0]),
        "tell few shot": item("PreviewAny", source=["few shot", 0]),
        "tell clip": item("PreviewAny", source=["apply to clip", 0]),
    }


def erasers_that_draw() -> Graph:
    """The baselines that count in pictures what to change."""
    demo = {"model": ["demo", 0], "clip": ["demo", 1]}
    return {
        "prune": item(
            "TVEraseConceptPrune",
            **demo,
            concept="cat",
            prompts="a cat",
            contrast="",
            ratio=0.01,
            steps_used=1,
            seed=1,
            pictures_per_prompt=1,
            layers="ffn-2",
            **SAMPLED,
        ),
        "debias": item(
            "TVEraseUCEDebias",
            **demo,
            vae=["demo", 2],
            judge=["judge", 0],
            prompts="a cat",
            attributes="cat | 0.5\ndog | 0.5",
            preserve="",
            rounds=1,
            pictures_per_prompt=2,
            tolerance=0.05,
            seed=1,
            keep=0.5,
            preserve_weight=1.0,
            **SAMPLED,
        ),
        "tell debias": item("PreviewAny", source=["debias", 1]),
        "tell prune": item("PreviewAny", source=["prune", 0]),
    }


def correct() -> Graph:
    """Every part, with settings that take a moment."""
    parts = (
        *(learning(), drawing(), measuring(), attacking()),
        *(files_and_algebra(), erasers_that_train(), erasers_that_draw()),
    )
    return {name: node for part in parts for name, node in part.items()}


# By the node that must speak: what was done wrong, the node that is queued, the changed inputs
# (node__input), and words of the message.
Mistake = tuple[str, str, dict[str, Any], str]
FILE = {"apply__task_vector": ["vector", 0]}
LEARNING: list[Mistake] = [
    ("no name", "look", {"set__concept": " "}, "Write what is in the pictures"),
    ("no prompt", "look", {"set__prompt": "\n"}, "Write one that names the concept"),
    (
        "VAE of another checkpoint",
        "look",
        {"photos__vae": ["tiny", 2], "tune__concept_set": ["photos", 0]},
        "Use the VAE of the same checkpoint",
    ),
    (
        "latents of another family",
        "look",
        {"latents__latents": ["empty", 0], "tune__concept_set": ["latents", 0]},
        "this model has 24",
    ),
    ("accumulation", "look", {"tune__accumulation": 3}, "must divide batch_size, got 3 for 2"),
    (
        "guidance without a text",
        "look",
        {"tune__concept_set": ["photos", 0], "tune__guidance": 5.0},
        "does not say which text names the concept",
    ),
    (
        "contrasts for other prompts",
        "look",
        {"set__prompt": "a cat\na kitten\na tomcat", "set__contrast": "a\nb"},
        "2 lines of contrasts for 3 prompts",
    ),
    (
        "learning rate far too high",
        "look",
        {"tune__learning_rate": 1.0, "tune__steps": 30, "tune__gradient_clip": 1000.0},
        "Lower the learning rate",
    ),
    ("base twice", "look", {"extract__tuned": ["demo", 0]}, "Connect the fine-tuned MODEL"),
    (
        "base and tuned of two families",
        "look",
        {"extract__base": ["tiny", 0]},
        "base and tuned are different models",
    ),
    (
        "base and tuned swapped",
        "look",
        {"extract__base": ["tune", 0], "extract__tuned": ["demo", 0]},
        "Connect the same MODEL",
    ),
    (
        "CLIP of another checkpoint",
        "look",
        {"set__clip": ["tiny", 1]},
        "Connect the CLIP of the same checkpoint",
    ),
    (
        "concept set of another model",
        "look",
        {"tune__model": ["tiny", 0], "extract__base": ["tiny", 0]},
        "The concept set was made with another model",
    ),
    ("no steps", "look", {"tune__steps": 0}, "smaller than min"),
    ("no model", "look", {"apply__model": None}, "Required input is missing"),
    ("wrong wire", "look", {"apply__task_vector": ["set", 0]}, "TASK_VECTOR"),
]
ERASING: list[Mistake] = [
    ("no such block", "look", {"mask__preset": "custom", "mask__rules": "IN99"}, "Did you mean"),
    (
        "no such rule",
        "look",
        {"mask__preset": "custom", "mask__rules": "MID00: 5"},
        "Did you mean 'M00'",
    ),
    (
        "custom without rules",
        "look",
        {"mask__preset": "custom", "mask__rules": ""},
        "Write 'full' to use every block",
    ),
    ("a part it lacks", "look", {"mask__preset": "text_encoder"}, "Choose another preset"),
    ("strength below zero", "look", {"apply__strength": -1.0}, "smaller than min"),
    ("file gone", "look", {"vector__file": "gone.tv.safetensors", **FILE}, "Press R to"),
    ("file outside", "look", {"vector__file": "..\\..\\x.tv.safetensors", **FILE}, "Press R to"),
    (
        "a LoRA",
        "look",
        {"vector__file": "lora.tv.safetensors", **FILE},
        "expected a task_vector file",
    ),
    (
        "a web page",
        "look",
        {"vector__file": "page.tv.safetensors", **FILE},
        "no safetensors file. Download or save it again",
    ),
    (
        "half a download",
        "look",
        {"vector__file": "half.tv.safetensors", **FILE},
        "Download or save it again",
    ),
    (
        "other weights",
        "look",
        {"vector__file": "merge.tv.safetensors", **FILE},
        "the task vector was made from",
    ),
    (
        "newer format",
        "look",
        {"vector__file": "future.tv.safetensors", **FILE},
        "Update TVErase",
    ),
    ("an inversion set", "look", {"vector__file": "set.tv.safetensors", **FILE}, "expected kind"),
    ("another family's", "look", {"vector__file": "family.tv.safetensors", **FILE}, "model"),
]
TOOLS: list[Mistake] = [
    (
        "two picture sizes",
        "look",
        {"grid__after": ["blank", 0], "blank__width": 128},
        "Draw both at the same size",
    ),
    (
        "saving to a Windows drive",
        "save",
        {"save__filename_prefix": "C:\\vectors\\cat"},
        "such as 'vectors/cat'",
    ),
    ("embedding with a folder", "export", {"export__name": "../cat"}, "../cat"),
    ("saving outside", "save", {"save__filename_prefix": "../../escaped"}, "outside"),
    ("factors cancel", "tell combined", {"combine__second_factor": -1.0}, "Choose other factors"),
    ("ESD without prompt", "tell esd", {"esd__prompts": " "}, "There is no prompt. Write one"),
    (
        "two texts to erase from, one prompt",
        "tell esd",
        {"esd__erase_from": "a pet\nan animal"},
        "Write one line for all",
    ),
    (
        "all of a text erased",
        "tell esd",
        {"esd__erase_from": "a pet", "esd__anchor": "null"},
        "Set anchor to 'concept'",
    ),
    ("start of two words", "tell stereo", {"stereo__start": "furry pet"}, "Give a plain word"),
    ("UCE without names", "tell uce", {"uce__concepts": ""}, "There is no prompt. Write one"),
    ("erased and preserved", "tell uce", {"uce__preserve": "cat"}, "edited and preserved at once"),
    (
        "concept that the judge does not know",
        "tell inversion",
        {"set__concept": "Van Gogh"},
        "Write one of these names",
    ),
    (
        "concept set of another model, inverted",
        "tell inversion",
        {"invert__model": ["tiny", 0], "invert__clip": ["tiny", 1], "invert__vae": ["tiny", 2]},
        "The concept set was made with another model",
    ),
    ("template without place", "tell inversion", {"invert__template": "a cat"}, "{}"),
    ("set file gone", "save set", {"triggers__file": "gone.inversions.safetensors"}, "Press R to"),
    ("nothing retained", "tell strength", {"strength__retained": "\n"}, "Write what must stay"),
    ("retained, no name", "tell strength", {"strength__retained": "a dog |"}, "lacks a part"),
    (
        "retained and unknown",
        "tell strength",
        {"strength__retained": "a dog | wolf"},
        "does not know 'wolf'",
    ),
    ("mask, nothing retained", "tell mask", {"auto mask__retained": ""}, "Write what must stay"),
]
BASELINES: list[Mistake] = [
    (
        "no anchor",
        "tell stereo",
        {"stereo__anchors": " "},
        "Write sentences that contain the concept",
    ),
    (
        "attributes without shares",
        "tell debias",
        {"debias__attributes": "cat\ndog"},
        "Write `cat | 0.5`",
    ),
    (
        "shares of more than all",
        "tell debias",
        {"debias__attributes": "cat | 0.5\ndog | 0.6"},
        "sum to 1",
    ),
    (
        "a MODEL of another base attacked",
        "tell attack",
        {"attack__model": ["tiny", 0]},
        "Connect the MODEL that `model` was made from",
    ),
    ("attacks from two words", "tell attack", {"attack__start": "furry pet"}, "a plain word"),
    ("fewer pictures than rounds", "tell stereo", {"stereo__rounds": 3}, "ask for fewer rounds"),
    ("more steps used than drawn", "tell prune", {"prune__steps_used": 5}, "Lower steps_used"),
    (
        "the same with as without",
        "tell prune",
        {"prune__contrast": "a cat"},
        "Write prompts that differ in the concept",
    ),
    ("caption without place", "tell few shot", {"few shot__captions": "a cat"}, "has no {}"),
    (
        "a model's vector on a CLIP",
        "tell clip",
        {"apply to clip__task_vector": ["extract", 0]},
        "Use Apply Negated TV",
    ),
    (
        "a CLIP's vector on a model",
        "look",
        {"apply__task_vector": ["few shot", 0]},
        "Apply Negated TV to CLIP",
    ),
    (
        "vector of another CLIP",
        "tell clip",
        {"apply to clip__clip": ["tiny", 1]},
        "CLIP",
    ),
]
MISTAKES = {"learning": LEARNING, "erasing": ERASING, "tools": TOOLS, "baselines": BASELINES}
