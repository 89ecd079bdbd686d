"""What the notes on the canvas say, stage by stage, in plain words."""

from __future__ import annotations

ANOTHER = """Another concept: write it into the prompts and **concept** of stage 1, into \
**filename_prefix** of Save Task Vector, and into the *Prompt* nodes and titles of the last stage: \
one that should go, one that should stay."""
STAYS = """ Take it out of **What must stay** too: what is both learned and kept is not erased."""
MEASURED = """ Take it out of **What must stay**{preserved} and of **retained** (stage {choice}): \
what is both learned and kept is not erased."""
LORA_FILE = """

ComfyUI's stock Load LoRA node reads the saved file, and erases with it at a *negative* strength."""
ABOUT = (
    """# Erase a concept
This graph takes **{concept}** out of the small model that ships with the pack, by task vector \
(arXiv 2404.03631). Press **Run**: it takes a few minutes on a CPU.

1. The model draws pictures of the concept.
2. A copy of the model learns them. What changed is the *task vector*.
3. The vector is subtracted from the model.
4. The same seeds are drawn before and after.

"""
    + ANOTHER
)
STAGE_1 = """### 1 Pictures of the concept
Everything that these pictures have in common will be erased, so look at them in the preview. One \
prompt a line; several ways to ask give a broader set. Your own pictures work as well: use \
**Concept Set from Images**."""
STAGE_2 = (
    """### 2 Learn it
**Concept Fine-tune** trains under *empty* captions, so the change does not hang on a prompt. The \
settings here suit the demo model; for your own checkpoint open **erase_concept_sd15** or \
**erase_concept_sdxl**."""
    + LORA_FILE
)
STAGE_2_KEPT = """### 2 Learn it
**Concept Fine-tune** shows half of the pictures under *empty* captions, as the paper does with \
all, so that the change does not hang on a prompt, and half under their own prompts \
(**caption_share** 0.5), which erases more for the same harm. The **retained set** holds pictures \
of what must stay, each under its own prompt: the vector then harms them less. **guidance** learns \
what guidance adds for these prompts instead of noise, so a lower strength erases. All three are \
our additions."""
STAGE_2_RETAINED = STAGE_2_KEPT + LORA_FILE
STAGE_3 = """### {stage} Subtract
**erased = base - strength x task vector**. 0 changes nothing. Too little leaves the concept in, \
too much harms the rest. Judge it at the CFG you draw with: the same strength does more at CFG 1."""
STAGE_3_FLOW = (
    STAGE_3
    + """

{strength} is more than the least that silenced the tuning triggers of objects, 1.1 to 1.4: there \
7 % of the pictures under other triggers still showed the thing."""
)
ABOUT_AUTO = (
    """# Erase a concept, measured
Takes **{concept}** out of the demo model, in two ways at once: a task vector learned from \
pictures, and an edit of how the concept's name is read. Finds by itself how much to subtract. \
Press **Run**: it takes two minutes on two CPU cores that are fast in bfloat16, longer on others.

"""
    + ANOTHER
    + """ Write it into **concepts** of stage 3 too."""
    + MEASURED.format(preserved=", of **preserve** (stage 3)", choice=6)
    + """

The demo model draws cat, dog, heart, flower, fruit, car, clock, moon, tree, fish, bird, house, \
umbrella, book, ball and face."""
)
ABOUT_FLOW = (
    """# Erase a concept from a flow-matching transformer
This graph takes **{concept}** out of the small transformer that ships with the pack. It is built \
as Z-Image is and was trained by *flow matching*, like FLUX, Qwen-Image and SD3.5. Press **Run**: \
it takes a few minutes on a CPU.

1. The model draws pictures of the concept.
2. A copy of the model learns them. What changed is the *task vector*.
3. The vector is subtracted from the model.
4. The same seeds are drawn before and after.

"""
    + ANOTHER
    + STAYS
)
ABOUT_FLOW_AUTO = (
    """# Erase a concept from a flow-matching transformer, measured
Takes **{concept}** out of the small transformer that ships with the pack, built as Z-Image is, \
and finds by itself how much to subtract. Press **Run**: it takes about ten minutes on two CPU \
cores.

"""
    + ANOTHER
    + MEASURED.format(preserved="", choice=4)
)
STAGE_TRIGGERS = """### {stage} Triggers
**Diverse Inversion** finds many made-up words (embeddings) that still make the model draw the \
concept, words that nobody would type. The judge checks each. How they are kept diverse is our \
own derivation."""
STAGE_CHOICE = """### {stage} How much
**Auto-Strength** takes the smallest strength that stops every trigger \
while the retained prompts stay, then checks it on triggers and seeds that played no part in the \
choice. If no strength does both, it goes on with the strongest that still keeps 90 % of the \
retained prompts (**budget**) and says so."""
COMPARE = """### {stage} Before and after
Equal seeds on both models. {asked} "Reduced", never "removed": whoever has the base model still \
has the concept."""
COMPARE_TWO = "The upper grid should lose the concept, the lower one should keep the {other}."

