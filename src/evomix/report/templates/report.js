/* Sorting, searching and the theme. Without this script the page still shows everything. */
"use strict";
(() => {
  const root = document.documentElement;

  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  if (button) {
    const apply = (name) => {
      if (name === "system") delete root.dataset.theme; else root.dataset.theme = name;
      button.textContent = `Theme: ${name}`;
      try { localStorage.setItem("evomix-theme", name); } catch { /* a page from a file may have no storage */ }
    };
    let current = "system";
    try { current = localStorage.getItem("evomix-theme") || "system"; } catch { /* as above */ }
    if (themes.includes(location.hash.slice(1))) current = location.hash.slice(1);
    if (!themes.includes(current)) current = "system";
    apply(current);
    button.addEventListener("click", () => {
      current = themes[(themes.indexOf(current) + 1) % themes.length];
      apply(current);
    });
  }

  for (const link of document.querySelectorAll("a[data-image]")) {
    link.href = link.closest("figure").querySelector("img").src;
    link.hidden = false;
  }

  addEventListener("beforeprint", () => document.querySelectorAll("section.table details").forEach((item) => { item.open = true; }));

  const compare = (a, b, sign) => {
    const [x, y] = [a.dataset.key, b.dataset.key];
    if (x === "null" || y === "null") return (x === "null") - (y === "null");
    const [p, q] = [Number(x), Number(y)];
    const order = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y, "en", { numeric: true }) : p - q;
    return sign * order;
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
    }));
  }

  const search = document.getElementById("search");
  const found = document.getElementById("found");
  if (search) search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = 0;
    for (const section of document.querySelectorAll("section.table")) {
      let shown = 0;
      for (const row of section.querySelector("tbody").rows) {
        const context = (row.textContent + " " + (row.closest("section.framework")?.id ?? "")).toLowerCase().replaceAll("_", " ");
        row.hidden = !words.every((word) => context.includes(word.replaceAll("_", " ")));
        shown += !row.hidden;
      }
      const details = section.querySelector("details");
      if (words.length && shown) details.open = true;
      section.hidden = words.length > 0 && shown === 0;
      rows += shown;
    }
    found.textContent = words.length ? `${rows} matching rows` : "";
  });
})();
