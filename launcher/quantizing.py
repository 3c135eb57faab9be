"""Weights of a pipeline's transformers in fewer bits: what is offered, what it needs, and what it takes.

Each rank quantises the same weights in the same way, so any number of ranks draws what one rank draws with them.
Without torch: rules and estimates ask here before a start.
"""

NONE = "none"
NF4 = "nf4"
# Of linear layers, to 8 bits with a scale for each row, or to 4 with one for 64 numbers; what computes them multiplies
# in the run's own dtype.
WAYS = (NONE, "int8", "fp8", NF4)
PACKAGES = {"int8": "torchao", "fp8": "torchao", NF4: "bitsandbytes"}
EXTRAS = {"torchao": "quantization", "bitsandbytes": "bitsandbytes"}
# Its attention hands weights to an operator that torchao has none for.
UNFIT = ("HunyuanDiT2DModel",)
CAPABILITY = {"fp8": (8, 9)}  # of a GPU, at least
# Of a weight, with 4 bits its scale too; what is in no linear layer added 4.5% and 8% in flux_tiny, and adds less to
# larger ones.
BYTES = {"int8": 1.0, "fp8": 1.0, NF4: 1 / 2 + 4 / 64}