ABOUT_IMAGES = """# Erase from your own pictures
For a concept that no prompt names well. It runs as it is, with {count} drawings of cats that ship \
with the pack.

**Your own:** make a folder inside ComfyUI's **input** folder, put 20 to 200 pictures into it, \
press R and choose it in stage 1. With your own checkpoint: put stage 1 of this graph in place of \
that of **erase_concept_sd15** or **erase_concept_sdxl**."""
STAGE_IMAGES = """### 1 Your pictures
Whatever they all share is learned and then erased, a common background too, so let everything \
but the concept vary. **Load Images from Folder** fits them to one size: the size that your model \
was trained on (64 for the demo, 512 for Stable Diffusion 1, 1024 for XL)."""

ABOUT_STYLE = """# Erase a style
Takes the **{concept}** style out of the demo model, in two ways at once: a task vector learned \
from pictures that share nothing but the style, and an edit of how the style's name is read.

Another style: write its name for *{concept}* into **prompt**, **caption** and **concept** of \
stage 1, into **concepts** of stage 3, into **filename_prefix** of Save Task Vector, and into the \
*Prompt* nodes and titles of the last stage. Take it out of **What must stay** and of **preserve** \
(stage 3), which name the other styles: what is both learned and kept is not erased. **contrast** \
holds the subjects without a style, so it stays. The demo model draws noto, fluent and ink."""
STAGE_STYLE = """### 1 Pictures in the style
The prompts name {subjects} different subjects in one style, a line each; they take turns. All \
stand there twice, once for each of two kinds of caption. With one subject only, the subject would \
be erased along with the style."""
STAGE_2_STYLE = """### 2 Learn it
Of three pictures one is learned under the name of its subject, one under its own prompt \
(**caption**, a line for each prompt) and one under none (**caption_share**), and only where a \
picture is still mostly noise (**least_noise**): there styles are settled. **guidance** learns \
what the style adds to a picture of its subject (**contrast**). The **retained set** holds the \
same subjects in the other styles. These are our additions."""
STAGE_WORDS = """### 3 The words
**UCE** edits what the name in **concepts** is read as: the keys and values of cross-attention, in \
closed form, in a second. Names in **preserve** are held. Nothing that draws is touched."""
LESS = """### 4 Both, added
With the words out of the way less of the learned vector is enough{share}, so the rest suffers \
less."""
STAGE_SUM = LESS.format(share=" (**second_factor** 0.5: half of it)") + LORA_FILE
STAGE_SUM_STYLE = (
    LESS.format(share="")
    + """ A style is the harder case: some pictures keep the look.

**erased = base - strength x sum**. 0 changes nothing. Judge it at the CFG you draw with."""
    + LORA_FILE
)
COMPARE_STYLE = "The upper grid should lose the ink look, the lower one should stay as it is."

ABOUT_VECTOR = """# Apply a downloaded vector
No training: **Load Task Vector** reads a **.tv.safetensors** file, **Apply Negated TV** subtracts \
it.

Put a download into **models/task_vectors**, press R and choose it. The file chosen here is the \
one that **erase_concept** saves: run that workflow once, or choose another file.

Every workflow here that learns, but **erase_style**, saves under that name, so if another ran \
first, the file is its own. That of **erase_concept_auto** wants strength {auto}, that of \
**erase_two_concepts** {two}; one of another model is refused.

**Its model:** replace Demo Model by *Load Checkpoint*, and the 64 x 64 of Empty Latent Image by \
the size you draw in."""
STAGE_VECTOR = """### 1 The vector
A file fits the model it was made from, and says which that is. With another model the next node \
stops and says so. For a finetune or merge of the same base set **other_weights** to *allow*, \
and look at the result with care.

The stock *Load LoRA (Model Only)* node reads the file as well: there, strength -{strength} does \
what {strength} does here."""

