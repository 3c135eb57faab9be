"""Train flux_tiny on two CPU cores: python -m launcher.flux_tiny.train [--work DIR] [--phase PHASE]

Phases run in order and leave their results in DIR; one that is done is skipped, one that was cut off goes on from its
last checkpoint (text, a few minutes, begins again). `export` writes the pipeline folder.
"""

import argparse
from pathlib import Path

import torch

from launcher.flux_tiny import model, train_autoencoder, train_flow, train_text

PHASES = ("text", "autoencoder", "flow", "export")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launcher.flux_tiny.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("outputs/flux_tiny_training"), help="checkpoints go here")
    parser.add_argument("--phase", choices=PHASES, action="append", help="only this one (may be repeated)")
    parser.add_argument(
        "--ranks", type=int, default=2, help="gloo processes of one thread each that share a step of the flow"
    )
    parser.add_argument("--flow-steps", type=int, default=train_flow.STEPS, help="a resumed run may change its end")
    parser.add_argument("--folder", type=Path, default=model.FOLDER, help="where export writes the pipeline")
    parser.add_argument("--threads", type=int, default=2, help="for the text and autoencoder phases")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    phases = args.phase or PHASES
    pipe = model.pipeline(seed=0)
    if "text" in phases and not (args.work / "t5.safetensors").exists():
        train_text.train(pipe, args.work)
    if "autoencoder" in phases:
        train_autoencoder.train(pipe.vae, args.work)
    if "flow" in phases:
        train_text.load(pipe, args.work)
        train_text.CaptionBank.make(pipe, args.work)
        train_flow.train(args.work, args.flow_steps, args.ranks)
    if "export" in phases:
        train_text.load(pipe, args.work)
        train_autoencoder.load(pipe.vae, args.work)
        train_flow.load(pipe.transformer, args.work)
        print(f"{args.folder}: {model.save(pipe, args.folder) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
