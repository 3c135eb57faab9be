"""Names that other programs have for what has another one here, or none at all."""

from __future__ import annotations

# Names that users of diffusers, accelerate and others know for what has another one here.
ELSEWHERE = {
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "inference_steps": "steps",
    "sampling_steps": "steps",
    "guidance_scale": "guidance",
    "cfg": "guidance",
    "cfg_scale": "guidance",
    "embedded_guidance_scale": "guidance",
    "true_cfg_scale": "model.true_cfg",
    "num_images_per_prompt": "images",
    "num_images": "images",
    "batch_size": "batch",
    "num_frames": "frames",
    "frame_rate": "fps",
    "max_sequence_length": "model.text_tokens",
    "torch_dtype": "runtime.dtype",
    "precision": "runtime.dtype",
    "mixed_precision": "runtime.dtype",
    "num_processes": "runtime.processes",
    "nproc_per_node": "runtime.processes",
    "num_gpus": "runtime.processes",
    "gpus": "runtime.processes",
    "n_gpu": "runtime.processes",
    "n_gpus": "runtime.processes",
    "nproc": "runtime.processes",
    "ngpus": "runtime.processes",
    "world_size": "runtime.processes",
    "gpu_ids": "runtime.devices",
    "attention_backend": "attention.kernel",
    "lora": "lora.path",
    "lora_path": "lora.path",
    "lora_scale": "lora.scale",
    "lora_weights": "lora.path",
    "loras": "lora.path",
    "lora_strength": "lora.scale",
    "lora_scales": "lora.scale",
    "lora_paths": "lora.path",
    "adapter_weights": "lora.scale",
    "adapter_name": "lora.name",
    "adapter_names": "lora.name",
    "fuse_lora": "lora.fuse",
    "lora_fuse": "lora.fuse",
    "model_path": "model.path",
    "model_id": "model.path",
    "pretrained_model_name_or_path": "model.path",
    "output_dir": "output.dir",
    "outdir": "output.dir",
    "save_path": "output.dir",
    "neg_prompt": "negative_prompt",
    "random_seed": "seed",
    "init_image": "image",
    "input_image": "image",
    "image_path": "image",
    "mask_path": "mask_image",
    "end_image": "last_image",
    "input_video": "video",
    "init_video": "video",
    "video_path": "video",
    "denoising_strength": "strength",
    "denoise": "strength",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "sampling_method": "scheduler",
    "scheduler_name": "scheduler",
    "solver": "scheduler",
    "vae_tiling": "vae.tiling",
    "enable_vae_tiling": "vae.tiling",
    "tile_size": "vae.tile",
    "vae_slicing": "vae.slicing",
    "enable_vae_slicing": "vae.slicing",
    "tile_sample_min_size": "vae.tile",
    "quantize": "quantization",
    "quantisation": "quantization",
    "quant": "quantization",
    "flow_shift": "scheduler.shift",
    "timestep_shift": "scheduler.shift",
    "time_shift": "scheduler.shift",
    "w": "width",
    "h": "height",
    "ulysses": "cp.ulysses_degree",
    "ring": "cp.ring_degree",
    "ulysses_size": "cp.ulysses_degree",
    "ring_size": "cp.ring_degree",
    "sp": "runtime.processes",
    "sp_size": "runtime.processes",
    "sp_degree": "runtime.processes",
    "sequence_parallel": "runtime.processes",
    "dp": "data",
    "dp_size": "data",
    "dp_degree": "data",
    "data_parallel": "data",
    "data_parallel_degree": "data",
    "start_image": "image",
    "first_image": "image",
    "first_frame": "image",
    "last_frame": "last_image",
    "conditioning_image": "image",
    "control_video": "video",
    "driving_video": "video",
}
# Words that stand elsewhere for an option that is called otherwise here, by the setting.
MEANT = {
    "compile": {
        "true": "regional", "yes": "regional", "on": "regional", "1": "regional", "blocks": "regional",
        "repeated_blocks": "regional", "default": "regional", "inductor": "regional", "max-autotune": "regional",
        "reduce-overhead": "regional", "whole": "full", "fullgraph": "full",
    },
    "runtime.weights": dict.fromkeys(
        ("fsdp", "fsdp2", "full_shard", "zero3", "hsdp", "true", "yes", "on"), "sharded"
    ) | {"full": "replicated", "no_shard": "replicated"},
    "quantization": dict.fromkeys(("bnb", "bitsandbytes", "bnb_nf4", "bnb_4bit", "4bit", "fp4"), "nf4"),
    "runtime.offload": {
        **dict.fromkeys(("true", "yes", "on", "cpu"), "model"),
        **dict.fromkeys(("groups", "block", "blocks", "block_level", "group_offload"), "group"),
        **dict.fromkeys(("layer", "layers", "leaf", "leaf_level", "sequential_cpu_offload"), "sequential"),
    },
}  # fmt: skip
DTYPES = {
    "bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32", "full": "float32",
    "torch.bfloat16": "bfloat16", "torch.float16": "float16", "torch.float32": "float32",
}  # fmt: skip
# Schedulers by the names of diffusers, ComfyUI, A1111 and others, in lower case.
SCHEDULERS = {
    "flowmatcheulerdiscretescheduler": "scheduler=euler", "eulerdiscretescheduler": "scheduler=euler",
    "flow_match_euler": "scheduler=euler", "flowmatch": "scheduler=euler", "euler_discrete": "scheduler=euler",
    "unipcmultistepscheduler": "scheduler=unipc", "uni_pc": "scheduler=unipc", "unipc_multistep": "scheduler=unipc",
    "uni_pc_bh2": "scheduler=unipc", "flow_unipc": "scheduler=unipc",
    "dpmsolvermultistepscheduler": "scheduler=dpmpp_2m", "dpm++ 2m": "scheduler=dpmpp_2m",
    "dpm++": "scheduler=dpmpp_2m", "dpm++_2m": "scheduler=dpmpp_2m", "dpmpp2m": "scheduler=dpmpp_2m",
    "dpm-solver++": "scheduler=dpmpp_2m", "dpm++ 2m karras": "scheduler=dpmpp_2m scheduler.sigmas=karras",
    "deismultistepscheduler": "scheduler=deis", "ddimscheduler": "scheduler=ddim",
    "cogvideoxddimscheduler": "scheduler=ddim", "cogvideoxdpmscheduler": "scheduler=dpm",
    "karras": "scheduler.sigmas=karras", "exponential": "scheduler.sigmas=exponential",
    "beta": "scheduler.sigmas=beta", "simple": "scheduler=auto", "normal": "scheduler=auto",
    "default": "scheduler=auto",
}  # fmt: skip
# Options that other programs, or diffusers, have and this one does not, by the choice, with the reason.
NOT_OFFERED = {
    "cache": dict.fromkeys(
        ("seacache", "sea", "teacache", "dbcache", "text_kv"),
        ("is not offered: it was not tested with ranks that share a picture", "type cache=first_block"),
    )
}
SHARD = ("unknown setting; whether ranks share the weights is chosen by a word", "type runtime.weights=sharded")
OFFLOAD = ("unknown setting; what is kept in host memory is chosen by a word", "type runtime.offload=model")
COMPILE = ("unknown setting; what is compiled is chosen by a word", "type compile=regional")
QUANTISED = ("unknown setting; how weights are quantised is chosen by a word", "type quantization=int8")
KERNEL = ("unknown setting; the kernel of attention is chosen by its name", "type attention=auto")
WHOLE = (
    "every rank computes all layers, with a part of the tokens",
    "type cp=auto, or runtime.weights=sharded for less memory",
)
# What other programs ask for and this one does not, with the reason.
NOT_NEEDED = {
    **dict.fromkeys(
        ("fsdp", "use_fsdp", "fsdp2", "use_fsdp2", "fsdp_inference", "hsdp", "sharding", "sharding_strategy", "zero",
         "zero_stage", "dit_fsdp", "t5_fsdp", "shard", "sharded", "fully_shard"), SHARD,
    ),
    **dict.fromkeys(
        ("enable_model_cpu_offload", "model_cpu_offload", "cpu_offload", "enable_cpu_offload", "offload_model",
         "dit_cpu_offload", "t5_cpu_offload", "text_encoder_cpu_offload", "vae_cpu_offload", "medvram"), OFFLOAD,
    ),
    **dict.fromkeys(
        ("group_offload", "enable_group_offload", "group_offloading", "enable_group_offloading",
         "apply_group_offloading", "dit_layerwise_offload", "layerwise_offload", "blocks_to_swap"),
        (OFFLOAD[0], "type runtime.offload=group"),
    ),
    **dict.fromkeys(
        ("sequential_cpu_offload", "enable_sequential_cpu_offload", "lowvram"),
        (OFFLOAD[0], "type runtime.offload=sequential"),
    ),
    **dict.fromkeys(
        ("torch_compile", "enable_torch_compile", "use_torch_compile", "compile_mode", "compile_model",
         "compile_repeated_blocks", "compile_transformer", "dynamo_backend", "torch_compile_mode"), COMPILE,
    ),
    **dict.fromkeys(
        ("quantization_config", "quant_type", "load_in_8bit", "fp8", "use_fp8", "use_fp8_t5_encoder", "int8",
         "torchao"), QUANTISED,
    ),
    **dict.fromkeys(
        ("load_in_4bit", "nf4", "bitsandbytes", "bnb_4bit_quant_type"), (QUANTISED[0], "type quantization=nf4")
    ),
    **dict.fromkeys(
        ("xformers", "enable_xformers", "use_flash_attn", "enable_xformers_memory_efficient_attention"), KERNEL
    ),
    **dict.fromkeys(
        ("tensor_parallel", "tensor_parallel_degree", "tp", "tp_size", "tp_degree", "pipefusion", "pipefusion_degree",
         "pipefusion_parallel_degree", "pp", "pipeline_parallel"), WHOLE,
    ),
    **dict.fromkeys(
        ("cfg_parallel", "use_cfg_parallel", "enable_cfg_parallel"),
        ("unknown setting; the branches of guidance are shared by a number", "type cp.cfg_degree=2"),
    ),
    **dict.fromkeys(
        ("device_map", "low_cpu_mem_usage"),
        ("each rank holds what it uses, and takes it from its files", "leave it out"),
    ),
    **dict.fromkeys(
        ("conditions", "video_conditions"),
        ("unknown setting; what a film starts from has several", "type image=FILE, last_image=FILE or video=FILE"),
    ),
    "rotate_method": ("cp.schedule says how a ring moves keys and values", "type cp.schedule=gather or leave it out"),
    "main_process_port": ("each group of ranks takes a free port by itself", "leave it out"),
    **dict.fromkeys(
        ("main_process_ip", "rdzv_endpoint", "master_addr", "machine_rank", "node_rank", "num_machines", "nnodes"),
        ("several machines are joined by what started the launcher on them", "type cluster=env or cluster=slurm"),
    ),
    "clip_skip": ("text encoders are used as the model's pipeline uses them", "leave it out"),
    "controlnet": ("no model here takes one", "leave it out"),
    "ip_adapter": ("no model here takes one", "leave it out"),
    "resolution": ("unknown setting; a size is two of them", "type height=1024 width=1024"),
    "size": ("unknown setting; a size is two of them", "type height=1024 width=1024"),
    "teacache": ("unknown setting; a cache of steps is chosen by its name", "type cache=first_block"),
}  # fmt: skip
