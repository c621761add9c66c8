#!/usr/bin/env python3
"""A tiny PyTorch program under torch.profiler: what `perfprof analyze` says of its trace against the sums of the profiler itself. Prints JSON."""

import argparse
import json
import subprocess
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perfprof", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    import torch
    from torch.profiler import ProfilerActivity, profile

    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    layer = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024), torch.nn.LayerNorm(1024))
    layer = layer.to(device="cuda", dtype=torch.bfloat16)
    x = torch.randn(64, 1024, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        for _ in range(3):
            layer(x)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(50):
                x = layer(x)
            torch.cuda.synchronize()
    trace = out / "trace.json"
    profiler.export_chrome_trace(str(trace))
    # The profiler's own records, not its trace file: another way out of the same run.
    kernels = [event for event in profiler.profiler.kineto_results.events()
               if str(event.device_type()).endswith("CUDA") and not event.name().startswith(("Memcpy", "Memset")) and event.duration_ns() > 0
               and not event.is_user_annotation()]
    done = subprocess.run([options.perfprof, "--json", "--output-root", str(out / "runs"), "analyze", str(trace)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"analyze exited with {done.returncode}")
    answer = json.loads(done.stdout)
    print(json.dumps({
        "torch_kernels": len(kernels),
        "torch_us": sum(event.duration_ns() for event in kernels) / 1e3,
        "ours_kernels": (answer.get("coverage") or {}).get("kernels"),
        "ours_us": sum(row["total_ns"] for row in answer.get("operators") or [] if row.get("layer") is None and row.get("class") not in ("copy", "memset")) / 1e3,
        "torch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
