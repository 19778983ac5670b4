// The keys of annotation, and answers that are not lost: each write first goes into this browser's own storage, and is
// taken out when the server says that it has it. A server that is away is asked again; a page that is closed or crashes
// leaves its writes for the next. A write carries an id, so that one that is sent twice is once. Without this script the
// pages still work, with a press of a button for each answer.
"use strict";
(() => {
const work = document.getElementById("work");
document.documentElement.classList.add("scripted");

// ---- One key, one answer: the key clicks what carries it. -------------------------------------------------------

// The letter or digit that was meant, also on a keyboard that writes Devanagari.
const keyOf = (event) => {
  if (/^[a-z0-9]$/i.test(event.key)) return event.key.toLowerCase();
  const code = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code);
  return code && event.key.length === 1 ? code[1].toLowerCase() : event.key.toLowerCase();
};
const isText = (at) => at instanceof Element && at.matches("textarea, input:not([type=radio])");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented || event.repeat) return;
  if (isText(event.target)) {
    if (event.key === "Escape") event.target.blur();
    else if (event.key === "Enter" && !event.shiftKey && event.target.matches("textarea")) {
      event.preventDefault();
      const reveal = document.getElementById("reveal");
      event.target.blur();
      if (event.target.id === "what" && reveal) reveal.click();
    }
    return;
  }
  // Enter on a link or a button is that link's or button's own, but an answer that was just given is not pressed again.
  const own = event.target instanceof Element && event.target.matches("a, summary, button:not([aria-pressed])");
  if (event.key === "Enter" && own) return;
  const found = document.querySelector(`[data-answer-key="${CSS.escape(keyOf(event))}"]:not([disabled])`);
  if (!found || found.closest("[hidden]")) return;
  event.preventDefault();
  found.click();
});

if (!work) return;
const { who, mine, item, csrf } = work.dataset;
const status = document.getElementById("status");
const told = document.getElementById("told");

// ---- The store: one entry a write, so that two tabs never overwrite each other's. ---------------------------------

const PREFIX = `antar/${who}/`;
let counter = 0;
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
const waiting = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).sort();
const put = (entry) => {
  counter += 1;
  const write = newId();
  const key = `${PREFIX}${String(Date.now()).padStart(15, "0")}-${String(counter).padStart(6, "0")}-${write}`;
  localStorage.setItem(key, JSON.stringify({ ...entry, write }));
  return key;
};

let sending = false, inFlight = null, afterwards = null, pause = 0, timer = 0;
const say = (words, bad = false) => {
  status.textContent = words;
  status.classList.toggle("waiting", bad);
};
const complain = (words) => {
  if (!told) return;
  told.textContent = words;
  told.hidden = !words;
};

const post = (entry, keepalive = false) => {
  const { undo, ...fields } = entry;
  return fetch(`${mine}/${undo ? "undo" : "write"}`, {
    method: "POST", keepalive, credentials: "same-origin",
    headers: { "Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded", "X-CSRF-Token": csrf },
    body: new URLSearchParams(fields).toString(),
  });
};

// Sends what waits, in order, one at a time. A refusal is said and dropped; anything else is tried again.
const send = async () => {
  clearTimeout(timer);
  if (sending) return;
  sending = true;
  const sent = await sendAll();
  sending = false;
  inFlight = null;
  if (!sent) {
    timer = setTimeout(send, pause);
    return;
  }
  if (waiting().length) return send();
  say("Saved.");
  if (afterwards) {
    const address = afterwards;
    afterwards = null;
    if (address === location.pathname) location.reload();
    else location.assign(address);
  }
};

// One loop at a time: whether all that waited has been sent.
const sendAll = async () => {
  for (let key = waiting()[0]; key; key = waiting()[0]) {
    inFlight = key;
    const entry = JSON.parse(localStorage.getItem(key) || "null");
    let answer = null, said = null;
    try {
      answer = entry && await post(entry);
      said = answer && answer.status !== 401 && answer.status !== 403 ? await answer.json() : null;
    } catch { /* no server, or one that broke off */ }
    if (entry && (!said || ![200, 400, 409].includes(answer.status))) {
      pause = Math.min(10000, pause ? pause * 2 : 500);
      const why = answer && [401, 403].includes(answer.status)
        ? "The server has forgotten this browser: open your link again." : "The server does not answer; trying again.";
      say(`Not saved yet. ${why} Your answers are kept in this browser.`, true);
      return false;
    }
    pause = 0;
    localStorage.removeItem(key);
    if (!entry) continue;
    if (answer.status !== 200) {
      afterwards = null;
      complain(said.told);
      if (answer.status === 409) show((await stateNow()) || {});
    } else if (entry.undo) {
      if (said.address) afterwards = said.address;
      else complain("There is nothing to undo.");
    }
  }
  return true;
};

// What the server has of this item, after it refused something that this page took for given.
const stateNow = async () => {
  try {
    const page = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), "text/html");
    const pressed = page.querySelectorAll("[aria-pressed=true]");
    return Object.fromEntries(Array.from(pressed, (b) => [b.form.dataset.field, b.value]));
  } catch {
    return null;
  }
};
const show = (state) => {
  for (const button of document.querySelectorAll("[aria-pressed]")) {
    button.setAttribute("aria-pressed", String(state[button.form.dataset.field] === button.value));
  }
};

window.addEventListener("online", send);
if (waiting().length) send();
if (!item) return;

// ---- Answers ------------------------------------------------------------------------------------------------------

