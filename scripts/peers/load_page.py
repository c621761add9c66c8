"""The page of `load_clients.py`: medians over kept runs as one table, the ceiling as another, and what was dropped."""

import statistics

COLUMNS = (
    "streams", "client", "n", "TTFT p50: reported / truth", "TTFT p99: reported / truth", "ITL p50: reported / truth", "ITL p99: reported / truth",
    "E2E p99: reported / truth", "chunks/s", "peak in flight", "CPU s", "µs CPU per chunk", "PSS peak MB", "start to first request ms",
)  # fmt: skip
METHOD = """\
Times are in ms. **Reported** is what the client says, **truth** what left the server: the mock server (one thread, absolute schedule) records its own send
times, from the moment it has read a request. Time in which a request waits to be read is the client's to report and not in the truth. Cells are medians
over the n kept runs. ITL is the gap between chunks, unless the client's name says otherwise. Chunks/s and peak in flight are the server's count.
CPU s is user + system of the client and its children from start to end; µs per chunk is of the time between the first request and the last chunk, so
neither the start nor the report is in it. The mock keeps no record of times above 4 s (–). PSS is the largest of samples every 200 ms over the process tree.
A run in which the p99 of the mock's own lag reached {limit:g} ms is dropped and repeated. The more sharply a client begins its requests, the more of them the mock
has to read at once: "late: k" stands where the mock was late in all k runs, whose medians then stand in the row. The truth is measured, so reported
against truth still holds in such a row; its pace is the mock's."""


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def markdown(header, lines):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + "|".join("---" if name in ("client", "why") else "---:" for name in header) + "|", *("| " + " | ".join(line) + " |" for line in lines)])


def grouped(rows):
    """(streams, pace, client) to its rows; sizes in order, perfprof first."""
    groups = {}
    for row in rows:
        groups.setdefault((row["streams"], row["client"]), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != "perfprof", item[0][1])))


def measured_line(streams, label, rows):
    """Medians of the kept runs; of the late ones where none was kept, and n says so."""
    kept = [row for row in rows if row["kept"]]
    used = kept or [row for row in rows if "failed" not in row]
    if not used:
        return [f"{streams:,}", label, "0", f"failed: {rows[-1]['failed']}", *[""] * (len(COLUMNS) - 4)]
    pair = lambda name: f"{number(middle([row['reported'][name] for row in used]))} / {number(middle([row['truth'][name] for row in used]))}"
    # On a core that the clients fill, the sampler may sleep through a window, and then gives its CPU time to what comes after: such a figure is none.
    sampled = [row for row in used if row["window_cpu_s"] > row["cpu_s"] / 2 or row["window_s"] < row["wall_s"] / 2]
    of = lambda name: middle([row[name] for row in (sampled if name == "us_per_chunk" else used)])
    figures = [pair(name) for name in ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "e2e_p99")]
    return [
        f"{streams:,}", label, str(len(kept)) if kept else f"late: {len(used)}", *figures, number(of("chunks_per_s"), 0), number(of("peak_in_flight"), 0),
        number(of("cpu_s"), 2), number(of("us_per_chunk")), number(of("pss_mb"), 0), number(of("start_ms"), 0),
    ]  # fmt: skip


def ceiling_lines(rows, label):
    """The highest level each client kept up at, with the first it did not."""
    lines = []
    clients = sorted({row["client"] for row in rows}, key=lambda name: (name != "perfprof", name))
    for client in clients:
        own = [row for row in rows if row["client"] == client]
        passed = [row for row in own if row["short"] is None]
        best = max(passed, key=lambda row: row["streams"], default=None)
        over = [row for row in own if row["short"] is not None and (best is None or row["streams"] > best["streams"])]
        cells = ["none", "–", "–", "–"] if best is None else [f"{best['streams']:,}", number(best["chunks_per_s"], 0), number(best["us_per_chunk"]), number(best["reported"]["itl_p99"])]
        why = f"at {over[-1]['streams']:,}: {over[-1]['short']}" if over else "no level it failed at: its ceiling is higher"
        lines.append([label(client), *cells, why])
    return lines


