"use strict";

// Draws the frames of the agent. Times arrive as lengths; no clock of this browser is asked.

const at = (id) => document.getElementById(id);

// A frame every 10 s keeps the stream alive; after this much silence the agent is gone.
const SILENCE_MS = 25000;
// The picture moves this often, to one of so many places.
const MOVE_MS = 60000;
const PLACES = 8;
// From this many characters on, the currency stands below the amount.
const LONG_FROM = 8;

function text(id, value) {
  const node = at(id);
  if (node.textContent !== value) node.textContent = value;
}

function line(id, value, part) {
  at(id).hidden = value === undefined;
  text(part || id, value === undefined ? "" : value);
}

// How wide the amount is, so that the style can make it fit: digits are as wide as each other.
function drawAmount(view) {
  line("amount-line", view.amount, "amount");
  text("currency", view.currency || "");
  if (view.amount === undefined) return;
  const digits = view.amount.replace(/\D/g, "").length;
  const isLong = view.amount.length >= LONG_FROM;
  at("amount-line").toggleAttribute("data-long", isLong);
  const ems = digits * 0.69 + (view.amount.length - digits) * 0.38 + (isLong ? 0.1 : 1.35);
  at("amount-line").style.setProperty("--ems", ems.toFixed(2));
}

function run(id, token, time) {
  const bar = at(id);
  if (bar.dataset.token === token) return;
  bar.dataset.token = token;
  bar.classList.remove("runs");
  bar.style.setProperty("--from", String(time.left_ms / time.length_ms));
  bar.style.animationDuration = time.left_ms + "ms";
  void bar.offsetWidth; // starts the animation anew
  bar.classList.add("runs");
}

// Four modules of white around it, as ISO/IEC 18004 wants.
function drawQr(qr) {
  at("scan").hidden = !qr;
  if (!qr) return;
  at("qr").setAttribute("viewBox", [-4, -4, qr.size + 8, qr.size + 8].join(" "));
  at("qr-path").setAttribute("d", qr.path);
  run("qr-time", qr.path, qr);
}

function drawCode(code, where) {
  at("type").hidden = !code;
  if (!code) return;
  text("how", where ? at("how").dataset.at : at("how").dataset.plain);
  text("where", where || "");
  if (at("code").dataset.text !== code.text) {
    at("code").dataset.text = code.text;
    at("code").replaceChildren(...code.text.split("-").map((group) => {
      const span = document.createElement("span");
      span.textContent = group;
      return span;
    }));
  }
  run("code-time", code.text, code);
}

function ways(view) {
  if (view.qr) return view.code ? "both" : "qr";
  return view.code ? "code" : "none";
}

function draw(view) {
  document.body.dataset.screen = view.screen;
  document.body.dataset.ways = ways(view);
  document.title = view.amount ? view.title + " " + view.amount + " " + view.currency : view.title;
  text("terminal", view.terminal);
  at("link").hidden = view.online;
  drawAmount(view);
  text("title", view.title);
  line("mark-line", view.mark, "mark");
  text("note", view.note || "");
  line("reference", view.reference);
  drawQr(view.qr);
  drawCode(view.code, view.where);
  // Read aloud when it changes, which a new code does not do.
  text("said", view.said);
}

// Without the agent nothing here is true any more, so nothing is shown.
function alone() {
  const { alone: title, aloneNote: note } = document.body.dataset;
  draw({
    screen: "offline", terminal: at("terminal").textContent, online: false,
    title, note, said: title + ". " + note,
  });
}

let silence;
function heard() {
  clearTimeout(silence);
  silence = setTimeout(alone, SILENCE_MS);
}

let place = 0;
setInterval(() => {
  place = (place + 1) % PLACES;
  document.body.dataset.place = String(place);
}, MOVE_MS);

const stream = new EventSource("/kiosk/events");
stream.addEventListener("view", (event) => { heard(); draw(JSON.parse(event.data)); });
stream.addEventListener("error", alone);
