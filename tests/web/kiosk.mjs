// The screen of a terminal, in Chromium. One JSON line comes in with the setting; a scene asks the agent
// for things ({"show": board} out, one line back) and ends with {"seen": …}.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const BROWSER = '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
/// Small panel, counter, wall, and the last two upright; what is neither wide nor tall in between.
const SIZES = [[800, 480], [1280, 800], [1920, 1080], [1280, 1024], [480, 800], [1080, 1920]];
/// Heights of digits in vmin; kiosk.css says what they are at two metres.
const LEGIBLE = 6.4;
const AT_EASE = 12.8;
/// What is not long is read at ease while it is to be paid.
const LARGE = ['standing', 'offered', 'offered-code', 'offered-boundary', 'offline-standing', 'held'];
const PLACES = 8;
const here = path.dirname(fileURLToPath(import.meta.url));
const axe = fs.readFileSync(path.join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const ask = async (what) => { say(what); return hear(); };

const setting = await hear();
const { url, lang, boards, shots } = setting;
const terminals = Object.fromEntries(boards);
const browser = await chromium.launch({ executablePath: BROWSER, headless: true, args: FLAGS });

async function screen(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { page, quiet: () => assert.deepEqual(complaints, [], 'the console complains') };
}

/// Shows a board and waits until it is drawn.
async function show(page, name) {
  await ask({ show: name });
  await page.locator('#terminal', { hasText: terminals[name] }).waitFor();
}

async function renew(page) {
  const before = await page.locator('#code').innerText();
  await ask({ renew: true });
  await page.waitForFunction((old) => document.querySelector('#code').innerText !== old, before);
}

// ── judges, in the page ──────────────────────────────────────────────────────────────────────

/// What is cut off, outside the screen or over something else.
function misplaced() {
  const wrong = [];
  const visible = (node) => node.checkVisibility() && node.id !== 'said';
  const box = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const ends = getComputedStyle(node).textOverflow === 'ellipsis';
    const drawn = ends || node.tagName === 'svg' || node.tagName === 'IMG' ? node : range;
    return drawn.getBoundingClientRect();
  };
  const { innerWidth: width, innerHeight: height } = window;
  const inner = [...document.querySelectorAll('header > *, .ask > *, figure > *, .type > *')].filter(visible);
  for (const node of inner) {
    const it = box(node);
    const name = node.id || node.className.baseVal || node.className || node.tagName;
    if (it.left < 0 || it.top < 0 || it.right > width || it.bottom > height) {
      wrong.push(`${name} is outside: ${[it.left, it.top, it.right, it.bottom].map(Math.round)}`);
    }
    const ends = getComputedStyle(node).textOverflow === 'ellipsis';
    if (!ends && node.scrollWidth > node.clientWidth + 1 && node.clientWidth) wrong.push(`${name} is cut off`);
  }
  const groups = ['header', '.ask', '.scan', '.type'].map((it) => document.querySelector(it)).filter(visible);
  const whole = (group) => {
    const all = [...group.children].filter(visible).map(box);
    return {
      left: Math.min(...all.map((it) => it.left)), right: Math.max(...all.map((it) => it.right)),
      top: Math.min(...all.map((it) => it.top)), bottom: Math.max(...all.map((it) => it.bottom)),
    };
  };
  const wholes = groups.map((group) => [group.className || group.tagName, whole(group)]);
  for (const [i, [a, one]] of wholes.entries()) {
    for (const [b, other] of wholes.slice(i + 1)) {
      const apart = one.right <= other.left + 1 || other.right <= one.left + 1
        || one.bottom <= other.top + 1 || other.bottom <= one.top + 1;
      if (!apart) wrong.push(`${a} and ${b} overlap`);
    }
  }
  return wrong;
}

/// How high the digits of an element stand, in vmin.
function digits(selector) {
  const node = document.querySelector(selector);
  if (!node.checkVisibility()) return null;
  const style = getComputedStyle(node);
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  const height = pen.measureText('0123456789').actualBoundingBoxAscent;
  return (height * 100) / Math.min(window.innerWidth, window.innerHeight);
}

async function judge(page, name) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`);
  const told = found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`);
  assert.deepEqual(told, [], `axe on ${name}`);
}

async function shoot(page, name) {
  if (!shots) return;
  fs.mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
}

// ── the scenes ───────────────────────────────────────────────────────────────────────────────

