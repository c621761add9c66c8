#!/usr/bin/env python3
"""The simplest streaming load client in asyncio and aiohttp: what one writes in an hour, as a peer of `load_clients.py`.

A closed loop of --conc tasks; each clocks its request from just before the POST, takes every `data:` line with content as one chunk, and
stamps it after its JSON is parsed. Prints one JSON object in ms.
"""

import argparse
import asyncio
import json
import time

import aiohttp


def quantile(values, q):
    """Linear interpolation between order statistics; None of nothing."""
    if not values:
        return None
    values.sort()
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return (values[low] + (values[high] - values[low]) * (at - low)) * 1000


async def one(session, url, body, times):
    begun = last = time.perf_counter()
    first = True
    async with session.post(url, json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            choices = json.loads(line[6:])["choices"]
            if not choices or not choices[0]["delta"].get("content"):
                continue
            now = time.perf_counter()
            times["ttft" if first else "itl"].append(now - (begun if first else last))
            first, last = False, now
    times["e2e"].append(last - begun)


async def load(args):
    times = {"ttft": [], "itl": [], "e2e": []}
    left = iter(range(args.requests))
    prompt = " ".join(["the"] * args.input)
    body = {"model": "mock", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": args.tokens, "messages": [{"role": "user", "content": prompt}]}

    async def user(session):
        for _ in left:
            await one(session, f"{args.url}/v1/chat/completions", body, times)

    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(user(session) for _ in range(args.conc)))
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--conc", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--input", type=int, default=100, help="words of a prompt")
    times = asyncio.run(load(parser.parse_args()))
    print(json.dumps({f"{name}_p{round(q * 100)}": quantile(values, q) for name, values in times.items() for q in (0.5, 0.99)}))


if __name__ == "__main__":
    main()
