"use strict";
// Everything is on the page without this; it only sorts and filters.

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.firstChild.addEventListener("click", () => {
    const isNumber = head.classList.contains("number");
    const down = head.ariaSort ? head.ariaSort === "ascending" : isNumber;
    const value = (row) => row.cells[place].dataset.value;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // unknown values come last
      const areNumbers = !isNaN(a) && !isNaN(b);
      return (areNumbers ? a - b : a.localeCompare(b, undefined, {numeric: true})) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.ariaSort = down ? "descending" : "ascending";
  }));
  const filter = table.closest(".wide").querySelector("input");
  filter?.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const list = gallery.querySelector(".cards"), cards = [...list.children];
  const byClass = gallery.querySelector(".by-class"), byOrder = gallery.querySelector(".by-order");
  const shown = gallery.querySelector(".shown");
  const update = () => {
    const name = byClass?.value ?? "", order = byOrder?.value;
    for (const card of cards) card.hidden = name !== "" && !JSON.parse(card.dataset.names).includes(name);
    if (order) list.append(...[...cards].sort((a, b) => JSON.parse(b.dataset.sort)[order] - JSON.parse(a.dataset.sort)[order]));
    if (shown) shown.textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} images`;
  };
  byClass?.addEventListener("change", update);
  byOrder?.addEventListener("change", update);
  update();
}
