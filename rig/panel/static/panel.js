// The line's page: shows what the server sends, keeps the scan field ready, passes commands on.
"use strict";

const byId = (id) => document.getElementById(id);
const line = byId("line");
const scanText = byId("scan-text");
const ask = byId("ask");

// -- dark and light ---------------------------------------------------------------------------------

const themeButton = byId("theme");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const showTheme = () => themeButton.setAttribute("aria-pressed", String(isDark()));
try {
  const kept = localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch { /* a browser that keeps nothing follows the system */ }
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* as above */ }
  showTheme();
});
showTheme();

// -- commands ---------------------------------------------------------------------------------------

const STALE_MS = 15000;
const COMMAND_MS = 20000; // the server waits 10 s for the station
let stale = 0;

function say(text, kind) {
  const answer = byId("answer");
  clearTimeout(stale);
  if (kind === "good") stale = setTimeout(() => { answer.textContent = ""; answer.dataset.kind = ""; }, STALE_MS);
  answer.textContent = text;
  answer.dataset.kind = kind;
}

// A browser opens six connections to one server and no more: with six pages that listen a command, or the next page,
// would wait for good. So a page gives its own up for that, and has none while nobody sees it.
async function send(command) {
  say("…", "");
  commands += 1;
  hush();
  try {
    const response = await fetch(`/runs/${encodeURIComponent(line.dataset.run)}/do`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(command),
      signal: AbortSignal.timeout(COMMAND_MS),
    });
    if (response.status === 401) return void location.assign("/login");
    const found = await response.json();
    if (found.error) say(found.error, "bad");
    else say(done(command, found), "good");
  } catch {
    say("The page's server does not answer, and the run goes on without it. Look at the slot before you do it again.", "bad");
  } finally {
    commands -= 1;
    if (source) watch();
  }
}

function done(command, found) {
  if (found.operator) return `Operator: ${found.operator}.`;
  const slot = command.slot ? ` slot ${command.slot}` : "";
  return {
    scan: `${found.unit || command.text} taken${found.slot ? ` for slot ${found.slot}` : ""}.`,
    answer: "Answered.",
    abort: slot ? `Aborting in${slot}.` : "Stopping the run.",
    finish: "No further unit is begun.",
    release: `In use again:${slot}.`,
    "release-line": "The line goes on.",
    rework: "The rework is on record.",
    retest: `${command.unit} is in line again.`,
    operator: `Operator: ${command.who}.`,
  }[command.do];
}

let asked = null; // the command that the dialog is about

function confirmThen(button, command) {
  asked = command;
  byId("ask-title").textContent = button.dataset.ask;
  byId("ask-text").textContent = button.dataset.text || "";
  byId("ask-yes").textContent = button.dataset.yes || "Yes";
  byId("ask-who-row").hidden = button.dataset.who === undefined;
  byId("ask-who").value = button.dataset.who || "";
  byId("ask-what-row").hidden = button.dataset.what === undefined;
  byId("ask-what").value = "";
  ask.returnValue = "";
  ask.showModal();
  byId(button.dataset.what === undefined ? "ask-no" : "ask-what").focus();
}

if (ask) {
  ask.addEventListener("close", () => {
    const command = asked;
    asked = null;
    if (ask.returnValue === "yes" && command) {
      const who = byId("ask-who").value.trim();
      if (!byId("ask-who-row").hidden && who) command.who = who;
      if (!byId("ask-what-row").hidden) command.what = byId("ask-what").value.trim();
      send(command);
    }
    toScan();
  });
  // Enter in the field "who" must not be the first button, which is Cancel
  byId("ask-who").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); byId("ask-yes").focus(); }
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-command], button[data-aim]");
  if (!button) return;
  if (button.dataset.aim !== undefined) {
    byId("scan-slot").value = button.dataset.aim;
    scanText.focus();
    return;
  }
  const command = JSON.parse(button.dataset.command);
  if (button.dataset.ask) confirmThen(button, command);
  else { send(command); toScan(); }
});

// -- scanning ---------------------------------------------------------------------------------------

const TYPES = "input, textarea, select, [contenteditable]";

function toScan() {
  if (scanText && !(ask && ask.open)) scanText.focus({ preventScroll: true });
}

// A scanner that was at work while the page came up: its first characters went nowhere, and what is left of them would
// be taken for another unit. So a scan counts once no key has come for a moment.
const SETTLE_MS = 250;
let settling = 0;

function settle() {
  if (byId("scan").dataset.ready) return;
  clearTimeout(settling);
  settling = setTimeout(() => { scanText.value = ""; byId("scan").dataset.ready = "yes"; }, SETTLE_MS);
}