def disturbance(rows, ceiling=False):
    """What was dropped, what failed, and how busy the machine was."""
    runs = [row for row in rows if "failed" not in row]
    dropped = [row for row in runs if not row["kept"]]
    text = [f"{len(runs) - len(dropped)} runs kept; in {len(dropped)} the mock was late ({'no reason to drop one that met its level' if ceiling else 'dropped'})."]
    if dropped:
        worst = max(dropped, key=lambda row: row["mock_lag_p99_ms"])
        text.append(f"The largest lag p99 in these was {worst['mock_lag_p99_ms']:.1f} ms ({worst['client']}, {worst['streams']:,} streams).")
    kept = [row for row in runs if row["kept"]]
    if kept:
        lags, loads = [row["mock_lag_p99_ms"] for row in kept], [row["load_1m"] for row in kept]
        text.append(f"In kept runs the mock's lag p99 was {min(lags):.2f}–{max(lags):.2f} ms, and the load average before a run {min(loads):.1f}–{max(loads):.1f}.")
        shares = [row["others_on_core_s"] / row["wall_s"] for row in kept]
        text.append(f"Others took {statistics.median(shares) * 100:.1f} % of the client's core in the median run, {max(shares) * 100:.1f} % in the worst.")
    return " ".join(text)


def page(rows):
    """The whole page, from raw rows of one or more runs of the script."""
    heads = [row for row in rows if row["part"] == "head"]
    runs = [row for row in rows if row["part"] != "head"]
    head = heads[-1]
    labels = {name: label for each in heads for name, label in each["labels"].items()}
    versions = {name: version for each in heads for name, version in each["versions"].items()}
    label = lambda name: labels.get(name, name)
    machine = head["machine"]
    text = ["# Load clients: what they report beside what left the server", ""]
    text += [
        f"{head['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']}. Made by `scripts/peers/load_clients.py`: "
        f"mock on core {head['mock_core']}, client on core {head['client_core']}, loopback, closed loop, clients in turn in an order drawn anew for every repetition"
        f"{', realtime classes (chrt) for both' if head['chrt'] else ''}. Prompts have {head['input']} tokens; a chunk is one token."
        + (f" Settings of perfprof beyond its defaults: `{' '.join(head['perfprof_settings'])}`." if head["perfprof_settings"] else ""),
        "", METHOD.format(limit=head["max_lag_ms"]), "",
    ]  # fmt: skip
    for part, title in (("table", "Side by side"), ("wide", "Many slow streams")):
        chosen = [row for row in runs if row["part"] == part]
        if not chosen:
            continue
        paces = sorted({(row["ttft_ms"], row["itl_ms"], row["tokens"]) for row in chosen if "failed" not in row})
        said = "; ".join(f"TTFT {ttft:g} ms, {itl:g} ms between chunks, {tokens} chunks per request" for ttft, itl, tokens in paces)
        lines = [measured_line(streams, label(client), group) for (streams, client), group in grouped(chosen).items()]
        text += [f"## {title}", "", f"{said}. {disturbance(chosen)}", "", markdown(COLUMNS, lines), ""]
        failed = [row for row in chosen if "failed" in row]
        text += [f"- {label(row['client'])}, {row['streams']:,} streams, repetition {row['repetition'] + 1}: {row['failed']}" for row in failed] + ([""] if failed else [])
        ours = [row for row in chosen if row["client"] == "perfprof" and row["kept"]]
        if ours:
            valid = sum(row["own"]["valid"].lower() == "valid" for row in ours)
            lag = number(middle([row["own"]["lag_p99_ms"] for row in ours]), 2)
            probe = number(middle([row.get("probe_ms") for row in ours]), 0)
            text += [f"perfprof called {valid} of its {len(ours)} kept runs valid; the p99 of its own lag was {lag} ms in the median. It sends one request of one token before the load; that one starts after {probe} ms and is in no other figure.", ""]
            reasons = sorted({reason for row in ours for reason in row["own"]["reasons"]})
            text += [f"- {reason}" for reason in reasons[:5]] + ([""] if reasons else [])
    rungs = [row for row in runs if row["part"] == "ceiling"]
    if rungs:
        text += [
            "## Ceiling of one core", "",
            "5 ms between chunks, 100 chunks per request, 10 requests per stream; streams rise by a quarter per level. A client keeps up while its reported p99 "
            "between chunks is within 5 ms of the truth and at least 98 % of the offered chunks/s came through (offered: every stream begins its next request at once). "
            f"A level not met is tried twice. {disturbance(rungs, ceiling=True)}",
            "", markdown(("client", "streams", "chunks/s", "µs CPU per chunk", "ITL p99 reported", "why"), ceiling_lines(rungs, label)), "",
        ]  # fmt: skip
    text += ["## Versions", ""]
    text += [f"- {label(name)}: {version or 'not said'}" for name, version in versions.items()]
    text += [f"- {name}: left out, {why}" for each in heads for name, why in each["absent"].items()]
    text += ["", "Raw rows, dropped ones included: [`load-clients.jsonl`](load-clients.jsonl)."]
    return "\n".join(text) + "\n"
