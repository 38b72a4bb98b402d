// Scenes of a shopper at the pages, in Chromium. One JSON line comes in with the setting; a scene asks
// the world around it for things ({"ask": …} out, one line back) and ends with {"seen": …}.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const BROWSER = '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
/// The first view: bytes on the wire, headers and all.
const FIRST_VIEW_MAX = 30 * 1024;
const WIDTHS = [320, 360, 768, 1280];
const LANGUAGE = '__Host-m2key-language';
const here = path.dirname(fileURLToPath(import.meta.url));
const axe = fs.readFileSync(path.join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const ask = async (what, more = {}) => { say({ ask: what, ...more }); return hear(); };

const setting = await hear();
const { origin, bank, people } = setting;

// ── the browser ──────────────────────────────────────────────────────────────────────────────

const browser = await chromium.launch({ executablePath: BROWSER, headless: true, args: FLAGS });

/// A phone with nothing on it, watched: what it asks of whom, and what its console complains of.
async function phone(options = {}) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true, locale: 'en-GB', viewport: { width: 360, height: 740 }, ...options,
  });
  const page = await context.newPage();
  const strangers = [];
  const complaints = [];
  page.on('request', (request) => {
    const to = new URL(request.url()).origin;
    const from = request.frame().url();
    const ours = to === origin || to === 'null' || request.url().startsWith('data:');
    const toBank = to === bank && (request.isNavigationRequest() || from.startsWith(bank));
    if (!ours && !toBank) strangers.push(`${from} asks ${request.url()}`);
  });
  page.on('console', (message) => {
    const text = message.text();
    const refusal = text.includes('the server responded with a status of 4');
    if (message.type() === 'error' && page.url().startsWith(origin) && !refusal) complaints.push(text);
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  const quiet = () => {
    assert.deepEqual(strangers, [], 'requests to strangers');
    assert.deepEqual(complaints, [], 'the console complains');
  };
  return { context, page, quiet };
}

const text = (page, selector) => page.locator(selector).first().innerText();
const button = (page, name) => page.getByRole('button', { name });

async function signIn(page, name) {
  await button(page, /Continue with|Continuer avec/).first().click();
  await page.waitForURL(`${bank}/**`);
  await page.locator('input[name=login]').fill(name);
  await page.locator('input[name=password]').fill(people[name]);
  await page.locator('form[action$="/login"] button').click();
  await page.waitForURL(`${origin}/**`);
}

async function toTheButton(page, name, minor = 420) {
  const { link, charge } = await ask('offer', { minor });
  await page.goto(link);
  await button(page, 'Continue').click();
  await page.waitForURL('**/pay/*');
  if (await page.getByRole('heading', { name: 'Sign in to pay' }).isVisible()) await signIn(page, name);
  await page.waitForURL('**/pay/*');
  return charge;
}

// ── the scenes ───────────────────────────────────────────────────────────────────────────────

const scenes = {
  async pays() {
    const { context, page, quiet } = await phone({ permissions: ['clipboard-write'] });
    const { link } = await ask('offer', { minor: 420 });
    const bytes = await weigh(context, page, link);
    assert.ok(bytes <= FIRST_VIEW_MAX, `the first view weighs ${bytes} bytes`);
    // A preview of the link in a chat: another visitor, who follows and presses nothing.
    const bot = await phone();
    const preview = await bot.context.request.get(link);
    assert.equal(preview.status(), 200);
    await button(page, 'Continue').click();
    await page.waitForURL('**/pay/*');
    assert.ok(!page.url().includes(link.split('/t/')[1]), 'the token is in the address no more');
    const { mark } = await ask('mark');
    assert.equal(await text(page, '.mark strong'), mark);
    await signIn(page, 'ann');
    await page.waitForURL('**/pay/*');
    assert.match(await text(page, '.payee'), /Corner Shop/);
    await button(page, 'Pay 4.20').click();
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    assert.match(await text(page, '.amount'), /4\.20/);
    assert.equal(await text(page, '.slip dd'), mark);
    const [saved] = await Promise.all([page.waitForEvent('download'), page.getByText('Save').click()]);
    const jws = fs.readFileSync(await saved.path(), 'utf8');
    const share = await page.locator('[data-share]').getAttribute('data-share');
    assert.equal(share, `${origin}/verify#${jws}`);
    quiet();
    // Somebody else checks it, in their own browser.
    const other = await phone();
    await other.page.goto(share);
    const good = other.page.locator('[data-verify-good]');
    await good.waitFor({ state: 'visible' });
    const paid = await text(other.page, '[data-part=amount]');
    assert.match(await good.innerText(), /Corner Shop/);
    await other.page.locator('#receipt').fill(jws.replace(/^(.{60})./, '$1_'));
    await button(other.page, 'Check').click();
    await other.page.locator('[data-verify-bad]').waitFor({ state: 'visible' });
    assert.equal(await good.isVisible(), false);
    other.quiet();
    return { paid };
  },

  async pays_without_a_script() {
    const { page, quiet } = await phone({ javaScriptEnabled: false });
    await toTheButton(page, 'ann');
    await button(page, 'Pay 4.20').click();
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    await button(page, 'Check it').click();
    await page.getByRole('heading', { name: 'This receipt is genuine' }).waitFor();
    // In another language from here on, without anything being paid again.
    await button(page, 'Français').click();
    await page.getByRole('heading', { name: 'Vérifier un reçu' }).waitFor();
    quiet();
    // A typed code, by somebody who has signed in for it.
    await ask('offer', { minor: 250 });
    const { page: typing } = await phone({ javaScriptEnabled: false });
    await typing.goto(`${origin}/`);
    let { code } = await ask('faces');
    await typing.locator('#code').fill(code);
    await button(typing, 'Continue').click();
    await typing.getByRole('heading', { name: 'Sign in, then type the code' }).waitFor();
    assert.ok(!typing.url().includes(code));
    await signIn(typing, 'ann');
    ({ code } = await ask('faces'));
    await typing.locator('#code').fill(code.replaceAll('-', ' '));
    await button(typing, 'Continue').click();
    await button(typing, 'Pay 2.50').click();
    await typing.getByRole('heading', { name: 'Paid' }).waitFor();
    return {};
  },

  async presses_twice() {
    // Without the script, which would let a form go once only.
    const { page, quiet } = await phone({ javaScriptEnabled: false });
    const { link } = await ask('offer', { minor: 420 });
    await page.goto(link);
    const go = button(page, 'Continue');
    await go.dblclick();
    await page.waitForURL('**/pay/*');
    const address = page.url();
    await signIn(page, 'ann');
    await button(page, 'Pay 4.20').dblclick();
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    const number = await text(page, '.slip .code >> nth=1');
    await page.reload();
    assert.equal(await text(page, '.slip .code >> nth=1'), number);
    // Back, over the pages that led here: forward is the same receipt.
    await page.goto(link);
    assert.equal(page.url(), address);
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    assert.equal(await text(page, '.slip .code >> nth=1'), number);
    quiet();
    return {};
  },

  async gallery({ shots }) {
    const { context, page, quiet } = await phone();
    const show = (name, again = true) => exhibit({ context, page, shots }, name, again);
    await page.goto(`${origin}/`);
    await show('start');
    await page.goto(`${origin}/nothing-here`);
    await show('not-found');
    const { link, charge } = await ask('offer', { minor: 420 });
    await page.goto(link);
    await show('terminal');
    await page.locator('html').evaluate((html) => { html.dir = 'rtl'; });
    await fits(page, 'terminal, right to left');
    const [payee, main] = await Promise.all(['.payee', 'main'].map((it) => page.locator(it).boundingBox()));
    assert.ok(payee.x >= main.x);
    await shoot(page, shots, 'terminal-rtl', 360);
    await page.reload();
    await button(page, 'Continue').click();
    await page.waitForURL('**/pay/*');
    await show('sign-in');
    const late = await phone();
    await late.page.goto(link);
    await exhibit({ ...late, shots }, 'spent');
    await signIn(page, 'bob');
    await page.waitForURL('**/pay/*');
    await show('approve');
    await button(page, 'Pay 4.20').click();
    await page.getByText('does not hold enough').waitFor();
    await show('declined', false);
    await ask('cancel', { charge });
    await page.getByRole('heading', { name: 'The time to pay is over' }).waitFor();
    await show('over');
    const ann = await phone();
    const own = (name, again = true) => exhibit({ ...ann, shots }, name, again);
    const large = await toTheButton(ann.page, 'ann', 1_234_500);
    await own('approve-large');
    await ask('cancel', { charge: large });
    await toTheButton(ann.page, 'ann', 420);
    await own('approve-one');
    await button(ann.page, 'Pay 4.20').click();
    await ann.page.getByRole('heading', { name: 'Paid' }).waitFor();
    await own('receipt');
    await ann.page.emulateMedia({ media: 'print' });
    await shoot(ann.page, shots, 'receipt-print', 768);
    await ann.page.emulateMedia({ media: 'screen' });
    await button(ann.page, 'Check it').click();
    await ann.page.getByRole('heading', { name: 'This receipt is genuine' }).waitFor();
    await own('verify-good', false);
    await ann.page.goto(`${origin}/verify`);
    await own('verify');
    await ann.page.locator('#receipt').fill('eyJ.not.one');
    await button(ann.page, 'Check').click();
    await ann.page.locator('[data-verify-bad]').waitFor({ state: 'visible' });
    await own('verify-bad', false);
    await ann.page.goto(`${origin}/me`);
    for (const summary of await ann.page.locator('summary').all()) await summary.click();
    await own('me');
    const { code } = await ask('offer', { minor: 420 });
    await late.page.goto(`${origin}/`);
    await late.page.locator('#code').fill(code);
    await button(late.page, 'Continue').click();
    await late.page.getByRole('heading', { name: 'Sign in, then type the code' }).waitFor();
    await exhibit({ ...late, shots }, 'code-sign-in', false);
    await late.page.goto(`${origin}/`);
    await late.page.locator('#code').fill('12345-67890-12346');
    await button(late.page, 'Continue').click();
    await late.page.locator('[role=alert]').waitFor();
    await exhibit({ ...late, shots }, 'code-slip', false);
    quiet();
    ann.quiet();
    late.quiet();
    return {};
  },
};

// ── judges ───────────────────────────────────────────────────────────────────────────────────

/// What the first view costs on the wire, before anything is kept.
async function weigh(context, page, link) {
  const wire = await context.newCDPSession(page);
  await wire.send('Network.enable');
  let bytes = 0;
  wire.on('Network.loadingFinished', (event) => { bytes += event.encodedDataLength; });
  await page.goto(link, { waitUntil: 'networkidle' });
  return bytes;
}

/// Nothing is wider than the phone.
async function fits(page, name) {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 740 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${name} is ${wide}px too wide at ${width}px`);
  }
  await page.setViewportSize({ width: 360, height: 740 });
}

async function judge(page, name) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`);
  const told = found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`);
  assert.deepEqual(told, [], `axe on ${name}`);
}

async function shoot(page, shots, name, width) {
  if (!shots) return;
  fs.mkdirSync(shots, { recursive: true });
  await page.setViewportSize({ width, height: width < 700 ? 740 : 900 });
  await page.screenshot({ path: path.join(shots, `${name}-${width}.png`), fullPage: true });
}

/// One state of one page, in both languages and schemes, at every width. `again`: it may be loaded anew.
async function exhibit({ context, page, shots }, name, again = true) {
  for (const language of again ? ['fr', 'en'] : ['en']) {
    if (again) {
      const cookie = { name: LANGUAGE, value: language, url: origin, secure: true, httpOnly: true, sameSite: 'Lax' };
      await context.addCookies([cookie]);
      await page.reload();
      assert.equal(await page.locator('html').getAttribute('lang'), language);
    }
    for (const colorScheme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await judge(page, `${name}, ${language}, ${colorScheme}`);
      await shoot(page, shots, `${name}-${language}-${colorScheme}`, 360);
    }
    await fits(page, `${name}, ${language}`);
  }
  for (const width of [768, 1280]) await shoot(page, shots, name, width);
  await page.setViewportSize({ width: 360, height: 740 });
}

let failed = null;
try {
  say({ seen: await scenes[setting.scene](setting.arguments) });
} catch (error) {
  failed = error;
  console.error(error);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
