// Keeps the page fresh: fetches it again and exchanges the parts that differ. Without this script the page is whole.
"use strict";
const PAUSE_MS = 2000;
const silence = document.getElementById("silence");

// Put `fresh` in the place of `old`, part by part where both have parts with ids, so that what one reads, has opened or
// has the keyboard's focus on stays as it is unless it changed itself.
function renew(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const parts = (element) => [...element.children].filter((child) => child.id);
  const ids = (element) => parts(element).map((child) => child.id).join(" ");
  if (parts(old).length > 1 && ids(old) === ids(fresh)) {
    const news = parts(fresh); // at once: what takes a place leaves `fresh`
    parts(old).forEach((child, index) => renew(child, news[index]));
    return;
  }
  const opened = [...old.querySelectorAll("details")].filter((one) => one.dataset.touched);
  for (const one of opened) {
    const same = fresh.querySelector("#" + CSS.escape(one.id));
    if (same) {
      same.open = one.open;
      same.dataset.touched = "yes";
    }
  }
  const focused = old.contains(document.activeElement) && document.activeElement.closest("details");
  old.replaceWith(fresh);
  if (focused) document.getElementById(focused.id)?.querySelector("summary").focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const summary = event.target.closest("summary");
  if (summary) summary.parentElement.dataset.touched = "yes";
});

async function refresh() {
  try {
    const answer = await fetch(location.pathname + location.search, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["top", "main", "end"]) renew(document.getElementById(id), fresh.getElementById(id));
    if (document.title !== fresh.title) document.title = fresh.title;
    const icon = document.querySelector("link[rel=icon]");
    const freshIcon = fresh.querySelector("link[rel=icon]");
    if (icon.href !== freshIcon.href) icon.href = freshIcon.href;
    silence.hidden = true;
  } catch {
    if (silence.hidden) {
      const now = new Date().toLocaleTimeString("en-GB", { timeStyle: "long" });
      silence.textContent = "The updater has not answered since " + now + ". What you see is old.";
      silence.hidden = false;
    }
  }
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, PAUSE_MS);
}
setTimeout(keepFresh, PAUSE_MS);
