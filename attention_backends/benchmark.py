"""Ours beside diffusers' own, and others that are installed (peers.py), in one process group, in turns, in one table.

    python -m attention_backends.benchmark --ranks 2 --tokens 4545
    python -m attention_backends.benchmark --step          # a whole FLUX step on --ranks ranks and on one

Starts its ranks itself; where RANK is set (torchrun, or ranks on several hosts or in network namespaces with a limited
link) it joins them instead. Times are of the slowest rank of each turn.
"""

import argparse
import contextlib
import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from attention_backends import attention2d, exchange, kernels, peers
from attention_backends.diffusers_seam import theirs
from attention_backends.layout import Layout, split_lengths
from attention_backends.ring import Ring, start
from attention_backends.schedule import measure
from attention_backends.steps import COMPUTE, WIRE, Table, step_table, timed
from attention_backends.topology import Topology
from attention_backends.unified import context_parallel_attention
from attention_backends.workload import Speeds

Absent = dict[str, str]  # which peers have no row, and why
# What only one of the two tables asks for, with defaults. double: steps.py's.
ATTENTION = {"heads": 4, "head_dim": 64}
STEP: dict[str, int | None] = {"layers": 12, "double": None, "hidden": 512, "text": 512}


@dataclass(frozen=True)
class Row:
    """One line of the table. ours: our exchanges count what it sends. exact: its result is attention."""

    call: Callable[[], Any]
    ours: bool = True
    exact: bool = True


