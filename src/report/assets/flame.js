"use strict";
// Zooms flame graphs: a click on a frame gives it the whole width, its callers stay above it. Complete without it.
(() => {
  for (const figure of document.querySelectorAll("[data-flame]")) {
    const svg = figure.querySelector("svg[data-chart]");
    if (!svg) continue;
    const tools = figure.querySelector(".tools");
    const output = tools.querySelector("output");
    const [left, plot] = [Number(svg.querySelector("[data-left]").dataset.left), Number(svg.querySelector("[data-left]").dataset.wide)];
    const frames = [...svg.querySelectorAll("g[data-x]")].map((group) => ({
      group, rect: group.querySelector("rect"), text: group.querySelector("text"), name: group.dataset.name || "",
      x: Number(group.dataset.x), w: Number(group.dataset.w), depth: Number(group.dataset.depth),
    }));
    const show = (to) => {
      const scale = to.w > 0 ? plot / to.w : 1;
      for (const frame of frames) {
        const above = frame.depth < to.depth && frame.x <= to.x + 1e-6 && frame.x + frame.w >= to.x + to.w - 1e-6;
        const inside = frame.depth >= to.depth && frame.x >= to.x - 1e-6 && frame.x + frame.w <= to.x + to.w + 1e-6;
        frame.group.classList.toggle("gone", !(above || inside));
        frame.group.classList.toggle("caller", above);
        if (!(above || inside)) continue;
        const begin = above ? left : left + (frame.x - to.x) * scale;
        const wide = above ? plot : frame.w * scale;
        frame.rect.setAttribute("x", begin.toFixed(2));
        frame.rect.setAttribute("width", wide.toFixed(2));
        const most = Math.floor((wide - 8) / 7.2);
        frame.text.setAttribute("x", (begin + 4).toFixed(2));
        frame.text.textContent = most < 3 ? "" : frame.name.length <= most ? frame.name : frame.name.slice(0, most - 1) + "…";
      }
      figure.dataset.zoomed = to.name;
      output.textContent = to === whole ? "" : to.name.slice(0, 120);
    };
    const whole = { x: 0, w: plot, depth: 0, name: "" };
    tools.hidden = false;
    for (const frame of frames) frame.group.addEventListener("click", () => show(frame));
    tools.querySelector("[data-reset]").addEventListener("click", () => show(whole));
  }
})();
