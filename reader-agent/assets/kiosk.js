"use strict";

// Draws the frames of the agent. Times arrive as lengths; no clock of this browser is asked.

const at = (id) => document.getElementById(id);

// A frame every 10 s keeps the stream alive; after this much silence the agent is gone.
const SILENCE_MS = 25000;

function text(id, value) {
  const node = at(id);
  if (node.textContent !== value) node.textContent = value;
}

function line(id, value, part) {
  at(id).hidden = value === undefined;
  text(part || id, value === undefined ? "" : value);
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

function drawCode(code) {
  at("type").hidden = !code;
  if (!code) return;
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

function draw(view) {
  document.body.dataset.screen = view.screen;
  document.title = view.amount ? view.title + " " + view.amount + " " + view.currency : view.title;
  text("terminal", view.terminal);
  at("link").hidden = view.online;
  line("amount-line", view.amount, "amount");
  text("currency", view.currency || "");
  text("title", view.title);
  line("mark-line", view.mark, "mark");
  text("note", view.note || "");
  line("reference", view.reference);
  at("ways").hidden = !view.qr && !view.code;
  drawQr(view.qr);
  drawCode(view.code);
}

// Without the agent nothing here is true any more, so nothing is shown.
function alone() {
  draw({
    screen: "offline", terminal: at("terminal").textContent, online: false,
    title: "One moment", note: "This screen continues by itself.",
  });
}

let silence;
function heard() {
  clearTimeout(silence);
  silence = setTimeout(alone, SILENCE_MS);
}

const stream = new EventSource("/kiosk/events");
stream.addEventListener("view", (event) => { heard(); draw(JSON.parse(event.data)); });
stream.addEventListener("error", alone);
