"""Train everything that the demo ships, from nothing: `python dev.py train`.

Every stage is seeded and resumable; finished stages are kept in the work folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent))

from devtools.in_process import import_host  # noqa: E402 - after the path

SEED = 20260101
# Steps and peak rate of each, and what is drawn more often: birds are the hardest to learn.
FLOW_CYCLES = (
    (4600, 1.2e-3, {}),
    (700, 6e-4, {"bird": 4, "ball": 2, "flower": 2}),
    (1200, 9e-4, {"bird": 6, "ball": 2, "flower": 2}),
    (1000, 8e-4, {"bird": 12, "ball": 2, "flower": 2, "fruit": 2, "moon": 2}),
    (800, 7e-4, {"bird": 14, "ball": 2, "flower": 2, "fruit": 4, "moon": 2, "umbrella": 2}),
)
CYCLES = ((2800, 1e-3), (900, 6e-4), (3200, 8e-4))  # steps and peak learning rate of each


def tokenizer(comfyui: Path):
    """The host's CLIP tokenizer files: text -> 77 token ids, padded with the end token."""
    from transformers import CLIPTokenizer

    files = CLIPTokenizer.from_pretrained(comfyui / "comfy" / "sd1_tokenizer")
    memo: dict[str, list[int]] = {}

    def tokenize(text: str) -> list[int]:
        if text not in memo:
            ids = files(text)["input_ids"]
            memo[text] = ids + [49407] * (77 - len(ids))
        return memo[text]

    return tokenize


