from pathlib import Path

from shared import GPUS, a_record

from launcher.cli.screen import header, noted, rows, rows_of, summary
from launcher.records.record import File
from launcher.running.job import Made


def test_a_header_says_what_is_about_to_happen(ask):
    text = header(ask("cp=ring_anything", "cp.ring_degree=3", "height=1000", "seed=5"), Path("outputs/x"))
    told = {line[:10].strip(): line[11:] for line in text.splitlines()}
    assert told["size"] == "1000 x 512 pixels, rendered at 1008 x 512 and cropped"
    assert told["parallel"] == "ring_anything, ring_degree 3, schedule gather"
    assert told["devices"] == "3 ranks on the CPU, 1 thread each, float32"
    assert told["seed"] == "5"
    assert told["run"] == "outputs/x"


def test_uneven_ranks_are_counted(ask):
    assert "2 ranks hold 171 + 342; 1 rank holds" not in rows_of(ask("cp=none"))["tokens"]
    told = rows_of(ask("cp=ring_anything", "cp.ring_degree=3"))["tokens"]
    assert told == "512 text + 1024 image; 1 rank holds 171 + 342, 1 rank holds 171 + 341, 1 rank holds 170 + 341"
    assert "each rank holds 256 + 512" in rows_of(ask("cp=ring", "cp.ring_degree=2"))["tokens"]


def test_gpus_are_named(ask):
    assert rows_of(ask("cp=ring_anything", machine=GPUS))["devices"] == "4 ranks on NVIDIA H100 80GB HBM3, bfloat16"


def test_notes_are_numbered_where_there_are_several():
    assert noted(["a"]) == {"note": "a"}
    assert noted(["a", "b"]) == {"note 1": "a", "note 2": "b"}


def test_long_rows_are_folded():
    assert rows({"a": "b " * 20}, 30).count("\n") == 1


def test_a_summary_names_the_files():
    files = (File("0000.png", "ab", 1, 2, 3, 4, 0), File("0001.webp", "ab", 1, 2, 3, 5, 0, frames=6, fps=7))
    times, peaks = {"load": 1.0, "denoise": 0.2}, (3 << 20, 5 << 20)
    made = Made(Path("x"), a_record(files=files, seconds=1.25, times=times, peak_bytes=peaks))
    assert summary(made).splitlines() == [
        "picture    x/0000.png  (2 x 3, seed 4)",
        "video      x/0001.webp  (6 frames of 2 x 3, 7 a second, seed 5)",
        "seconds    1.2 (load 1.0, denoise 0.2)",
        "peak MiB   3, 5 (ranks 0, 1, ...)",
    ]
