// What does a real browser say when a passkey is made, and when it confirms a payment?
//
// Stands in for the pages: two forms and our own script, at the real origin. What the script asks of the
// authority goes to the one under test, with an access token; the authenticator is Chromium's virtual one.
// Reads one JSON object from standard input, prints the assertion as JSON.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const given = JSON.parse(readFileSync(0, "utf8"));
const origin = "https://pay.example";
const script = readFileSync(new URL("../../authority/assets/passkey.js", import.meta.url), "utf8");
const field = (name, value = "") => `<input name="${name}" value="${value}">`;
const page = `<!doctype html><title>pay</title>
<form id="add" data-passkey="add" data-done="/done" data-failed="failed">${field("name", "browser")}
<p data-passkey-says></p><button>add</button></form>
<form id="pay" data-passkey="confirm" data-options="/v1/claims/${given.claim}/approval/options" data-failed="failed"
 method="post" action="/paid">${field("amount_minor", given.amount_minor)}${field("currency", "EUR")}
${field("payee", given.payee)}${field("account")}${field("assertion")}
<p data-passkey-says></p><button>pay</button></form>
<script src="/passkey.js" type="module"></script>`;

const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox"] });
try {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const devtools = await context.newCDPSession(tab);
  await devtools.send("WebAuthn.enable");
  const options = {
    protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true,
    isUserVerified: true, automaticPresenceSimulation: true,
  };
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
  await context.route("**/*", async (route) => {
    const request = route.request();
    const path = new URL(request.url()).pathname;
    if (path.startsWith("/v1/")) {
      const headers = { "content-type": "application/json", authorization: `Bearer ${given.token}`, cookie: given.cookie };
      const answer = await fetch(given.api + path, { method: request.method(), headers, body: request.postData() });
      const body = await answer.text();
      return route.fulfill({ status: answer.status, contentType: answer.headers.get("content-type"), body });
    }
    if (path === "/passkey.js") return route.fulfill({ contentType: "text/javascript", body: script });
    return route.fulfill({ contentType: "text/html", body: path === "/" ? page : "done" });
  });
  const says = async (form) => `${form}: ${await tab.locator(`#${form} [data-passkey-says]`).textContent().catch(() => "gone")}`;
  const went = async (form, to) => {
    await tab.goto(`${origin}/`);
    await tab.locator(`#${form} button`).click();
    const failed = tab.locator(`#${form} [data-passkey-says]:not(:empty)`).waitFor().then(async () => { throw new Error(await says(form)); });
    await Promise.race([tab.waitForURL(`${origin}${to}`), failed]);
  };
  await went("add", "/done");
  const { credentials } = await devtools.send("WebAuthn.getCredentials", { authenticatorId });
  if (credentials.length !== 1) throw new Error(`${credentials.length} passkeys`);
  const paid = tab.waitForRequest(`${origin}/paid`);
  await went("pay", "/paid");
  const form = new URLSearchParams((await paid).postData());
  console.log(form.get("assertion"));
} finally {
  await browser.close();
}
