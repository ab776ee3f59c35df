// Says that the list has changed since the page was made. The rows stay as they are until somebody reloads.
const region = document.querySelector("[data-live]");
const EVERY = 15;
const PATIENCE = 5;

if (region) {
  const url = new URL(region.dataset.live, location);
  let failures = 0;
  let timer = 0;

  const show = (name, wanted) => (region.querySelector(`[data-${name}]`).hidden = !wanted);

  function wait() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, EVERY * 1000);
  }

  async function look() {
    try {
      const answer = await fetch(url, { headers: { "X-Passive": "1" }, signal: AbortSignal.timeout(PATIENCE * 1000) });
      // This session has ended: the sign-in page says why.
      if (answer.status === 401) return void location.replace(document.querySelector("#idle").dataset.after);
      if (!answer.ok) throw new Error(answer.status);
      const { changed, since } = await answer.json();
      url.searchParams.set("since", since);
      if (changed) {
        show("changed", true);
        show("fresh", false);
      }
      failures = 0;
    } catch {
      failures += 1;
    }
    show("silent", failures >= 2);
    wait();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
  wait();
}
