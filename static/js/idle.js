// Says two minutes ahead that the session is about to end. The server's answer decides; a tab only counts down.
const dialog = document.querySelector("#idle");
const LOOK = 300;
const PATIENCE = 5;

if (dialog) {
  const clock = dialog.querySelector("[data-clock]");
  const spoken = dialog.querySelector("[data-spoken]");
  const tabs = new BroadcastChannel("rollcall-deadline");
  const warn = Number(dialog.dataset.warn);
  let ends = 0;
  let warned = false;
  let timer = 0;

  const left = () => Math.max(0, Math.round((ends - Date.now()) / 1000));
  const inWords = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

  const leave = () => location.replace(dialog.dataset.after);

  function count() {
    clearTimeout(timer);
    const seconds = left();
    if (seconds > warn) {
      if (dialog.open) dialog.close();
      warned = false;
      timer = setTimeout(ask, Math.min(LOOK, seconds - warn) * 1000);
      return;
    }
    clock.textContent = inWords(seconds);
    // Once: whoever closes it is not warned again before the session has been extended.
    if (!warned) dialog.showModal();
    warned = true;
    if (seconds % 30 === 0) spoken.textContent = dialog.dataset.spoken.replace("{time}", inWords(seconds));
    timer = setTimeout(seconds === 0 || seconds % 15 === 1 ? ask : count, 1000);
  }

  // Another tab may know of a later end; an earlier one is only the server's to say.
  function know(seconds, told = false) {
    const then = Date.now() + seconds * 1000;
    if (!told || then > ends + 1500) ends = then;
    count();
  }

  async function ask(options = { headers: { "X-Passive": "1" } }) {
    const late = new AbortController();
    const end = setTimeout(() => late.abort(), PATIENCE * 1000);
    try {
      const answer = await fetch(dialog.dataset.deadline, { ...options, signal: late.signal });
      if (answer.status === 401) return void leave();
      if (answer.ok) {
        const { left, last } = await answer.json();
        dialog.toggleAttribute("data-last", last);
        tabs.postMessage(left);
        return void know(left);
      }
    } catch {
      // No answer: go on counting what is known.
    } finally {
      clearTimeout(end);
    }
    if (left() === 0) return void leave();
    count();
  }

  dialog.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-stay]")) return;
    event.preventDefault();
    ask({ method: "POST", body: new URLSearchParams(new FormData(event.target)), headers: { Accept: "application/json" } });
  });
  // Escape is a sign of life as well; where nothing extends the session it only puts the warning away.
  dialog.addEventListener("cancel", (event) => {
    if (dialog.hasAttribute("data-last")) return;
    event.preventDefault();
    dialog.querySelector("[data-stay]").requestSubmit();
  });
  tabs.addEventListener("message", ({ data }) => know(data, true));
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && count());
  addEventListener("pageshow", (event) => event.persisted && ask());

  // What the page was made with may be older than what its own request has extended.
  ends = Date.now() + Number(dialog.dataset.left) * 1000;
  if (left() > warn) {
    tabs.postMessage(left());
    count();
  } else ask();
}
