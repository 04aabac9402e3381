// A part of a page with data-again="SECONDS" is fetched again, with its page, and replaced by its news. The server makes the same
// page as without this script, where the browser reloads it instead (noscript). Nothing else is asked for.
"use strict";
(() => {
  const LONGEST = 30;
  const status = document.getElementById("again-status");
  const button = document.getElementById("again-pause");
  const say = (words) => { if (status && status.textContent !== words) status.textContent = words; };
  let paused = false, failures = 0, timer = 0, running = false, took = 0;

  const parts = () => [...document.querySelectorAll("[data-again]")];
  // who reads in it, or has it under the fingers, is not disturbed
  const inUse = (part) => part.contains(document.activeElement) ||
    (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));

  function replace(part, fresh) {
    if (part.innerHTML === fresh.innerHTML && part.dataset.again === fresh.dataset.again) return;
    const known = new Set([...part.querySelectorAll("[data-key]")].map((one) => one.dataset.key));
    const open = new Set([...part.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
    for (const one of fresh.querySelectorAll("[data-key]")) if (!known.has(one.dataset.key)) one.classList.add("new");
    for (const one of fresh.querySelectorAll("details > summary")) if (open.has(one.textContent)) one.parentElement.open = true;
    part.replaceWith(document.adoptNode(fresh));
  }

  async function look() {
    running = true;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual", signal: AbortSignal.timeout(15000) });
      if (answer.type === "opaqueredirect") { location.reload(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      failures = 0;
      for (const part of parts()) {
        const fresh = page.getElementById(part.id);
        if (fresh && !inUse(part)) replace(part, fresh);
      }
      say(parts().length ? "Live" : "");
    } catch {
      failures += 1;
      say("No answer; it is tried again");
    } finally {
      running = false;
      took = performance.now() - began;
      plan();
    }
  }

  function plan() {
    clearTimeout(timer);
    const waits = parts().map((part) => Number(part.dataset.again));
    if (!waits.length) { if (button) button.hidden = true; return; }
    if (paused || document.hidden || running) return;
    // what is slow to make is asked for less often
    timer = setTimeout(look, Math.max(1000 * Math.min(LONGEST, Math.min(...waits) * 2 ** failures), 10 * took));
  }

  if (button) {
    button.hidden = parts().length === 0;
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? "Go on" : "Pause";
      say(paused ? "Paused" : "Live");
      plan();
    });
  }
  document.addEventListener("visibilitychange", plan);
  if (parts().length) say("Live");
  plan();
})();
