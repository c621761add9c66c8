"use strict";
// Adds to a page that is complete without it: tooltips, sortable tables, zooming. Foreign text only ever goes through textContent.
window.addEventListener("error", (event) => {
  document.documentElement.dataset.error = String(event.message);
});
document.addEventListener("securitypolicyviolation", (event) => {
  document.documentElement.dataset.violation = event.violatedDirective + " " + event.blockedURI;
});

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("report-data").textContent);

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg title")) {
    // Kept as the accessible name; as a child it would show the browser's slow tooltip beside ours.
    title.parentNode.setAttribute("data-tip", title.textContent);
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("data-tip");
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (event.clientY + box.height + 24 > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16) + "px";
  });
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          return numeric ? (cell.dataset.sort === undefined ? null : Number(cell.dataset.sort)) : cell.textContent;
        };
        const rows = [...body.rows].map((row) => [key(row), row]);
        rows.sort(([a], [b]) => {
          // What is unknown stays at the end, whichever way the rest is sorted.
          if (a === null || b === null) return (a === null) - (b === null);
          const order = numeric ? a - b : a.localeCompare(b);
          return down ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  const round = (value) => Number(value.toPrecision(4)).toString();
  for (const figure of document.querySelectorAll("[data-zoomable]")) {
    const svg = figure.querySelector("svg[data-chart]");
    const inner = svg.querySelector("svg[data-zoom]");
    const ticks = svg.querySelector("[data-x-ticks]");
    const tools = figure.querySelector(".tools");
    const output = tools.querySelector("output");
    const series = (data.itl || {})[figure.id] || [];
    const plot = ["x", "y", "width", "height"].map((name) => Number(inner.getAttribute(name)));
    const whole = [Number(inner.dataset.from), Number(inner.dataset.to)];
    let shown = whole.slice();
    tools.hidden = false;

    const cover = document.createElementNS(SVG, "rect");
    ["x", "y", "width", "height"].forEach((name, at) => cover.setAttribute(name, plot[at]));
    cover.setAttribute("fill", "transparent");
    const brush = document.createElementNS(SVG, "rect");
    brush.setAttribute("class", "brush");
    brush.setAttribute("y", plot[1]);
    brush.setAttribute("height", plot[3]);
    brush.setAttribute("width", 0);
    svg.append(brush, cover);

    const place = (event) => {
      const box = svg.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      return Math.max(plot[0], Math.min(plot[0] + plot[2], at));
    };
    const token = (at) => shown[0] + ((at - plot[0]) / plot[2]) * (shown[1] - shown[0]);
    const show = (from, to) => {
      shown = [from, to];
      const scale = 1000 / (whole[1] - whole[0]);
      inner.setAttribute("viewBox", `${(from - whole[0]) * scale} 0 ${(to - from) * scale} 1000`);
      const rough = (to - from) / 8;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough));
      ticks.replaceChildren();
      for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
        const text = document.createElementNS(SVG, "text");
        text.setAttribute("x", plot[0] + ((at - from) / (to - from)) * plot[2]);
        text.setAttribute("y", plot[1] + plot[3] + 18);
        text.setAttribute("text-anchor", "middle");
        text.setAttribute("class", "tick");
        text.textContent = String(at);
        ticks.append(text);
      }
    };
    const read = (at) => {
      const wanted = Math.round(token(at));
      const parts = series.map((line) => {
        let best = -1;
        line.token.forEach((number, index) => {
          if (best < 0 || Math.abs(number - wanted) < Math.abs(line.token[best] - wanted)) best = index;
        });
        return best >= 0 && line.ms[best] !== null ? `repeat ${line.repeat}: ${round(line.ms[best])} ms` : null;
      });
      output.textContent = `token ${wanted} · ${parts.filter(Boolean).slice(0, 6).join(" · ")}`;
    };
    let start = null;
    cover.addEventListener("pointerdown", (event) => {
      start = place(event);
      cover.setPointerCapture(event.pointerId);
    });
    cover.addEventListener("pointermove", (event) => {
      const at = place(event);
      read(at);
      if (start === null) return;
      brush.setAttribute("x", Math.min(start, at));
      brush.setAttribute("width", Math.abs(at - start));
    });
    cover.addEventListener("pointerup", (event) => {
      const range = [token(start ?? 0), token(place(event))].sort((a, b) => a - b);
      start = null;
      brush.setAttribute("width", 0);
      if (range[1] - range[0] >= 2) show(range[0], range[1]);
    });
    cover.addEventListener("pointerleave", () => { output.textContent = ""; });
    cover.addEventListener("dblclick", () => show(whole[0], whole[1]));
    tools.querySelector("[data-reset]").addEventListener("click", () => show(whole[0], whole[1]));
  }

  window.addEventListener("beforeprint", () => {
    for (const more of document.querySelectorAll("details.more")) more.open = true;
  });
  document.documentElement.dataset.ready = "true";
})();