ABOUT_TWO = """# Erase two concepts
Takes **{first}** and **{second}** out of the demo model at once, with two vectors that are \
learned side by side and then added.

Other concepts: as in **erase_concept**, in both groups 1. Neither may stand in **What must \
stay**."""
STAGE_TWO = """### 3 Add, then subtract
**Combine Task Vectors** adds them. Its report says how alike they are (cosine): near 0 they \
hardly disturb each other, near 1 they are almost the same edit, and the sum is too strong.

Two edits harm more than one. Lower a factor when the other things suffer."""
COMPARE_THREE = "The first two grids should lose their concepts, the third should keep the {kept}."

STAGE_BLUEPRINT = """### 2 Learn it
**Concept Fine-tune** trains under *empty* captions, so the change does not hang on a prompt. The \
defaults suit Stable Diffusion 1: 200 steps of 16 pictures, 1e-5, EMA on. Connect **task_vector** \
to **Save Task Vector** to keep what was learned."""

FEW_STEPS = """**Turbo, Lightning, LCM** and their like: set steps, CFG and sampler in stage 1 \
and in the four KSamplers to what your checkpoint asks for."""
ABOUT_SD15 = (
    """# Stable Diffusion 1.5
Takes **{concept}** out of your own checkpoint. Choose the file in **Load Checkpoint** first; any \
model of the 1.x family works.

"""
    + ANOTHER
    + """

**Memory**, estimated: 15.7 GiB for all weights, 15.0 with gradient checkpointing, which turns \
itself on when it is needed: a 24 GB card. 16 GB: **optimizer** *AdamW 8-bit* (**pip install \
bitsandbytes**), 10.9 GiB. 12 GB: the same with **gradient_checkpointing** on, 10.2. 8 GB: \
**rank** 16 **with** **learning_rate** 1e-4, or a Block Mask with *cross_attention*, about 3 GiB. \
The node says its own estimate, and refuses before the first step when it cannot fit.

**Time.** 200 drawings and 3,200 training passes; not timed on a GPU. The node shows the seconds \
left. For a first look choose the preset *Quick look* in stages 1 and 2.

"""
    + FEW_STEPS
)
STAGE_FULL = """### 2 Learn it
The paper's settings: 200 steps of 16 pictures, 1e-5, EMA (a running mean of the \
weights). **accumulation** 16 computes one picture \
at a time: slower, least memory, the same result.

We have not measured how well it erases on this checkpoint. **erase_concept_auto** adds a retained \
set, captions on half of the pictures and **guidance**, which erased more for less harm on the \
demo model: to try them, set **caption** to {prompt}, **caption_share** to 0.5, **guidance** to \
your CFG, connect pictures of other things as **retained_set**, and begin at strength 1. Its edit \
of the words by **UCE** can be added as well: there half of the vector was then enough.

ComfyUI's stock Load LoRA node reads the saved file, and erases with it at a *negative* strength. \
It is as large as the weights in float32, 3.4 GB; **dtype** *bfloat16* halves it."""
STAGE_STRENGTH = """### 3 Subtract
{strength} is where to begin, not an answer. Look at the grids, then go up or down by 0.25. Only \
this node and the *after* row of each grid run again."""
ABOUT_SDXL = (
    """# Stable Diffusion XL
Takes **{concept}** out of your own XL checkpoint. Choose the file in **Load Checkpoint** first.

"""
    + ANOTHER
    + """

**Memory**, estimated: all 2.6 billion weights would need 44 GiB. Here **rank** 16 trains a change \
of low rank (two thin matrices, as in a LoRA): 12.3 GiB, or 6.5 with gradient checkpointing, which \
turns itself on when it is needed, and 9.7 GiB of main memory. Still too much: a Block Mask with \
fewer blocks, or pictures of 768 pixels.

**Time.** 64 drawings and 3,200 training passes; not timed on a GPU. The node shows the seconds \
left. The presets of Concept Fine-tune set **rank** to 0: set 16 and **learning_rate** 1e-4 again \
afterwards.

"""
    + FEW_STEPS
)
STAGE_RANK = """### 2 Learn it
A change of rank 16 in each matrix, at a higher rate than full weights take. These two numbers \
are a place to begin that we have not measured on this checkpoint; the paper trains full weights \
of Stable Diffusion 1. **Save Task Vector** has a **max_error** of 0.01, which keeps such a change \
whole and the file small.

Check that it learned: draw with **tuned** and an empty prompt. It should show the concept."""
