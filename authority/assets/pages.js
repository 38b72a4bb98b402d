// What a page does beyond what it does without a script. Text goes in as text, never as markup.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const language = document.documentElement.lang;
// The page's language as this phone writes it: dates differ between countries that share one.
const local = navigator.languages.find((it) => it.split("-")[0] === language) || language;

// Times as the clock on this phone says them.
const sayTime = (element) => {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  element.textContent = new Intl.DateTimeFormat(local, { dateStyle: "long", timeStyle: "short" }).format(at);
};
all("time[datetime]").forEach(sayTime);

// A form goes once, however often its button is pressed; not so for who comes back to the page.
for (const form of all("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    const button = one("button:not([type=button])", form);
    button.dataset.says = button.textContent;
    button.setAttribute("aria-disabled", "true");
    button.textContent = form.dataset.once;
  });
}
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of all("form[data-sent]")) {
    delete form.dataset.sent;
    const button = one("[aria-disabled]", form);
    button?.removeAttribute("aria-disabled");
    if (button) button.textContent = button.dataset.says;
  }
});

// How long the payment is kept.
for (const line of all("[data-left]")) {
  const ends = performance.now() + 1000 * Number(line.dataset.left);
  const say = () => {
    const left = Math.max(0, Math.ceil((ends - performance.now()) / 1000));
    const [value, unit] = left < 90 ? [left, "second"] : [Math.ceil(left / 60), "minute"];
    const time = new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long" }).format(value);
    line.textContent = line.dataset.sentence.replace("{time}", time);
    if (left > 0) setTimeout(say, 1000);
  };
  say();
}

// The page follows the payment.
const POLL_MS = { pending: 700, "receipt-due": 700 };
for (const sheet of all("[data-poll]")) {
  const shown = sheet.dataset.state;
  const look = async () => {
    let state = shown;
    try {
      const answer = await fetch(sheet.dataset.poll, { cache: "no-store", credentials: "same-origin" });
      state = answer.ok ? (await answer.json()).state : shown;
    } catch { /* no network just now: look again */ }
    // Not a reload: where a form led here, that would send it again.
    if (state !== shown && !one("form[data-sent]", sheet)) location.replace(location.pathname);
    else setTimeout(look, POLL_MS[shown] ?? 4000);
  };
  setTimeout(look, POLL_MS[shown] ?? 4000);
}

// Print and share.
for (const button of all("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}
for (const button of all("[data-share]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const url = button.dataset.share;
    try {
      if (navigator.share) { await navigator.share({ url }); return; }
      await navigator.clipboard.writeText(url);
      one("[data-said]").textContent = button.dataset.done;
    } catch { /* the person thought otherwise */ }
  });
}

// The code in groups of five, as long as the typing is at its end.
const code = one("input.digits");
code?.addEventListener("input", () => {
  if (code.selectionStart !== code.value.length) return;
  const digits = code.value.replace(/[^0-9]/g, "");
  if (/^[0-9\s-]*$/.test(code.value)) code.value = digits.match(/.{1,5}/g)?.join("-") ?? "";
});

// The camera, where the browser reads QR codes.
const scanner = one("[data-scan]");
const LINK = /^https:\/\/([^/]+)\/t\/([0-9]{8}\.[0-9A-Za-z]{26})$/;
const scan = async () => {
  const { aim, missing, denied, foreign, stop } = scanner.dataset;
  const [button, words, video] = [one("[data-scan-button]"), one("[data-scan-words]"), one("video", scanner)];
  const detector = await (async () => {
    const formats = await globalThis.BarcodeDetector?.getSupportedFormats().catch(() => []);
    return formats?.includes("qr_code") ? new BarcodeDetector({ formats: ["qr_code"] }) : null;
  })();
  scanner.hidden = false;
  if (!detector || !navigator.mediaDevices) {
    button.hidden = true;
    words.textContent = missing;
    return;
  }
  const says = button.textContent;
  let stream = null;
  const shut = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.hidden = true;
    button.textContent = says;
  };
  const read = async () => {
    if (!stream) return;
    const found = await detector.detect(video).catch(() => []);
    const link = found.map((it) => it.rawValue.match(LINK)).find((it) => it?.[1] === location.host);
    if (link) { shut(); location.assign(`/t/${link[2]}`); return; }
    if (found.length) words.textContent = foreign;
    setTimeout(read, 150);
  };
  button.addEventListener("click", async () => {
    if (stream) { shut(); words.textContent = ""; return; }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.srcObject = stream;
      video.hidden = false;
      await video.play();
      button.textContent = stop;
      words.textContent = aim;
      read();
    } catch {
      shut();
      words.textContent = denied;
    }
  });
};
if (scanner) scan();

