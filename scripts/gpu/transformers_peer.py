#!/usr/bin/env python3
"""Prefill and decode of a Llama-3-8B shape with Hugging Face transformers on the GPU: eager, and compiled with a static cache.

Random weights of the published shape in bf16, batch 1, greedy, exact lengths. Times by CUDA events; a decode step ends with its token on the host, as it does
in perfprof. Prints one JSON object a line.
"""

import argparse
import json
import statistics
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=options.layers, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=False)
    config._attn_implementation = "sdpa"
    with torch.device(options.device):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
    base = {"prompt": options.prompt, "tokens": options.tokens, "torch": torch.__version__, "transformers": transformers.__version__,
            "attention": "sdpa"}
    prompt = torch.randint(0, config.vocab_size, (1, options.prompt), device=options.device)

    def generation(cache, step):
        """One generation: ms of the prompt, ms of each step."""
        event = lambda: torch.cuda.Event(enable_timing=True)
        marks = [event() for _ in range(options.tokens + 1)]
        with torch.inference_mode():
            position = torch.arange(options.prompt, device=options.device)
            marks[0].record()
            logits = model(prompt, past_key_values=cache, cache_position=position, use_cache=True, logits_to_keep=1).logits
            token = logits[:, -1].argmax(-1, keepdim=True)
            token.item()
            marks[1].record()
            for index in range(1, options.tokens):
                at = torch.tensor([options.prompt + index - 1], device=options.device)
                token = step(token, cache, at)
                token.item()
                marks[index + 1].record()
        torch.cuda.synchronize()
        times = [first.elapsed_time(second) for first, second in zip(marks, marks[1:])]
        return times[0], times[1:]

    def plain(token, cache, at):
        logits = model(token, past_key_values=cache, cache_position=at, use_cache=True).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    def measure(name, make_cache, step, warm_up):
        try:
            for _ in range(warm_up):
                generation(make_cache(), step)
            runs = [generation(make_cache(), step) for _ in range(options.repeats)]
            row = {"name": name, "n": len(runs), "prefill_ms": statistics.median(run[0] for run in runs),
                   "tpot_ms": statistics.median(statistics.mean(run[1]) for run in runs), **base}
        except Exception as error:  # noqa: BLE001 - the other way of running must still be measured
            row = {"name": name, "error": f"{type(error).__name__}: {error}"[:300], **base}
        print(json.dumps(row), flush=True)

    measure("eager", lambda: transformers.DynamicCache(), plain, 1)
    length = options.prompt + options.tokens

    def static_cache():
        try:
            return transformers.StaticCache(config=config, max_cache_len=length)
        except TypeError:
            return transformers.StaticCache(config=config, max_batch_size=1, max_cache_len=length, device=options.device, dtype=torch.bfloat16)

    started = time.monotonic()
    compiled_step = torch.compile(plain, mode="reduce-overhead", fullgraph=False)
    # One cache for all generations: a new one has new addresses, and would be compiled and recorded anew.
    cache = static_cache()

    def reset():
        if hasattr(cache, "reset"):
            cache.reset()
        return cache

    measure("compiled, static cache", reset, lambda token, cache, at: compiled_step(token, cache, at).clone(), 2)
    print(f"compiled in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
