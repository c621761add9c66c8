// Choosing one measure at a time and filtering long tables. Foreign text only ever goes through textContent.
(() => {
  for (const group of document.querySelectorAll("[data-choices]")) {
    const parts = [...group.querySelectorAll(":scope > details")];
    const select = group.querySelector("select");
    parts.forEach((part, at) => {
      const option = document.createElement("option");
      option.value = String(at);
      option.textContent = part.querySelector("summary").textContent;
      select.append(option);
    });
    select.addEventListener("change", () => {
      parts.forEach((part, at) => { part.open = at === Number(select.value); });
    });
    if (parts.length > 1) group.querySelector(":scope > .tools").hidden = false;
    group.classList.add("one-at-a-time");
  }
  for (const area of document.querySelectorAll("[data-filter]")) {
    const rows = [...area.querySelectorAll("tbody tr")];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const box = area.querySelector("input");
    const output = area.querySelector("output");
    area.querySelector(".tools").hidden = false;
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(" ").filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        row.hidden = !words.every((word) => texts[at].includes(word));
        shown += row.hidden ? 0 : 1;
      });
      output.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    });
  }
})();
