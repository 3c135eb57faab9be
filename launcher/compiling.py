"""torch.compile of a pipeline's transformers: what is compiled, and with what that was tested.

It changes a picture by rounding. Without torch: rules ask here before a start.
"""

NONE, REGIONAL, FULL = "none", "regional", "full"
# regional: the blocks that a transformer repeats, each kind once; full: the transformer as one graph.
WAYS = (NONE, REGIONAL, FULL)
