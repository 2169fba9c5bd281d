"""Kyutai's speech-to-text models: the Mimi codec, the language model, checkpoints, words.

Reading guide; `speech_to_text` first, the plain implementation that the faster ones are tested
against:

speech_to_text        waveforms to tokens, all rows in lockstep, without slots
mimi, seanet          the codec's encoder: convolutions, transformer, residual vector quantizer
language_model        codes and the last text token to logits and VAD probabilities
transformer           layers, self-attention, rotary embedding, attention window
attention_backends    which attention implementation runs: CPU, flash, Triton, SDPA
attention_kernel      the Triton kernel
kv_cache              the ring of keys and values per slot, also in 8 bits
sampling              greedy, sampled, forced and prompt-constrained tokens

model_runner          what the two runners share: slots, state, encoder, CUDA graphs per bucket
step_runner           rounds of single steps, and the tables they read and write
speculative_runner    rounds of speculative decoding: draft tokens, acceptance
cuda_graphs           CUDA streams, events, pinned copies, CUDA graph capture

loading               a checkpoint onto a device, with as many slots as fit
device, precision     `engine.device` and the dtypes of weights, activations and KV cache
memory_budget         bytes of weights, KV cache and encoder; slots that fit
gpu_specs             data sheets of GPUs, and estimated throughput
weight_quantization   int8 and int4 weights
cpu_weights           weight layouts that are fast on a CPU
torch_private         the private torch operators in use

prompting             domains, prompts, and the words of a recording after its prompt
word_timestamps       tokens to words with times; ends of turns from the VAD heads
tokenizer             SentencePiece and `tokenizer.json`
config                sizes and conventions of a checkpoint
native_tensors        the native (moshi) weight layout as views into our modules
checkpoints           every checkpoint layout, opened as native tensors
"""
