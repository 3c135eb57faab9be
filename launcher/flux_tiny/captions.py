"""Random prompts of the domain, for training. `vocabulary.read` says what each means."""

import random
import string

from launcher.flux_tiny.model import FILLERS
from launcher.flux_tiny.vocabulary import COLOUR_WORDS, PATTERNS, SCALE_WORDS, Meaning

# {s} scale, {f} foreground, {b} background, {p} pattern, {d} a direction apart from its {n}oun.
BOTH_COLOURS = (
    "{s} {f} {p} on a {b} background",
    "{s} {f} {p} on {b}",
    "a {b} background with {s} {f} {p}",
    "{f} and {b} {s} {p}",
    "{s} {f} and {b} {p}",
    "{s} {p} in {f} on {b}",
    "{s} {p}, {f} on {b}",
    "{s} {p} in {f} and {b}",
    "{f} {s} {p} over a {b} ground",
    "{f} {p} against {b}, {s}",
    "{s} {f} {p}, {b} background",
    "{s} {d} {f} {n} on {b}",
    "{s} {d} {f} and {b} {n}",
)
PARTIAL = ("{s} {f} {p}", "{p}", "{s} {p} on {b}", "{f} on {b}", "{f}", "{p} {f}", "")
OPENINGS = ("", "", "", "", "a", "the", "a wallpaper of", "seamless pattern of", "a picture of", "please draw", "some")


def caption(meaning: Meaning, rng: random.Random) -> str:
    """Words for it, most often complete, sometimes with parts left out, odd words or odd capitals."""
    templates = PARTIAL if rng.random() < 0.08 else BOTH_COLOURS
    phrase = rng.choice(PATTERNS[meaning.pattern])
    template = rng.choice(templates)
    if "{d}" in template:
        phrase = next((p for p in PATTERNS[meaning.pattern] if " " in p), phrase)
        if " " not in phrase:
            template = BOTH_COLOURS[0]
    direction, _, noun = phrase.partition(" ")
    plain = rng.random() < 0.5  # the first synonym half of the time
    pick = (lambda names: names[0]) if plain else rng.choice
    scale = "" if meaning.scale == "large" and rng.random() < 0.4 else pick(SCALE_WORDS[meaning.scale])
    text = template.format(
        s=scale,
        f=pick(COLOUR_WORDS[meaning.foreground]),
        b=pick(COLOUR_WORDS[meaning.background]),
        p=phrase,
        d=direction,
        n=noun,
    )
    found = f"{rng.choice(OPENINGS)} {text}".split()
    while rng.random() < 0.15:
        odd = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7)))
        found.insert(rng.randint(0, len(found)), rng.choice([odd, rng.choice(FILLERS.split())]))
    text = " ".join(found) + rng.choice(["", "", "", ".", "!"])
    return rng.choice([text, text, text, text.capitalize(), text.title(), text.upper()])
