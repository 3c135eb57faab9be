"""Weights of a pipeline's transformers in fewer bits: what is offered, what it needs, and what it takes.

Each rank quantises the same weights in the same way, so any number of ranks draws what one rank draws with them.
Without torch: rules and estimates ask here before a start.
"""

NONE = "none"
# Of linear layers, to 8 bits with a scale for each row; what computes them multiplies in the run's own dtype.
WAYS = (NONE, "int8", "fp8")
PACKAGE, EXTRA = "torchao", "quantization"
NOT_OFFERED = dict.fromkeys(
    ("nf4", "fp4", "bnb", "bitsandbytes", "bnb_nf4"),
    "is not offered: bitsandbytes needs a GPU, and was not run with ranks that share a picture on some",
)
# Its attention hands weights to an operator that torchao has none for.
UNFIT = ("HunyuanDiT2DModel",)
CAPABILITY = {"fp8": (8, 9)}  # of a GPU, at least
BYTES = 1  # of a weight; scales and layers that are no linear ones added 4.5% in flux_tiny, and add less to larger ones
