"""Ring attention over uneven shards: this rank's queries against every rank's keys.

Schedule "gather": bring all keys and values into one buffer, attend once. No log-sum-exp is needed, any mask works.
"""

import math

import torch

from attention_backends import exchange, kernels
from attention_backends.layout import Layout
from attention_backends.masks import RowMask
from attention_backends.topology import Topology


def gather_keys(
    key: torch.Tensor, value: torch.Tensor, keys: Layout, topology: Topology
) -> tuple[torch.Tensor, torch.Tensor]:
    """All keys and values of this rank's ring: (B, S_total, Hkv, D) views of one buffer, real tokens only.

    The buffer is token-major, (S, B, Hkv, Dk + Dv), so that any run of tokens is one contiguous message.
    """
    index, width = topology.ring_index, key.shape[-1]
    packed = torch.cat([key, value], dim=-1).transpose(0, 1)
    buffer = packed.new_empty((keys.total, *packed.shape[1:]))
    blocks = buffer.split(list(keys.lengths))
    blocks[index].copy_(packed)
    others = [i for i in range(topology.ring_degree) if i != index]
    sends = [(topology.ring[i], blocks[index]) for i in others]
    receives = [(topology.ring[i], blocks[i]) for i in others]
    exchange.wait(exchange.post(sends, receives, topology.group))
    whole = buffer.transpose(0, 1)
    return whole[..., :width], whole[..., width:]


def causal_bias(
    queries: tuple[int, int], keys: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Additive bias (1, 1, Sq, Skv) that hides keys after the query, by global positions (half-open ranges)."""
    query = torch.arange(*queries, device=device)[:, None]
    key = torch.arange(*keys, device=device)[None, :]
    return torch.zeros((), dtype=dtype, device=device).masked_fill(key > query, -math.inf)[None, None]


def ring_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: RowMask | None,
    queries: Layout,
    keys: Layout,
    topology: Topology,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    kernel: str = "auto",
) -> torch.Tensor:
    """(B, Sq, H, D) against the keys of the whole ring. `queries` and `keys` are the layouts over the ring."""
    key, value = gather_keys(key, value, keys, topology)
    bias = mask.bias(0, keys.total, kernels.lse_dtype(query.dtype)) if mask is not None else None
    if is_causal:
        begin = queries.offsets[topology.ring_index]
        causal = causal_bias(
            (begin, begin + query.shape[1]), (0, keys.total), kernels.lse_dtype(query.dtype), query.device
        )
        bias = causal if bias is None else bias + causal
    return kernels.attend(query, key, value, bias, scale=scale, kernel=kernel)[0]
