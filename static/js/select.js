// Ticking sessions: the box in the heading ticks all rows, and the bar says how many are ticked.
for (const form of document.querySelectorAll("[data-select]")) {
  const all = form.querySelector("[data-select-all]");
  const count = form.querySelector("[data-select-count]");
  const boxes = [...form.querySelectorAll("input[name=reference]")];
  if (!all || boxes.length === 0) continue;

  const show = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked === boxes.length;
    all.indeterminate = ticked > 0 && !all.checked;
    count.textContent = ticked ? count.dataset.selectCount.replace("{n}", ticked) : "";
  };

  all.closest("label").hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  form.addEventListener("change", (event) => event.target !== all && show());
  addEventListener("pageshow", show);
}
