"""Weights that wait in main memory until a GPU computes with them: what is offered, and what it does not go with.

    model       a part of the pipeline is on the GPU while it runs
    group       a block of the transformer is, while the next one's weights travel; of other parts a layer
    sequential  a layer is, of every part

Each rank does so for itself. The picture is the same to the bit. Without torch: rules and estimates ask here.
"""

NONE, MODEL, GROUP, SEQUENTIAL = "none", "model", "group", "sequential"
WAYS = (NONE, MODEL, GROUP, SEQUENTIAL)  # the faster first
IN_PIECES = (GROUP, SEQUENTIAL)  # parts that run are not on the GPU as a whole
# What can't have its weights come in pieces, and why: transformers, and pipelines.
UNFIT = {
    "HunyuanDiT2DModel": "its attention computes with weights before they have come",  # diffusers says no to it too
    **dict.fromkeys(
        ("Ideogram4Pipeline", "LongCatImagePipeline"),
        "it puts prompts where the text encoder's weights wait",
    ),
}
