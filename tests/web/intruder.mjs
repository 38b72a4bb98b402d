// A hostile page beside a till, in Chromium. The argument is the setting, JSON; the result is
// {"answers": what the agent answered to pages, "read": what a page could read or run}.
import http from 'node:http';
import { chromium } from 'playwright-core';

const { browser: executablePath, agent, kiosk, secret, body } = JSON.parse(process.argv[2]);
const port = agent.split(':').pop();

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/html');
  response.end('<!doctype html><title>cats</title><div id="cats"></div>');
});
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const own = server.address().port;

/// In the page: everything it can try against `base`, and what came of it. "read" and "ran" are break-ins.
async function attempts({ base, ws, secret, body }) {
  const id = body.charge;
  const text = JSON.stringify(body);
  const bearer = { authorization: `Bearer ${secret}` };
  const json = { 'content-type': 'application/json' };
  const patience = (work) => Promise.race([work, new Promise((late) => { setTimeout(() => late('nothing'), 10_000); })]);
  const fetched = async (path, options) => {
    try {
      const answer = await fetch(base + path, options);
      if (answer.type === 'opaque' || answer.type === 'error') return 'opaque';
      return answer.status === 403 ? 'refused' : `read: ${answer.status}`;
    } catch { return 'blocked'; }
  };
  const loaded = (tag, attribute, path) => new Promise((done) => {
    const node = document.createElement(tag);
    if (tag === 'link') node.rel = 'stylesheet';
    node.onload = () => done(`ran: <${tag}>`);
    node.onerror = () => done('blocked');
    node[attribute] = base + path;
    document.body.append(node);
  });
  const framed = (path) => new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.onload = () => {
      let inside = null;
      try { inside = frame.contentDocument?.body?.innerText; } catch { /* another origin */ }
      done(inside && /charge|m2key/i.test(inside) && !/for programs on this machine/.test(inside) ? 'read: frame' : 'blocked');
    };
    frame.src = base + path;
    document.body.append(frame);
  });
  const posted = (path, enctype) => new Promise((done) => {
    const frame = Object.assign(document.createElement('iframe'), { name: `f${Math.random()}` });
    document.body.append(frame);
    const form = Object.assign(document.createElement('form'), {
      action: base + path, method: 'post', enctype, target: frame.name,
    });
    // The old trick: with text/plain, name=value is a JSON.
    const whole = text.replace(/}$/, ',"x":"');
    form.append(Object.assign(document.createElement('input'), { name: whole, value: '"}' }));
    document.body.append(form);
    frame.onload = () => done('sent');
    form.submit();
    setTimeout(() => done('sent'), 3_000);
  });
  const streamed = (path) => new Promise((done) => {
    const source = new EventSource(base + path, { withCredentials: true });
    source.onopen = () => done('read: stream');
    source.onerror = () => { source.close(); done('blocked'); };
  });
  const socket = (path) => new Promise((done) => {
    const line = new WebSocket(ws + path);
    line.onopen = () => done('read: socket');
    line.onerror = () => done('blocked');
  });
  const all = {
    'simple fetch': fetched('/v1/day'),
    'fetch of the document': fetched('/v1/openapi.json'),
    'fetch with the cookie': fetched('/kiosk/events', { credentials: 'include' }),
    'fetch nobody reads': fetched('/v1/day', { mode: 'no-cors' }),
    'simple post': fetched('/v1/charges', { method: 'POST', body: text, mode: 'no-cors' }),
    'simple post, readable': fetched('/v1/charges', { method: 'POST', body: text }),
    'preflighted fetch': fetched('/v1/day', { headers: bearer }),
    'preflighted post': fetched('/v1/charges', { method: 'POST', headers: { ...bearer, ...json }, body: text }),
    'preflighted delete': fetched(`/v1/charges/${id}`, { method: 'DELETE', headers: bearer }),
    beacon: Promise.resolve(navigator.sendBeacon(`${base}/v1/charges`, text) ? 'sent' : 'blocked'),
    'form as JSON': posted('/v1/charges', 'text/plain'),
    form: posted('/v1/charges', 'application/x-www-form-urlencoded'),
    image: loaded('img', 'src', '/kiosk/kiosk.svg'),
    'image of the till': loaded('img', 'src', `/v1/charges/${id}`),
    script: loaded('script', 'src', '/kiosk/kiosk.js'),
    'document as script': loaded('script', 'src', '/v1/openapi.json'),
    style: loaded('link', 'href', '/kiosk/kiosk.css'),
    frame: framed('/kiosk'),
    stream: streamed(`/v1/charges/${id}/events`),
    'kiosk stream': streamed('/kiosk/events'),
    socket: socket('/v1/charges'),
  };
  const names = Object.keys(all);
  const results = await Promise.all(Object.values(all).map(patience));
  return names.map((name, i) => [name, results[i]]);
}

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--host-resolver-rules=MAP *.example 127.0.0.1'],
});
const answers = [];
const read = [];

/// Hears every answer of the agent's to this page and its frames, also those that the browser keeps from it.
async function overhear(page, at) {
  const told = (url, status) => { if (new URL(url).port === port) answers.push({ page: at, url, status }); };
  page.on('response', (response) => told(response.url(), response.status()));
  const wire = await page.context().newCDPSession(page);
  const asked = new Map();
  wire.on('Network.requestWillBeSent', (it) => asked.set(it.requestId, it.request.url));
  wire.on('Network.responseReceivedExtraInfo', (it) => {
    if (asked.has(it.requestId)) told(asked.get(it.requestId), it.statusCode);
  });
  await wire.send('Network.enable');
}
try {
  // The merchant's own browser: the screen was opened in it, so its cookie is there.
  const context = await browser.newContext();
  const screen = await context.newPage();
  const opened = await screen.goto(kiosk, { waitUntil: 'commit' });
  if (opened.status() !== 200) throw new Error(`the screen itself does not open: ${opened.status()}`);
  const base = `http://${agent}`;
  const targets = [
    // Another site; another port of the same address, which the cookie counts as the same site; the same by name.
    [`http://cats.example:${own}/`, base],
    [`http://127.0.0.1:${own}/`, base],
    [`http://localhost:${own}/`, base],
    // Rebinding: the page's own name leads to the agent, so nothing is cross-origin for the browser.
    [`http://rebound.example:${own}/`, `http://rebound.example:${port}`],
  ];
  for (const [at, to] of targets) {
    const page = await context.newPage();
    await overhear(page, at);
    await page.goto(at);
    const seen = await page.evaluate(attempts, { base: to, ws: to.replace('http', 'ws'), secret, body });
    for (const [name, what] of seen) if (/^(read|ran)/.test(what)) read.push([at, name, what]);
    await page.close();
  }
  // The rebound name typed, linked to, and from there its own origin.
  for (const at of [`http://rebound.example:${port}/kiosk`, `http://rebound.example:${port}/v1/openapi.json`]) {
    const page = await context.newPage();
    await overhear(page, at);
    await page.goto(at);
    const base = `http://rebound.example:${port}`;
    const seen = await page.evaluate(attempts, { base, ws: base.replace('http', 'ws'), secret, body });
    for (const [name, what] of seen) if (/^(read|ran)/.test(what)) read.push([at, name, what]);
    await page.close();
  }
} finally {
  await browser.close();
  server.close();
}
process.stdout.write(JSON.stringify({ answers, read }));
