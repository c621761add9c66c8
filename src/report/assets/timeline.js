"use strict";
// The zoomable timeline of an analyzed trace: bars on a canvas. All text reaches the page through textContent or fillText.
(() => {
  const figure = document.querySelector("[data-timeline]");
  const view = JSON.parse(document.getElementById("report-data").textContent).view;
  if (!figure || !view) return;
  const canvas = figure.querySelector("canvas");
  const tools = figure.querySelector(".tools");
  const output = tools.querySelector("output");
  const search = tools.querySelector("input");
  const chosen = figure.querySelector("[data-selected]");
  const context = canvas.getContext("2d");
  const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif";
  const GUTTER = 168, RULER = 28, GAP = 8, ROW = 15, TALL = 22, DEEPEST = 12, LEAST_NS = 20;

  // Lanes: begins come as differences, every time in ns since the begin of the stretch.
  let count = 0;
  let top = RULER + 6;
  const lanes = view.lanes.map((packed) => {
    let at = 0;
    const start = packed.s.map((step) => (at += step));
    const end = start.map((begin, bar) => begin + packed.d[bar]);
    // Latest end so far: where to begin looking for bars that reach into a window.
    let reach = -Infinity;
    const reached = end.map((value) => (reach = Math.max(reach, value)));
    const nests = packed.z.length > 0;
    const rows = nests ? Math.min(DEEPEST, packed.z.reduce((most, depth) => Math.max(most, depth), 0) + 1) : 1;
    const height = nests ? rows * ROW : TALL;
    const lane = { label: packed.l, kind: packed.k, start, end, reached, name: packed.n, kin: packed.c, depth: packed.z,
      link: packed.p, first: count, rows, bar: nests ? ROW - 1 : TALL, top, height };
    count += start.length;
    top += height + GAP;
    return lane;
  });
  const height = top + 4;
  // Bars are numbered over all lanes; whom a bar launched is the reverse of who launched it.
  const launched = new Map();
  const find = (number) => {
    const lane = lanes.find((one) => number >= one.first && number < one.first + one.start.length);
    return lane ? { lane, bar: number - lane.first, number } : null;
  };
  for (const lane of lanes) lane.link.forEach((from, bar) => { if (from > 0) launched.set(from - 1, lane.first + bar); });

  const whole = [0, Math.max(view.to, LEAST_NS)];
  let [from, to] = whole;
  let width = 0;
  let hovered = null, selected = null, wanted = "", matches = null, matched = [];
  let colors = {};
  let pending = false;

  const digits = (value) => Number(value.toPrecision(4)).toString();
  const UNITS = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];
  const time = (ns) => {
    const [unit, size] = UNITS.find(([, size]) => Math.abs(ns) >= size) || UNITS[3];
    return digits(ns / size) + " " + unit;
  };
  const x = (ns) => GUTTER + ((ns - from) / (to - from)) * (width - GUTTER);
  const ns = (at) => from + ((at - GUTTER) / (width - GUTTER)) * (to - from);

  const theme = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["panel", "ink", "muted", "grid", "accent", "on-dark", "on-light"]) colors[name] = style.getPropertyValue("--" + name).trim();
    colors.bars = view.classes.map(([, key]) => style.getPropertyValue("--" + key).trim());
    colors.texts = view.classes.map(([, key]) => (key[0] === "i" ? (["i0", "i5", "i6", "i7"].includes(key) ? "#ffffff" : "#12181f")
      : colors[["k0", "k7", "k8", "k9"].includes(key) ? "on-dark" : "on-light"]));
  };

  const firstReaching = (lane, time) => {
    let low = 0, high = lane.reached.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lane.reached[middle] < time) low = middle + 1; else high = middle;
    }
    return low;
  };
  const row = (lane, bar) => (lane.depth.length ? Math.min(lane.depth[bar], lane.rows - 1) : 0);
  const fit = (text, room) => {
    const most = Math.floor(room / 6.2);
    return most < 3 ? "" : text.length <= most ? text : text.slice(0, most - 1) + "…";
  };

  const ruler = () => {
    const rough = (to - from) / Math.max(2, (width - GUTTER) / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) || rough);
    const offset = view.offset;
    // Far from the begin of the trace a short step needs too many digits: count from a round instant then.
    const far = (from + offset) / step > 1e5;
    const base = far ? Math.floor((from + offset) / (step * 100)) * step * 100 : 0;
    const [unit, size] = UNITS.find(([, size]) => step >= size) || UNITS[3];
    const places = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9));
    context.fillStyle = colors.muted;
    context.textAlign = "left";
    context.fillText(far ? `${(base / 1e9).toFixed(9).replace(/0+$/, "")} s, then` : "since the begin", 4, 18);
    context.textAlign = "center";
    for (let tick = Math.ceil((from + offset) / step) * step; tick <= to + offset; tick += step) {
      const at = x(tick - offset);
      context.fillStyle = colors.grid;
      context.fillRect(Math.round(at), RULER, 1, height - RULER);
      context.fillStyle = colors.muted;
      context.fillText(`${far ? "+" : ""}${((tick - base) / size).toFixed(places)} ${unit}`, at, 18);
    }
  };

  const draw = () => {
    pending = false;
    const ratio = window.devicePixelRatio || 1;
    width = Math.max(GUTTER + 100, canvas.clientWidth);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = FONT;
    context.globalAlpha = 1;
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, width, height);
    ruler();
    context.save();
    context.beginPath();
    context.rect(GUTTER, RULER, width - GUTTER, height - RULER);
    context.clip();
    for (const lane of lanes) {
      context.fillStyle = colors.grid;
      context.fillRect(GUTTER, lane.top + lane.height + GAP / 2, width - GUTTER, 1);
      const last = new Array(lane.rows).fill(-1);
      const kin = new Array(lane.rows).fill(-1);
      for (let bar = firstReaching(lane, from); bar < lane.start.length && lane.start[bar] <= to; bar += 1) {
        if (lane.end[bar] < from) continue;
        const place = row(lane, bar);
        const left = Math.max(GUTTER - 2, x(lane.start[bar]));
        const right = Math.min(width + 2, x(lane.end[bar]));
        const hit = matches === null || matches[lane.name[bar]];
        const wide = Math.max(right - left, 0.75);
        // Several bars in one pixel of one colour are one mark.
        if (wide < 1 && matches === null && Math.floor(left) === last[place] && lane.kin[bar] === kin[place]) continue;
        last[place] = Math.floor(left);
        kin[place] = lane.kin[bar];
        const y = lane.top + place * ROW;
        context.globalAlpha = hit ? 1 : 0.18;
        context.fillStyle = colors.bars[lane.kin[bar]];
        context.fillRect(left, y, wide, lane.bar);
        if (wide > 3) {
          context.fillStyle = colors.panel;
          context.fillRect(left + wide - 0.5, y, 0.5, lane.bar);
        }
        if (wide > 26) {
          const text = fit(view.labels[lane.name[bar]], wide - 6);
          context.fillStyle = colors.texts[lane.kin[bar]];
          context.textAlign = "left";
          if (text) context.fillText(text, left + 3, y + lane.bar - (lane.bar > 18 ? 7 : 3.5));
        }
      }
    }
    context.globalAlpha = 1;
    for (const one of [selected, hovered]) if (one) outline(one);
    context.restore();
    context.fillStyle = colors.ink;
    context.textAlign = "right";
    for (const lane of lanes) context.fillText(fit(lane.label, GUTTER - 16), GUTTER - 8, lane.top + Math.min(lane.height, TALL) / 2 + 4);
    figure.dataset.from = String(from);
    figure.dataset.to = String(to);
  };
  const outline = ({ lane, bar, number }) => {
    const y = lane.top + row(lane, bar) * ROW;
    const left = x(lane.start[bar]);
    context.strokeStyle = colors.ink;
    context.lineWidth = 1.5;
    context.strokeRect(left - 0.5, y - 0.5, Math.max(x(lane.end[bar]) - left, 1) + 1, lane.bar + 1);
    for (const [a, b] of [[partner(lane, bar), { lane, bar }], [{ lane, bar }, find(launched.get(number) ?? -1)]]) {
      if (!a || !b) continue;
      context.beginPath();
      context.moveTo(x(a.lane.start[a.bar]), a.lane.top + row(a.lane, a.bar) * ROW + a.lane.bar);
      context.lineTo(x(b.lane.start[b.bar]), b.lane.top + row(b.lane, b.bar) * ROW);
      context.strokeStyle = colors.accent;
      context.stroke();
    }
  };
  const partner = (lane, bar) => (lane.link.length && lane.link[bar] > 0 ? find(lane.link[bar] - 1) : null);
  const redraw = () => {
    if (!pending) {
      pending = true;
      requestAnimationFrame(draw);
    }
  };

  const show = (low, high) => {
    let span = Math.min(whole[1] - whole[0], Math.max(LEAST_NS, high - low));
    let begin = Math.max(whole[0], Math.min(whole[1] - span, low + (high - low - span) / 2));
    from = begin;
    to = begin + span;
    redraw();
  };
  const zoom = (factor, at) => show(at - (at - from) * factor, at + (to - at) * factor);
  const pan = (share) => {
    const step = (to - from) * share;
    show(from + step, to + step);
  };

  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const left = event.clientX - box.left, y = event.clientY - box.top;
    if (left < GUTTER) return null;
    const lane = lanes.find((one) => y >= one.top && y < one.top + one.height);
    if (!lane) return null;
    const place = lane.depth.length ? Math.floor((y - lane.top) / ROW) : 0;
    const slack = ((to - from) / (width - GUTTER)) * 1.5;
    const at = ns(left);
    let best = null;
    for (let bar = firstReaching(lane, at - slack); bar < lane.start.length && lane.start[bar] <= at + slack; bar += 1) {
      if (row(lane, bar) !== place || lane.end[bar] < at - slack) continue;
      const away = Math.max(lane.start[bar] - at, at - lane.end[bar], 0);
      if (!best || away <= best.away) best = { lane, bar, number: lane.first + bar, away };
    }
    return best;
  };
  const describe = ({ lane, bar, number }) => {
    const parts = [`${view.names[lane.name[bar]]}`, `${time(lane.end[bar] - lane.start[bar])} · ${view.classes[lane.kin[bar]][0]} · ${lane.label}`,
      `begins ${time(lane.start[bar] + view.offset)} after the begin of the trace`];
    const by = partner(lane, bar);
    if (by) parts.push(`launched by ${view.names[by.lane.name[by.bar]]}, ${time(lane.start[bar] - by.lane.start[by.bar])} before it began`);
    const target = find(launched.get(number) ?? -1);
    if (target) parts.push(`launched ${view.names[target.lane.name[target.bar]]}, which began ${time(target.lane.start[target.bar] - lane.start[bar])} later`);
    return parts;
  };
  const tip = document.createElement("div");
  tip.className = "tip lines";
  tip.hidden = true;
  document.body.append(tip);
  const hover = (event) => {
    const found = under(event);
    if (!found !== !hovered || (found && found.number !== hovered.number)) {
      hovered = found;
      redraw();
    }
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = describe(found).join("\n");
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (event.clientY + box.height + 24 > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16) + "px";
  };
  const select = (found) => {
    selected = found;
    chosen.textContent = found ? "Selected: " + describe(found).join(" · ") : "";
    redraw();
  };

  let drag = null, scrolled = 0;
  window.addEventListener("scroll", () => { scrolled = performance.now(); tip.hidden = true; }, { passive: true });
  canvas.addEventListener("wheel", (event) => {
    // A page that is being scrolled past the timeline goes on scrolling.
    if (performance.now() - scrolled < 300 && !event.ctrlKey) return;
    const box = canvas.getBoundingClientRect();
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!sideways && event.deltaY > 0 && to - from >= whole[1] - whole[0]) return;
    event.preventDefault();
    if (sideways) pan(Math.sign(event.deltaX || event.deltaY) * 0.1);
    else zoom(1.25 ** Math.max(-4, Math.min(4, event.deltaY / 60)), ns(Math.max(GUTTER, event.clientX - box.left)));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { at: event.clientX, from, to, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return hover(event);
    drag.moved = drag.moved || Math.abs(event.clientX - drag.at) > 3;
    if (!drag.moved) return;
    tip.hidden = true;
    const shift = ((drag.at - event.clientX) / (width - GUTTER)) * (drag.to - drag.from);
    show(drag.from + shift, drag.to + shift);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) select(under(event));
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; hovered = null; redraw(); });
  canvas.addEventListener("dblclick", (event) => {
    const found = under(event);
    if (!found) return;
    const [begin, end] = [found.lane.start[found.bar], found.lane.end[found.bar]];
    show(begin - (end - begin) * 0.5, end + (end - begin) * 0.5);
  });
  const reveal = (found) => {
    const [begin, end] = [found.lane.start[found.bar], found.lane.end[found.bar]];
    const span = Math.min(to - from, Math.max((end - begin) * 20, LEAST_NS));
    if (begin < from || end > to) show((begin + end - span) / 2, (begin + end + span) / 2);
    select(found);
  };
  const next = (step) => {
    if (!matched.length) return;
    const place = selected ? matched.findIndex((number) => number >= selected.number) : -1;
    const here = place >= 0 && selected && matched[place] === selected.number;
    const index = place < 0 ? (step > 0 ? 0 : matched.length - 1) : here ? place + step : step > 0 ? place : place - 1;
    reveal(find(matched[(index + matched.length) % matched.length]));
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const middle = (from + to) / 2;
    const sibling = (step) => {
      const base = selected || find(0);
      const bar = selected ? base.bar + step : 0;
      if (base && bar >= 0 && bar < base.lane.start.length) reveal({ lane: base.lane, bar, number: base.lane.first + bar });
    };
    const actions = {
      "+": () => zoom(0.6, middle), "=": () => zoom(0.6, middle), "-": () => zoom(1 / 0.6, middle), _: () => zoom(1 / 0.6, middle),
      0: () => show(...whole), Home: () => show(...whole), n: () => next(1), N: () => next(-1), Escape: () => select(null),
      ArrowLeft: () => (event.shiftKey ? sibling(-1) : pan(-0.15)), ArrowRight: () => (event.shiftKey ? sibling(1) : pan(0.15)),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });

  const seek = () => {
    wanted = search.value.trim().toLowerCase();
    matches = wanted ? view.names.map((name) => name.toLowerCase().includes(wanted)) : null;
    matched = [];
    let sum = 0;
    if (matches) {
      for (const lane of lanes) {
        lane.name.forEach((name, bar) => {
          if (!matches[name]) return;
          matched.push(lane.first + bar);
          sum += lane.end[bar] - lane.start[bar];
        });
      }
    }
    output.textContent = matches ? `${matched.length} of ${count} bars, ${time(sum)} summed` : "";
    redraw();
  };
  search.addEventListener("input", seek);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); next(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { search.value = ""; seek(); }
  });
  const buttons = { in: () => zoom(0.6, (from + to) / 2), out: () => zoom(1 / 0.6, (from + to) / 2), left: () => pan(-0.3), right: () => pan(0.3), all: () => show(...whole) };
  for (const button of tools.querySelectorAll("[data-do]")) button.addEventListener("click", buttons[button.dataset.do]);

  for (const media of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(media).addEventListener("change", () => { theme(); draw(); });
  }
  new ResizeObserver(redraw).observe(canvas);
  tools.hidden = false;
  canvas.parentNode.hidden = false;
  canvas.style.height = height + "px";
  theme();
  draw();
  figure.dataset.drawn = "true";
})();
