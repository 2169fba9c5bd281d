"""Checkpoints of every layout, read as native tensors, one tensor at a time.

Reading guide:

open                                 opens any layout; `Checkpoint` is the result
model_config                         the options under `model.` of a run
locations                            a local folder, or a hub repository at one commit
native, native_config                the moshi layout: LoRA, int8, MLX groups; published sizes
transformers                         the Hugging Face transformers layout
opened                               what both layouts produce
weight_files, gguf, stored_tensors   safetensors and GGUF files, tensor by tensor
settings                             checked access to a checkpoint's JSON files
"""
