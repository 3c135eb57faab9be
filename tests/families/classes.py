"""Every transformer class of the installed diffusers: how its attention is called, and what is shown of it here.

    python tests/families/classes.py     # writes the table into conf/README.md

Read from the classes' sources: through diffusers' dispatcher, torch's scaled_dot_product_attention, both, or neither.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(HERE), str(HERE.parent / "attention_backends" / "helpers")]

import proof_cases
from miniatures import OTHERS, TINY

TABLE = ROOT / "conf" / "README.md"
BEGIN, END = "<!-- classes: begin -->", "<!-- classes: end -->"
# Why a class has no plan here, where more is known than that none was written.
SOUND = "sound, and the launcher makes pictures and films"
WHY = {
    "SanaTransformer2DModel": "linear attention: a sum over all tokens that no attention call makes",
    "SanaVideoTransformer3DModel": "linear attention beside the dispatcher's",
    "SanaWMTransformer3DModel": "linear attention",
    "LatteTransformer3DModel": "attention by frame and by place in turn: the sequence changes its meaning",
    "TransformerTemporalModel": "attention over time, by place",
    "MochiTransformer3DModel": "picks each prompt's valid tokens, so ranks hold lengths that depend on the data",
    "PriorTransformer": "no picture's tokens: too short to share",
    "LuminaNextDiT2DModel": "scales attention by the number of tokens that it sees itself, a rank's own",
    "NucleusMoEImageTransformer2DModel": "each expert picks its tokens among all of a picture's",
    "AllegroTransformer3DModel": "tokens' places and their table come in one argument, which a plan can't take apart",
    "WanAnimateTransformer3DModel": "each frame's tokens look at the face of that frame: a rank needs whole frames",
    "QwenImage21Transformer2DModel": "attends to pieces of the sequence in turn, by their places in the whole",
    "AnyFlowFARTransformer3DModel": "a block mask over the whole sequence, and chunks keep keys by their places in it",
    "Cosmos3OmniTransformer": "places of text and of picture come in one argument, which a plan can't take apart",
    "Kandinsky6SRTransformer3DModel": "picks what each 64 tokens see from averages over the whole sequence",
    "DreamLiteTransformer2DModel": "the attention of a UNet, whose convolutions go over the whole picture",
    "SanaWMLTX2RefinerTransformer3DModel": "keeps keys of earlier frames, cut by counts of the whole frames' tokens",
    "WanAnimate2Transformer3DModel": "each frame's tokens see that frame of a reference, by a mask over the whole film",
    "DiTTransformer2DModel": "draws from a label, and the launcher from a prompt",
    "RFD4ProteinaTransformer": "proteins, and the launcher makes pictures and films",
    "AceStepTransformer1DModel": SOUND,
    "LongCatAudioDiTTransformer": SOUND,
    "MiniMaxMusic3RVQDepthDecoder": SOUND,
    "MiniMaxMusic3Transformer1DModel": SOUND,
    "StableAudioDiTModel": SOUND,
    "StableAudio3DiTModel": SOUND,
    "T5FilmDecoder": SOUND,
}


# These name every processor there is; what a class passes to them is what counts.
SHARED = ("Attention", "AttentionModuleMixin", "AttentionMixin")


def models() -> Path:
    found = importlib.util.find_spec("diffusers")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "models"


@functools.cache
def _classes(file: Path) -> dict[str, str]:
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    return {node.name: "".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes}


@functools.cache
def _names(source: str) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))


@functools.cache
def sources(file: Path) -> dict[str, str]:
    """The source of each class that a file may name: its own come before what files share, and that before others."""
    others = sorted((models() / "transformers").glob("*.py"))  # some import the blocks of others
    order = (*others, models() / "attention_processor.py", models() / "attention.py", file)
    return {name: source for each in order for name, source in _classes(each).items()}


def transformers() -> dict[str, Path]:
    """Every model class of diffusers' transformers, by name, with its file."""
    found = {}
    for file in sorted((models() / "transformers").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "ModelMixin" for base in node.bases):
                found[node.name] = file
    return found


def attention(name: str, known: dict[str, str]) -> str:
    """How the attention of a class is called: what it and all that it names (blocks, processors) contain."""
    seen, wanted = set(), [name]
    while wanted:
        one = wanted.pop()
        if one in seen:
            continue
        seen.add(one)
        words = _names(known[one])
        if one not in SHARED:
            wanted += [word for word in words if word in known and word not in SHARED]
    text = "\n".join(known[one] for one in seen)
    asks = [
        word
        for word, sign in (("dispatcher", "dispatch_attention_fn("), ("torch", "scaled_dot_product_attention("))
        if sign in text
    ]
    if "torch" not in asks and any(_by_default(known[one]) for one in seen):
        asks.append("torch")
    return " and ".join(asks) or "none found"


@functools.cache
def _by_default(source: str) -> bool:
    """Whether a class makes an Attention without naming its processor: the default one calls torch."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Attention"]
    return any("processor" not in [keyword.arg for keyword in call.keywords] for call in named)


def table() -> str:
    """Markdown: class, file, its attention, and what is shown here."""
    proved: dict[str, str] = {}
    for name, model in proof_cases.MODEL.items():
        proved.setdefault(TINY[name].kind, f"exact, see above{'' if name in OTHERS else f': plan of `{model}`'}")
    lines = ["| class | attention | here |", "| --- | --- | --- |"]
    for name, file in transformers().items():
        known = sources(file)
        own = "" if "_cp_plan = {" not in known[name] else "; diffusers' own plan is taken"
        why = f"`cp=none`: {WHY[name]}" if name in WHY else f"`cp=none`; another mode needs a plan{own}"
        lines.append(f"| {name} | {attention(name, known)} | {proved.get(name, why)} |")
    return "\n".join(lines)


def main() -> None:
    before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
    TABLE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
