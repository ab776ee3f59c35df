// Keeps what is said of a revocation under way true, and its figures. It asks passively; the sessions' rows are left to a reload.
const card = document.querySelector("[data-progress]");
const PAUSE = 3000;

if (card) {
  const words = new Intl.NumberFormat(document.documentElement.lang);
  const banner = document.querySelector(".banner");
  const strong = banner.querySelector("strong");

  const show = (name, count, all) => {
    card.querySelector(`[data-count=${name}]`).textContent = words.format(count);
    Object.assign(card.querySelector(`[data-bar=${name}]`), { max: all, value: count });
  };

  function say(verdict, done) {
    document.querySelector(".page-head p").textContent = verdict.head;
    banner.className = `banner ${verdict.kind}`;
    strong.textContent = verdict.strong;
    strong.nextSibling.textContent = ` ${verdict.text}`;
    if (done) banner.querySelector(".actions")?.remove();
  }

  async function look() {
    let done = false;
    try {
      const answer = document.hidden ? null : await fetch(card.dataset.progress, { headers: { "X-Passive": "1" } });
      if (answer?.status === 401) return;
      if (answer?.ok) {
        const now = await answer.json();
        const all = now.ended + now.waiting;
        for (const name of ["ended", "purged"]) show(name, now[name], all);
        for (const each of card.querySelectorAll("[data-all]")) each.textContent = words.format(all);
        done = now.done;
        say(now.verdict, done);
        for (const cell of document.querySelectorAll("[data-store]")) {
          const { store, part } = cell.dataset;
          const count = now.by_store[store]?.[part] ?? 0;
          // What waits has a sign and a button beside its figure, until nothing does.
          const figure = (count && cell.querySelector(".status span")) || cell;
          figure.textContent = words.format(count);
        }
      }
    } catch {
      // No answer: what is shown was true, and the next look may be answered.
    }
    card.querySelector("[data-done]").hidden = !done;
    card.querySelector("[data-going]").hidden = done;
    if (!done) setTimeout(look, PAUSE);
  }

  setTimeout(look, PAUSE);
}