if (scanText) {
  settle();
  document.addEventListener("keydown", settle, true);
  byId("scan").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = scanText.value.trim();
    const slots = byId("scan-slot");
    scanText.value = "";
    if (!text) return;
    if (!byId("scan").dataset.ready) return void say("The page had just come up and may have missed the beginning: scan it again.", "bad");
    const [, kind, rest] = /^(slot|badge|op):\s*(.+)$/i.exec(text) || [];
    if (kind && kind.toLowerCase() === "slot") {
      const found = [...slots.options].find((option) => option.value === rest);
      if (found) { slots.value = rest; say(`Next scan: slot ${rest}.`, "good"); }
      else say(`There is no slot ${rest}.`, "bad");
    } else if (kind) {
      send({ do: "operator", who: rest });
    } else {
      const slot = slots.value || null;
      slots.value = "";
      send({ do: "scan", slot, text });
    }
    toScan();
  });
  byId("badge").addEventListener("submit", (event) => {
    event.preventDefault();
    const who = byId("badge-who");
    if (who.value.trim()) send({ do: "operator", who: who.value.trim() });
    who.value = "";
    toScan();
  });
  byId("scan-slot").addEventListener("change", toScan);
  // A scanner types wherever the focus is: its characters belong in the scan field.
  document.addEventListener("keydown", (event) => {
    if (ask.open || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape" && !event.target.matches("#scan-text")) return void toScan();
    if (event.key.length === 1 && event.key !== " " && !event.target.matches(TYPES)) scanText.focus();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(`a, button, summary, dialog, pre, label, ${TYPES}`) && !String(getSelection())) toScan();
  });
  window.addEventListener("focus", () => { if (document.activeElement === document.body) toScan(); });
  toScan();
}

// -- what changes -----------------------------------------------------------------------------------

function replace(id, html) {
  const place = byId(id);
  if (!place) return;
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  place.innerHTML = html;
  if (held && !place.contains(document.activeElement)) {
    const again = held.id ? byId(held.id) : null;
    if (again) again.focus({ preventScroll: true });
    else if (!ask.open) toScan();
  }
}

function take(message) {
  if (message.shape !== line.dataset.shape) return void location.reload();
  for (const [id, html] of Object.entries(message.html)) {
    if (id === "said") { if (byId(id).textContent !== html) byId(id).textContent = html; }
    else replace(id, html);
  }
  for (const [id, states] of Object.entries(message.states)) Object.assign(byId(id).dataset, states);
}

function linked(good) {
  const link = byId("link");
  document.body.dataset.lost = good ? "no" : "yes";
  if ((link.dataset.link === "yes") === good) return;
  link.dataset.link = good ? "yes" : "no";
  link.lastElementChild.textContent = good ? "Connected" : "Connection lost: what you see is old. The run goes on.";
}

const SILENCE_MS = 25000; // the server says something at least every 10 s
const RETRY_MS = 1000;
let source = null;
let heard = 0;
let commands = 0; // on their way

function hush() {
  if (source) source.close();
}

function watch() {
  hush();
  heard = Date.now();
  if (commands || document.hidden) return;
  source = new EventSource(`/events?run=${encodeURIComponent(line.dataset.run)}`);
  source.addEventListener("line", (event) => { heard = Date.now(); linked(true); take(JSON.parse(event.data)); });
  source.addEventListener("alive", () => { heard = Date.now(); });
  source.addEventListener("newer", () => { if (line.dataset.pinned === "no") location.assign("/"); });
  source.addEventListener("error", () => { linked(false); again(); });
}

async function again() {
  hush();
  await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  try {
    const response = await fetch("/alive");
    if (response.status === 401) return void location.assign("/login");
  } catch { /* not there yet */ }
  watch();
}

if (line && scanText) {
  watch();
  setInterval(() => {
    if (commands || document.hidden) heard = Date.now();
    if (Date.now() - heard > SILENCE_MS) { linked(false); again(); }
  }, 5000);
  document.addEventListener("visibilitychange", watch);
  window.addEventListener("beforeunload", () => { hush(); setTimeout(watch, RETRY_MS * 3); }); // if it stays after all
}

// -- all stations -----------------------------------------------------------------------------------

const overview = byId("again");
async function lookAgain() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href);
    if (response.redirected || !response.ok) return void location.reload();
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("again");
    if (fresh && fresh.innerHTML !== overview.innerHTML) overview.replaceChildren(...fresh.childNodes);
  } catch { /* the panel is away: what was known stays, with its time */ }
}
if (overview) setInterval(lookAgain, 1000 * Number(overview.dataset.again));

const waiting = document.querySelector("[data-wait]");
if (waiting) setInterval(() => location.reload(), 3000);
