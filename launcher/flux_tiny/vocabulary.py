"""The words that flux_tiny understands, and what they mean. Imports nothing heavy: the launcher's help prints it.

`read` is the one definition of a prompt's meaning: the text encoders are trained to agree with it and the score asks
it what a picture should show.
"""

import itertools
import re
from dataclasses import dataclass

# Synonyms of each pattern; the first is the name used in records and scores.
PATTERNS: dict[str, tuple[str, ...]] = {
    "horizontal stripes": ("horizontal stripes", "horizontal lines", "horizontal bands"),
    "vertical stripes": (
        "vertical stripes",
        "vertical lines",
        "vertical bands",
        "stripes",
        "striped",
        "lines",
        "bands",
    ),
    "diagonal stripes": ("diagonal stripes", "diagonal lines", "diagonal bands", "slanted stripes", "slanted lines"),
    "checkerboard": ("checkerboard", "checkerboards", "checkers", "checkered", "checks", "chessboard", "squares"),
    "waves": ("waves", "wavy stripes", "wavy lines", "wavy", "ripples", "wave"),
    "dots": ("dots", "polka dots", "spots", "circles", "dotted", "discs"),
}

# sRGB, 0 to 255: near the corners of the colour cube, so that the nearest named colour of a pixel is never in doubt.
COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (20, 20, 28),
    "white": (248, 248, 244),
    "red": (220, 36, 44),
    "green": (28, 158, 68),
    "blue": (32, 64, 212),
    "yellow": (250, 212, 36),
    "pink": (236, 92, 200),
    "turquoise": (40, 208, 220),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black", "ebony", "jet"),
    "white": ("white", "ivory", "snow"),
    "red": ("red", "scarlet", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy", "cobalt"),
    "yellow": ("yellow", "golden", "gold"),
    "pink": ("pink", "magenta", "fuchsia"),
    "turquoise": ("turquoise", "cyan", "aqua", "teal"),
}

# Pixels a period. 32*pi pixels are 2*pi tokens of 16 pixels, so that the first frequency of FLUX's rotary embedding
# (1 radian a token) is the pattern's own phase: attention can match equal phases on a canvas of any size.
SCALES: dict[str, float] = {"large": 100.53096491487338, "small": 50.26548245743669}
SCALE_WORDS: dict[str, tuple[str, ...]] = {
    "large": ("large", "big", "wide", "broad", "bold", "huge"),
    "small": ("small", "tiny", "narrow", "thin", "fine", "little"),
}

EXAMPLES: tuple[str, ...] = (
    "red dots on a yellow background",
    "large blue diagonal stripes on white",
    "green and black checkerboard",
    "small pink waves on a turquoise background",
    "white vertical stripes on red",
    "thin yellow horizontal lines on blue",
)


@dataclass(frozen=True)
class Meaning:
    """What a picture should show: names out of PATTERNS, COLOURS and SCALES."""

    pattern: str = "dots"
    foreground: str = "blue"
    background: str = "white"
    scale: str = "large"

    def prompt(self) -> str:
        """The plainest words for it."""
        return f"{self.scale} {self.foreground} {self.pattern} on a {self.background} background"


def every_meaning() -> list[Meaning]:
    """All pictures of the domain: pattern x colour x other colour x scale."""
    return [
        Meaning(pattern, foreground, background, scale)
        for pattern, (foreground, background), scale in itertools.product(
            PATTERNS, itertools.permutations(COLOURS, 2), SCALES
        )
    ]


def words(text: str) -> list[str]:
    """Lower-case words of a prompt, without punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


_COLOUR_OF = {word: name for name, synonyms in COLOUR_WORDS.items() for word in synonyms}
_SCALE_OF = {word: name for name, synonyms in SCALE_WORDS.items() for word in synonyms}
_PATTERN_OF = {phrase: name for name, synonyms in PATTERNS.items() for phrase in synonyms}


def read(prompt: str) -> Meaning:
    """What a prompt means. Words outside the vocabulary are passed over; what is left out takes Meaning's default.

    The background is the colour right before "background" or "ground", or the first after "on", "over" or "against";
    otherwise the second colour named. The first other colour is the foreground.
    """
    found = words(prompt)
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(found)]
    named = [_PATTERN_OF[phrase] for phrase in pairs + found if phrase in _PATTERN_OF]
    directions = {"horizontal", "vertical", "diagonal", "wavy", "slanted", "polka"} & set(found)
    pattern = named[0] if named else Meaning.pattern
    if named and directions and pattern == "vertical stripes":  # "diagonal red stripes": the direction stands apart
        word = next(w for w in found if w in directions)
        pattern = {
            "horizontal": "horizontal stripes",
            "diagonal": "diagonal stripes",
            "slanted": "diagonal stripes",
        }.get(word, "waves" if word == "wavy" else pattern)
    colours = [(i, _COLOUR_OF[w]) for i, w in enumerate(found) if w in _COLOUR_OF]
    behind = next((c for i, c in colours if found[i + 1 : i + 2] in (["background"], ["ground"])), None)
    if behind is None:
        after = next((i for i, w in enumerate(found) if w in ("on", "over", "against")), len(found))
        behind = next((c for i, c in colours if i > after), None)
    rest = [c for _, c in colours]
    if behind is not None:
        rest.remove(behind)
    front = rest[0] if rest else None
    if behind is None:
        behind = next((c for c in rest[1:] if c != front), None)
    if front is None:
        front = "blue" if behind != "blue" else "white"
    if behind is None or behind == front:
        behind = "white" if front != "white" else "blue"
    scale = next((_SCALE_OF[w] for w in found if w in _SCALE_OF), Meaning.scale)
    return Meaning(pattern, front, behind, scale)
