// Keeps the figures of a revocation that is under way true. It asks passively; the receipt is left to a reload.
const card = document.querySelector("[data-progress]");
const PAUSE = 3000;

if (card) {
  const words = new Intl.NumberFormat(document.documentElement.lang);

  const show = (name, count, all) => {
    card.querySelector(`[data-count=${name}]`).textContent = words.format(count);
    Object.assign(card.querySelector(`[data-bar=${name}]`), { max: all, value: count });
  };

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