// A receipt is checked here, by the published keys.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const json = (part) => JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes(part)));
const TYPE = "m2key-receipt+jwt";

const judge = async (compact, keys) => {
  const [head, body, mac, ...more] = compact.split(".");
  if (!mac || more.length) return null;
  const header = json(head);
  if (header.alg !== "ES256" || header.typ !== TYPE || "crit" in header) return null;
  const may = (key) => key.kid === header.kid && key.kty === "EC" && key.crv === "P-256"
    && (!key.m2key_typ?.length || key.m2key_typ.includes(TYPE));
  const key = keys.find(may);
  if (!key) return null;
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const { kty, crv, x, y } = key;
  const handle = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, algorithm, false, ["verify"]);
  const signed = new TextEncoder().encode(`${head}.${body}`);
  const good = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, handle, bytes(mac), signed);
  return good ? { claims: json(body), tainted: key.m2key_tainted_at !== undefined } : null;
};

const ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" ");
const THREE = "BHD IQD JOD KWD LYD OMR TND".split(" ");
const amountOf = ({ amount_minor: minor, currency }) => {
  const places = ZERO.includes(currency) ? 0 : THREE.includes(currency) ? 3 : 2;
  const style = { minimumFractionDigits: places, maximumFractionDigits: places };
  return `${new Intl.NumberFormat(language, style).format(minor / 10 ** places)}\u00a0${currency}`;
};

const verifier = one("[data-verify]");
const showReceipt = ({ claims, tainted }) => {
  const parts = {
    amount: amountOf(claims.amount),
    payee: claims.payee.name,
    mark: String(claims.mark).padStart(2, "0"),
    terminal: claims.terminal,
    reference: claims.reference ?? "–",
    rail: `${claims.rail} ${claims.rail_reference}`,
    receipt: claims.receipt,
  };
  for (const [name, text] of Object.entries(parts)) one(`[data-part=${name}]`).textContent = text;
  const at = one("[data-part=at]");
  at.dateTime = new Date(1000 * claims.iat).toISOString();
  sayTime(at);
  one("[data-verify-tainted]").hidden = !tainted;
  one("[data-verify-here]").hidden = false;
  one("[data-verify-good]").hidden = false;
};
const check = async (text) => {
  const compact = text.replace(/\s/g, "").replace(/^.*#/, "");
  const note = one("[data-verify-bad]");
  note.hidden = true;
  one("[data-verify-good]").hidden = true;
  let [title, next] = [verifier.dataset.bad, verifier.dataset.badNext];
  let keys = null;
  try {
    const answer = await fetch("/.well-known/jwks.json", { credentials: "omit" });
    if (!answer.ok) throw new Error(String(answer.status));
    ({ keys } = await answer.json());
  } catch {
    [title, next] = [verifier.dataset.noKeys, ""];
  }
  const found = keys && await judge(compact, keys).catch(() => null);
  if (found) { showReceipt(found); return; }
  one("b", note).textContent = title;
  one("span", note).textContent = next;
  note.hidden = false;
};
if (verifier && globalThis.crypto?.subtle && one("[data-verify-bad]")) {
  const [form, field] = [one("[data-verify-form]"), one("#receipt")];
  form.addEventListener("submit", (event) => { event.preventDefault(); check(field.value); });
  const linked = () => {
    if (location.hash.length > 1) { field.value = location.hash.slice(1); check(field.value); }
  };
  addEventListener("hashchange", linked);
  linked();
}