const scenes = {
  async gallery() {
    const { page, quiet } = await screen();
    await page.goto(url);
    assert.equal(await page.locator('html').getAttribute('lang'), lang);
    const wrong = [];
    for (const [name] of boards) {
      await show(page, name);
      for (const [width, height] of SIZES) {
        const at = `${name} at ${width}x${height}`;
        await page.setViewportSize({ width, height });
        for (const direction of ['ltr', 'rtl']) {
          await page.locator('html').evaluate((html, dir) => { html.dir = dir; }, direction);
          const found = await page.evaluate(misplaced);
          wrong.push(...found.map((what) => `${at}, ${direction}: ${what}`));
        }
        await page.locator('html').evaluate((html) => { html.dir = 'ltr'; });
        const code = await page.evaluate(digits, '#code');
        if (code !== null && code < LEGIBLE) wrong.push(`${at}: the code's digits are ${code} vmin high`);
        const amount = await page.evaluate(digits, '#amount');
        const least = LARGE.includes(name) ? AT_EASE : LEGIBLE;
        if (amount !== null && amount < least) wrong.push(`${at}: the amount's digits are ${amount} vmin high`);
        const mark = await page.evaluate(digits, '#mark');
        if (mark !== null && mark < LEGIBLE) wrong.push(`${at}: the mark's digits are ${mark} vmin high`);
        await shoot(page, `${name}-${width}x${height}`);
      }
      await page.setViewportSize({ width: 1280, height: 800 });
      await judge(page, name);
    }
    // Wherever the picture has moved, all of it is there.
    await show(page, 'offered-long');
    for (let place = 0; place < PLACES; place += 1) {
      await page.evaluate((it) => { document.body.dataset.place = it; }, place);
      for (const [width, height] of SIZES) {
        await page.setViewportSize({ width, height });
        const found = await page.evaluate(misplaced);
        wrong.push(...found.map((what) => `at place ${place}, ${width}x${height}: ${what}`));
      }
    }
    assert.deepEqual(wrong, []);
    quiet();
  },

  async announced() {
    const { page, quiet } = await screen();
    await page.goto(url);
    await show(page, 'idle');
    const said = page.locator('#said');
    assert.equal(await page.locator('[aria-live]').count(), 1);
    await said.evaluate((node) => {
      window.told = [];
      new MutationObserver(() => window.told.push(node.textContent)).observe(node, { childList: true, characterData: true, subtree: true });
    });
    const told = () => page.evaluate(() => window.told.splice(0));
    await show(page, 'offered');
    assert.deepEqual(await told(), ['4.20 EUR. Tap, scan or type to pay']);
    await renew(page);
    await renew(page);
    assert.deepEqual(await told(), []);
    await show(page, 'held');
    const [held, ...more] = await told();
    assert.deepEqual(more, []);
    assert.match(held, /^4\.20 EUR\. Continue on your phone\. Your number 07/);
    await show(page, 'paid');
    assert.deepEqual(await told(), ['4.20 EUR. Paid. Your number 07. Thank you.']);
    quiet();
  },

  async moves() {
    for (const reducedMotion of ['reduce', 'no-preference']) {
      const { page } = await screen({ reducedMotion });
      await page.clock.install();
      await page.goto(url);
      await show(page, 'idle');
      const place = () => page.evaluate(() => document.body.dataset.place);
      const wanted = () => page.evaluate(() => getComputedStyle(document.body).getPropertyValue('--x'));
      const [before, first] = [await place(), await wanted()];
      await page.clock.runFor(60_000);
      assert.notEqual(await place(), before);
      assert.notEqual(await wanted(), first);
      const slides = await page.locator('main').evaluate((it) => getComputedStyle(it).transitionDuration);
      assert.equal(slides, reducedMotion === 'reduce' ? '0s' : '4s');
      await page.context().close();
    }
  },

  async alone() {
    const { page } = await screen();
    await page.goto(url);
    await show(page, 'offered');
    assert.equal(await page.locator('#code').isVisible(), true);
    await ask({ stop: true });
    await page.locator('#code').waitFor({ state: 'hidden' });
    assert.equal(await page.locator('#qr').isVisible(), false);
    assert.equal(await page.locator('#amount').isVisible(), false);
    assert.equal(await page.locator('h1').innerText(), 'One moment');
  },
};

let failed = null;
try {
  await scenes[setting.scene]();
  say({ seen: true });
} catch (error) {
  failed = error;
  console.error(error);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