def vocabulary(drawings, tokenize) -> list[int]:
    """Every token id that a caption can hold, ascending."""
    from world import OBJECTS, PLAIN, STYLE_ONLY, STYLED, STYLES, SYNONYMS

    nouns = {*OBJECTS, *itertools.chain(*SYNONYMS.values()), *drawings.names}
    texts = [t.format(o=o) for t in PLAIN for o in nouns]
    texts += [t.format(o=o, s=s) for t in STYLED for o in nouns for s in STYLES]
    texts += [t.format(s=s) for t in STYLE_ONLY for s in STYLES]
    return sorted({token for text in ["", *texts] for token in tokenize(text)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads and state")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--decoder-steps", type=int, default=2000)
    parser.add_argument("--judge-steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--flow", action="store_true", help="train the flow-matching model")
    parser.add_argument("--flow-batch", type=int, default=32, help="of each worker")
    options = parser.parse_args()
    if options.flow:
        train_flow_model(options)
        return
    import_host(options.comfyui)

    import diffusion
    import latents
    import torch
    from export import export
    from render import load_drawings, shifted

    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    config = json.loads((HERE / "model" / "config.json").read_text())
    drawings = load_drawings(options.work / "icons")
    tokenize = tokenizer(options.comfyui)
    moved = [shifted(drawings.pictures, dx, dy) for dx, dy in ((-2, -2), (0, 0), (1, 2))]
    sample = torch.cat([torch.from_numpy(m) for m in moved]).float() / 127.5 - 1
    encoder = latents.fit_encoder(sample, config["patch"], config["latent_channels"])
    torch.save(encoder, options.work / "encoder.pt")
    batches = diffusion.Batches(drawings, lambda p: latents.encode(p, encoder), tokenize, SEED)
    print("latents", tuple(batches.latents.shape), "std", batches.latents.std().item())
    unet, text = diffusion.build(config, vocabulary(drawings, tokenize))
    print(
        "UNet",
        sum(p.numel() for p in unet.parameters()),
        "text",
        sum(p.numel() for p in text.parameters()),
    )
    averaged = diffusion.train(
        unet,
        text,
        batches,
        cycles=CYCLES,
        batch_size=options.batch,
        seed=SEED,
        state_file=options.work / "diffusion.pt",
        log_file=options.work / "diffusion.jsonl",
    )
    for part, module in (("unet", unet), ("text", text)):
        module.load_state_dict(averaged[part])
    guessed = diffusion.guesses(unet, text, batches, count=8192, batch_size=128, seed=SEED)
    autoencoder = decoder_stage(options, config, drawings, batches, encoder, guessed)
    judge_stage(options, drawings, autoencoder)
    print("wrote", export(averaged, autoencoder, config, HERE / "model"))


def train_flow_model(options: argparse.Namespace) -> None:
    """The second model, by as many single-threaded workers as there are threads."""
    import torch.multiprocessing as processes

    meeting = options.work / "workers"
    meeting.unlink(missing_ok=True)
    processes.spawn(flow_worker, (options, meeting), nprocs=options.threads)


def flow_worker(rank: int, options: argparse.Namespace, meeting: Path) -> None:
    """One worker; the first writes the model at the end."""
    import_host(options.comfyui)

    import torch
    from autoencoder import Autoencoder
    from diffusion import Batches, build
    from export import export_flow, read_model
    from flow_matching import Course, Cycle, TextStates, build_flow, join_workers, train_flow
    from render import load_drawings

    join_workers(rank, options.threads, meeting)
    torch.manual_seed(SEED)
    folder = HERE / "model"
    config = json.loads((folder / "config.json").read_text())
    flow_config = json.loads((folder / "flow_config.json").read_text())
    parts = read_model(folder)
    autoencoder = Autoencoder(config["latent_channels"], config["patch"]).eval()
    autoencoder.load_state_dict(parts["vae"])
    tower = build(config, parts["text"]["vocabulary"].tolist())[1].eval()
    tower.load_state_dict(parts["text"])
    with torch.no_grad():
        batches = Batches(
            load_drawings(options.work / "icons"),
            lambda pictures: autoencoder.encode(pictures.movedim(-1, 1)),
            tokenizer(options.comfyui),
            SEED,
        )
    course = Course(
        cycles=tuple(Cycle(*cycle) for cycle in FLOW_CYCLES),
        batch=options.flow_batch,
        seed=SEED,
        workers=options.threads,
        state_file=options.work / "flow.pt",
        log_file=options.work / "flow.jsonl",
    )
    network = build_flow(flow_config)
    text = TextStates(tower, flow_config["text_tokens"])
    averaged = train_flow(network, text, batches, course)
    if rank == 0:
        print("wrote", export_flow(averaged, folder))


def decoder_stage(options, config, drawings, batches, encoder, guessed):
    """The trained autoencoder, from the work folder when it is there.

    It learns from the encoder's latents and, in equal parts, from the diffusion model's guesses.
    """
    import torch
    from autoencoder import Autoencoder
    from diffusion import SHIFTS
    from fit_decoder import fit_decoder
    from render import shifted

    file = options.work / "decoder.pt"
    if file.exists():
        network = Autoencoder(config["latent_channels"], config["patch"]).eval()
        network.load_state_dict(torch.load(file, weights_only=True))
        return network
    moved = [torch.from_numpy(shifted(drawings.pictures, dx, dy)) for dx, dy in SHIFTS]
    made, picks = guessed
    network = fit_decoder(
        torch.stack(moved),
        batches.latents,
        (made, picks),
        encoder,
        patch=config["patch"],
        steps=options.decoder_steps,
        batch_size=32,
        seed=SEED,
    )
    torch.save(network.state_dict(), file)
    return network


def judge_stage(options, drawings, autoencoder) -> None:
    """Train the judge, write it, and count its right answers on renderings of another size."""
    from fit_judge import fit_judge, hits, labelled, save_judge
    from render import load_drawings, load_others

    icons = options.work / "icons"
    judge = fit_judge(
        labelled(drawings, load_others(icons)), autoencoder, steps=options.judge_steps, seed=SEED
    )
    save_judge(judge, HERE / "model" / "demo_judge.safetensors")
    held_out = labelled(load_drawings(icons, margin=4), load_others(icons, margin=4))
    objects, styles, n = hits(judge, held_out)
    counts = {"objects_right": objects, "styles_right": styles, "n": n}
    (HERE / "judge.json").write_text(json.dumps(counts) + "\n")
    print("judge on held-out renderings", counts)


if __name__ == "__main__":
    main()