const valueOf = (field) => document.querySelector(`form[data-field="${field}"] [aria-pressed=true]`)?.value || "";
const boxes = { what: document.getElementById("what"), label: document.getElementById("label") };
const saved = Object.fromEntries(Object.entries(boxes).map(([field, box]) => [field, box ? box.value : ""]));

// What was typed here and never reached the server comes back into its box.
for (const key of waiting()) {
  const entry = JSON.parse(localStorage.getItem(key) || "{}");
  if (entry.item === item && boxes[entry.field] && !boxes[entry.field].readOnly) {
    boxes[entry.field].value = saved[entry.field] = entry.value;
  }
}

// A page that is loaded again may have been asked for before the last keystrokes arrived, and the store be empty by now:
// what this tab held last, a moment ago, goes on in its box.
const RECENT_MS = 30000;
const lastOf = (field) => `${PREFIX}last/${item}/${field}`;
for (const [field, box] of Object.entries(boxes)) {
  const last = box && !box.readOnly && JSON.parse(sessionStorage.getItem(lastOf(field)) || "null");
  if (last && Date.now() - last.at < RECENT_MS && last.value !== box.value) box.value = last.value;
}

const answer = (field, value) => {
  complain("");
  put({ item, field, value });
  send();
};

// Text is put away with each keystroke; of keystrokes that wait, the last is enough.
const drafts = {};
const keepText = (field) => {
  const box = boxes[field];
  if (!box || box.readOnly || box.value === saved[field]) return;
  saved[field] = box.value;
  sessionStorage.setItem(lastOf(field), JSON.stringify({ value: box.value, at: Date.now() }));
  const entry = { item, field, value: box.value };
  const former = drafts[field];
  drafts[field] = put(entry);
  if (former && former !== inFlight) localStorage.removeItem(former);
  clearTimeout(timer);
  timer = setTimeout(send, 250);
};
for (const [field, box] of Object.entries(boxes)) {
  if (!box) continue;
  box.addEventListener("input", () => keepText(field));
  box.addEventListener("blur", () => { keepText(field); send(); });
}

document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (form.id === "undo") {
    event.preventDefault();
    complain("");
    spend();
    put({ undo: "yes" });
    send();
    return;
  }
  const field = form.dataset.field;
  if (!field) return;
  event.preventDefault();
  if (field === "what") {
    if (!valueOf("pattern")) return complain("First say how much of one pattern there is: a key from 1 to 5.");
    if (valueOf("pattern") !== "1" && !boxes.what.value.trim()) {
      boxes.what.focus();
      return complain("First say what the pattern is, in a few words.");
    }
    keepText("what");
    spend();
    afterwards = location.pathname;
    answer("revealed", "yes");
  } else if (field === "label") {
    keepText("label");
    send();
  } else if (field === "reopen") {
    spend();
    afterwards = location.pathname;
    answer("submitted", "");
  } else if (field === "submitted") {
    if (!valueOf("verdict")) return complain("First say whether the label holds: K, R or I.");
    if (valueOf("verdict") === "REVISE" && !boxes.label.value.trim()) {
      boxes.label.focus();
      return complain("First write a better label.");
    }
    if (!valueOf("kind")) return complain("First say of which kind it is: C, L, T or O.");
    keepText("label");
    spend();
    afterwards = `${mine}/next`;
    answer("submitted", "yes");
  } else {
    if (button.getAttribute("aria-pressed") === "true") return follow(field, button.value);
    for (const other of form.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", String(other === button));
    answer(field, button.value);
    follow(field, button.value);
  }
});

// Where the hands go next: to the text that belongs to the answer.
const follow = (field, value) => {
  if (field === "pattern" && value !== "1") boxes.what.focus();
  if (field === "verdict") {
    document.getElementById("better").hidden = value !== "REVISE";
    if (value === "REVISE") boxes.label.focus();
  }
};
if (work.dataset.revealed && !work.dataset.submitted) document.getElementById("proposed").scrollIntoView({ block: "nearest" });
if (valueOf("verdict") === "REVISE") document.getElementById("better").hidden = false;

// ---- Active time: while the page is seen and somebody has done something in the last minute. ----------------------

const IDLE_MS = 60000;
let active = 0, last = performance.now(), touched = last;
const tick = () => {
  const now = performance.now();
  if (document.visibilityState === "visible" && document.hasFocus()) active += Math.max(0, Math.min(now, touched + IDLE_MS) - last);
  last = now;
};
const spend = (least = 0) => {
  tick();
  if (active <= least) return null;
  const key = put({ item, field: "seconds", value: (Math.min(active, 3.6e6) / 1000).toFixed(2) });
  active = 0;
  return key;
};
for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"]) {
  document.addEventListener(kind, () => { tick(); touched = last; }, { passive: true, capture: true });
}
setInterval(tick, 1000);
setInterval(() => { if (spend(500)) send(); }, 20000);
// A page that goes away leaves its time and its last text in the store. What may arrive in any order it sends at once:
// times, and a text that nothing waits before; the rest is for the next page.
window.addEventListener("pagehide", () => {
  keepText("what");
  keepText("label");
  spend();
  const entries = waiting().map((key) => JSON.parse(localStorage.getItem(key) || "{}"));
  const others = entries.filter((entry) => entry.field !== "seconds");
  const free = others.length === 1 && !inFlight ? entries : entries.filter((entry) => entry.field === "seconds");
  for (const entry of free.slice(0, 20)) post(entry, true).catch(() => {});
});
})();
