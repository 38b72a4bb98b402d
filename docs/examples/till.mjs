// A till:  node till.mjs 127.0.0.1:8680 till.secret 420 EUR "sale 1041" [id of a charge begun before]
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const [address, secret, minor, currency, sale, before] = process.argv.slice(2);
const headers = { authorization: `Bearer ${fs.readFileSync(secret, 'utf8').trim()}`, 'content-type': 'application/json' };
const now = Date.now().toString(16).padStart(12, '0'); // A UUIDv7. A till keeps it with the sale before it asks: see docs/TILL.md.
const id = before ?? `${now.slice(0, 8)}-${now.slice(8)}-7${randomUUID().slice(15)}`;
const ends = { cancelled: 'cancelled', released: 'declined', expired: 'nobody paid in time' };
const leave = (code, words) => { console.log(words); process.exit(code); };

/// Asks until somebody knows: the same request again does nothing twice.
async function ask(method, path, body, more) {
  for (;;) {
    let problem = {};
    try {
      const answer = await fetch(`http://${address}/v1/charges${path}`, { method, body, headers: { ...headers, ...more } });
      if (answer.ok) return answer;
      problem = await answer.json();
      if (answer.status !== 503) leave(1, `${problem.title}: ${problem.next_step}`);
      console.log('not possible now:', problem.next_step);
    } catch { /* The agent is not there, or has just gone. */ }
    await pause(1000 * (problem.retry_after_s ?? 1));
  }
}

function tell(charge) {
  console.log(charge.stage, charge.stale ? '(old: the authority is away)' : '');
  if (charge.stage === 'paid') leave(0, `paid, mark ${charge.mark}`);
  if (charge.stage === 'ended') leave(1, ends[charge.reason]);
}

const amount = { amount_minor: Number(minor), currency };
const start = ask('POST', '', JSON.stringify({ charge: id, amount, reference: sale }));
// Ctrl-C cancels; what came of it is told like everything else: it may be paid already. A cancel must not overtake
// a start without an answer, which would then come on offer.
process.on('SIGINT', () => start.then(() => ask('DELETE', `/${id}`)));
await start;
for (let last = '', text = ''; ; text = '') {
  const stream = await ask('GET', `/${id}/events`, undefined, { 'last-event-id': last });
  try {
    for await (const part of stream.body.pipeThrough(new TextDecoderStream())) {
      const lines = (text + part).split('\n');
      text = lines.pop();
      for (const line of lines) {
        if (line.startsWith('id:')) last = line.slice(3).trim();
        if (line.startsWith('data:')) tell(JSON.parse(line.slice(5)));
      }
    }
  } catch { /* The stream broke: what was missed comes with the next one. */ }
}
