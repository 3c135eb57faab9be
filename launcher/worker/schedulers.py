"""The scheduler that a job asks for, made of the one that its pipeline was loaded with."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np

from launcher.schedulers import Wish, changes, chosen


class UniPCMultistepScheduler(diffusers.UniPCMultistepScheduler):  # type: ignore[misc] # it has no types
    """diffusers' own, which computes with the sigmas that a pipeline gives it: some give a list (Z-Image)."""

    def set_timesteps(
        self, num_inference_steps: Any = None, device: Any = None, sigmas: Any = None, mu: Any = None
    ) -> None:
        """As diffusers', with sigmas in an array."""
        super().set_timesteps(num_inference_steps, device, None if sigmas is None else np.array(sigmas), mu)


KINDS = {UniPCMultistepScheduler.__name__: UniPCMultistepScheduler}


def scheduler(own: Any, wish: Wish) -> Any:
    """Return the pipeline's own scheduler, or a new one that takes its place for a job.

    Raises:
        ValueError: it can't: none follows what the model predicts, or its class refuses an option.
    """
    if wish.empty:
        return own
    config = {**own.config, "_class_name": type(own).__name__}
    kind = chosen(wish, config)
    if kind is None:
        raise ValueError(f"scheduler={wish.name} can't take the place of a {config['_class_name']}; leave it out")
    try:
        return KINDS.get(kind, getattr(diffusers, kind)).from_config(own.config, **changes(wish, config, kind))
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise ValueError(f"scheduler={wish.name}: {kind} refuses its options: {error}") from error