def rows(topology: Topology, layout: Layout, qkv: list[torch.Tensor], others: peers.Calls) -> dict[str, Row]:
    group, world = topology.group, topology.world_size
    ring = Topology(group, topology.rank, world, 1)
    row = Topology(group, topology.rank, 1, world)
    whole = [x.new_empty((x.shape[0], layout.total, *x.shape[2:])).normal_() for x in qkv]
    operator = kernels.choose("auto", qkv[0], qkv[2], mask=False, lse=True)

    speeds = measure(group, heads=qkv[0].shape[2], head_dim=qkv[0].shape[3], dtype=qkv[0].dtype, device=qkv[0].device)

    def ours(where: Topology, schedule: str, speeds: Speeds | None = None) -> Row:
        more: dict[str, Any] = {"topology": where, "schedule": schedule, "speeds": speeds}
        return Row(lambda: context_parallel_attention(*qkv, queries=layout, keys=layout, **more))

    across = max(degree for degree in range(1, world) if world % degree == 0 and degree * degree <= world)
    squares = Topology(group, topology.rank, world // across, across)

    def grid() -> torch.Tensor:
        return attention2d.context_parallel_attention(*qkv, queries=layout, keys=layout, topology=squares)

    def wire() -> None:
        start(Ring(layout, layout, topology=ring), qkv[1], qkv[2]).wait()

    return {
        **{f"diffusers {name}": Row(call, ours=False) for name, call in theirs.calls(topology, qkv).items()},
        **{name: Row(call, ours=False) for name, call in others.items()},
        "ring gather": ours(ring, "gather"),
        "ring staged": ours(ring, "staged"),
        "ring auto": ours(ring, "auto", speeds),
        "ulysses_anything": ours(row, "gather"),
        **({f"attention2d {world // across} x {across}": Row(grid)} if across > 1 else {}),
        COMPUTE: Row(lambda: kernels.attend(operator, qkv[0], whole[1], whole[2]), exact=False),
        WIRE: Row(wire, exact=False),
    }


def refusal(call: Callable[[], Any], group: dist.ProcessGroup) -> str:
    """What others' code says of this shape, if any rank's fails; ranks see the same shapes and fail alike."""
    why = ""
    try:
        call()
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
    failed = torch.tensor([float(bool(why))])
    dist.all_reduce(failed, op=dist.ReduceOp.MAX, group=group)
    return why or ("another rank failed" if failed.item() else "")


def attention_table(
    arguments: argparse.Namespace, group: dist.ProcessGroup, device: torch.device
) -> tuple[Table, Absent]:
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    topology = Topology(group, rank, world, 1)
    layout = Layout(split_lengths(arguments.tokens, world))
    generator = torch.Generator().manual_seed(0)
    shape = (1, arguments.tokens, arguments.heads, arguments.head_dim)
    whole = [torch.randn(shape, generator=generator) for _ in range(3)]
    begin, end = layout.offsets[rank], layout.offsets[rank + 1]
    qkv = [x[:, begin:end].to(device, getattr(torch, arguments.dtype)).contiguous() for x in whole]
    q, k, v = (x.double().transpose(1, 2) for x in whole)
    exact = torch.nn.functional.scaled_dot_product_attention(q[:, :, begin:end], k, v).transpose(1, 2)
    others, absent = peers.calls(topology, layout, qkv)
    lines = rows(topology, layout, qkv, others)
    results: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for name, row in list(lines.items()):  # warm up, check, count
            if not row.ours and (why := refusal(row.call, group)):
                absent[name] = why
                del lines[name]
                continue
            row.call()
            exchange.reset_counters()
            out = row.call()
            error = float((out.cpu().double() - exact).abs().max()) if row.exact else None
            count = exchange.counters().asdict() if row.ours else {}
            results[name] = {"row": name, "error": error, **count, "times": []}
        for _ in range(arguments.turns):
            for name, row in lines.items():
                results[name]["times"].append(timed(row.call, group, device))
    table = []
    for entry in results.values():
        times = entry.pop("times")
        entry |= {"ms_median": statistics.median(times), "ms_min": min(times)}
        table.append(entry)
    find = {entry["row"]: entry["ms_median"] for entry in table}
    limit = max(find[COMPUTE], find[WIRE])
    for entry in table:
        entry["to_diffusers"] = entry["ms_median"] / find["diffusers ring_anything"]
        entry["to_limit"] = entry["ms_median"] / limit
    return table, absent


def processor() -> str:
    """The CPU's name, where Linux tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.partition(": ")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    return "CPU"


def show(table: Table) -> str:
    columns = list(dict.fromkeys(name for entry in table for name in entry))

    def cell(value: Any) -> str:
        if value is None:
            return ""
        return (f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.2f}") if isinstance(value, float) else str(value)

    lines = [columns, *([cell(entry.get(name)) for name in columns] for entry in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def run(rank: int, arguments: argparse.Namespace, port: int | None) -> None:
    if port is not None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(arguments.ranks), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    cuda = arguments.device == "cuda"
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    torch.set_num_threads(arguments.threads)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    group = dist.group.WORLD
    assert group is not None
    table, absent = (step_table if arguments.step else attention_table)(arguments, group, device)
    if dist.get_rank() == 0:
        shape = ("text", "layers", "double", "hidden") if arguments.step else ("heads", "head_dim")
        about = {name: getattr(arguments, name) for name in ("tokens", *shape, "dtype", "device")}
        about["ranks"] = dist.get_world_size()
        about["on"] = (
            torch.cuda.get_device_name(device) if cuda else f"{processor()}, {arguments.threads} thread(s) a rank"
        )
        if arguments.json:
            print(json.dumps({**about, "table": table, "absent": absent}), flush=True)
        else:
            print(about, show(table), *(f"{peer}: {why}" for peer, why in absent.items()), sep="\n", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def asked(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was typed, and defaults. What can't be measured ends with what to type, before a rank starts."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m attention_backends.benchmark", description=__doc__, formatter_class=raw)
    parser.add_argument(
        "--ranks", type=int, help="ranks to start, 2 by default; where RANK is set they are started already"
    )
    parser.add_argument("--tokens", type=int, default=4545, help="tokens of the whole sequence")
    parser.add_argument("--heads", type=int, help="of one attention, 4 by default")
    parser.add_argument("--head-dim", type=int, help="of one attention, 64 by default")
    parser.add_argument("--dtype", default="float32", choices=["float64", "float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads a rank")
    parser.add_argument("--turns", type=int, default=12, help="how often each row is timed")
    parser.add_argument("--step", action="store_true", help="time a whole FLUX step instead of one attention")
    parser.add_argument("--layers", type=int, help="of --step, 12 by default")
    parser.add_argument(
        "--double", type=int, help="of --step: how many layers have two streams, a third by default; others are single"
    )
    parser.add_argument("--hidden", type=int, help="of --step, in heads of 64; 512 by default")
    parser.add_argument("--text", type=int, help="of --step: how many of --tokens are text, 512 by default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    for step, of in ((True, STEP), (False, ATTENTION)):
        for name, default in of.items():
            if getattr(arguments, name) is None:
                setattr(arguments, name, default)
            elif step != arguments.step:
                option = f"--{name.replace('_', '-')}"
                parser.error(
                    f"{option} is nothing without --step" if step else f"{option} is nothing with --step: type --hidden"
                )
    if why := wrong(arguments):
        parser.error(why)
    return arguments


def wrong(arguments: argparse.Namespace) -> str:
    """What can't be measured, and what to type; nothing if all can be. Sets ranks: who sets RANK decides them."""
    started = "RANK" in os.environ
    world = int(os.environ.get("WORLD_SIZE", "1")) if started else 2
    if started and arguments.ranks not in (None, world):
        return f"--ranks {arguments.ranks}, and {world} are started already (WORLD_SIZE): leave it out"
    arguments.ranks = world if arguments.ranks is None else arguments.ranks
    least = {"ranks": 2, "tokens": arguments.ranks, "heads": 1, "head_dim": 1, "threads": 1, "turns": 1, "layers": 1}
    least |= {"hidden": 64, "text": 1, "double": 0}
    for name, bound in least.items():
        if (value := getattr(arguments, name)) is not None and value < bound:
            return f"--{name.replace('_', '-')} {value} is too few: type {bound} or more"
    if arguments.step and arguments.hidden % 64:
        below = arguments.hidden // 64 * 64
        return f"--hidden {arguments.hidden} does not divide into heads of 64: type {below} or {below + 64}"
    if (arguments.double or 0) > arguments.layers:
        return f"--double {arguments.double} of --layers {arguments.layers}: type {arguments.layers} or less"
    if arguments.step and arguments.text >= arguments.tokens:
        return f"--text {arguments.text} of --tokens {arguments.tokens}: type {arguments.tokens - 1} or less"
    here = torch.cuda.device_count()
    if arguments.device == "cuda" and not started and arguments.ranks > here:
        return f"--device cuda with --ranks {arguments.ranks}, and torch sees {here} GPUs: NCCL wants one for each rank"
    return ""


def main() -> None:
    arguments = asked()
    if "RANK" in os.environ:
        run(int(os.environ["RANK"]), arguments, None)
        return
    import socket

    from torch.multiprocessing.spawn import spawn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(run, (arguments, port), arguments.ranks)


if __name__ == "__main__":
    main()
