// A certified OpenID provider with customers of a test's making, on loopback.
//
//   node provider.mjs <configuration.json>
//
// {
//   "port": 4000, "issuer": "https://localhost:4000", "name": "Demo Wallet",
//   "tls": { "key": "key.pem", "cert": "cert.pem" },            left out: plain HTTP on loopback
//   "client": { "client_id": "m2key", "redirect_uri": "…", "jwks_uri": "…" or "secret": "…",
//               "backchannel_logout_uri": "…" },
//   "strong_acr": "urn:demo:sca",
//   "customers": { "ann": { "sub": "7f3c", "password": "…", "strong": true,
//                           "accounts": [{ "id": "1", "name": "Current", "currency": "EUR" }] } }
// }
//
// Says "ready" on its standard output. POST /test/rotate: it signs with a new key from then on.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import crypto from 'node:crypto';
import Provider from 'oidc-provider';

const config = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const customers = Object.values(config.customers);

function newKey() {
  const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const kid = crypto.randomUUID();
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid };
}

function client() {
  const { client_id, redirect_uri, jwks_uri, secret, backchannel_logout_uri } = config.client;
  const known = {
    client_id,
    redirect_uris: [redirect_uri],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    id_token_signed_response_alg: 'ES256',
    require_auth_time: true,
  };
  if (secret) {
    Object.assign(known, { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' });
  } else {
    Object.assign(known, {
      jwks_uri,
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
    });
  }
  if (backchannel_logout_uri) {
    Object.assign(known, { backchannel_logout_uri, backchannel_logout_session_required: true });
  }
  return known;
}

async function grantAtOnce(ctx) {
  const { client: asking, session, provider: own } = ctx.oidc;
  const known = session.grantIdFor(asking.clientId);
  if (known) return own.Grant.find(known);
  const grant = new own.Grant({ clientId: asking.clientId, accountId: session.accountId });
  grant.addOIDCScope('openid accounts');
  await grant.save();
  return grant;
}

function make(keys) {
  const provider = new Provider(config.issuer, {
    clients: [client()],
    jwks: { keys },
    cookies: { keys: [crypto.randomUUID()] },
    pkce: { required: () => true, methods: ['S256'] },
    clockTolerance: 30,
    scopes: ['openid', 'accounts'],
    claims: { openid: ['sub'], accounts: ['m2key_accounts'] },
    acrValues: config.strong_acr ? [config.strong_acr] : [],
    features: {
      devInteractions: { enabled: false },
      pushedAuthorizationRequests: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    findAccount(ctx, sub) {
      const found = customers.find((customer) => customer.sub === sub);
      return found && { accountId: sub, claims: () => ({ sub, m2key_accounts: found.accounts }) };
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: grantAtOnce,
    ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider;
}

function page(body) {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${config.name}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"></head>
<body><main><h1>${config.name}</h1>${body}</main></body></html>`;
}

function loginPage(uid, hint) {
  return page(`<p role="status">${hint}</p>
<form method="post" action="/interaction/${uid}/login">
<label>Name <input name="login" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<button>Sign in</button></form>
<form method="post" action="/interaction/${uid}/abort"><button>Cancel</button></form>`);
}

async function body(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 10_000) throw new Error('too long');
  }
  return new URLSearchParams(text);
}

let keys = [newKey()];
let provider = make(keys);
let answer = provider.callback();

function send(response, status, html) {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  response.end(html);
}

async function interaction(request, response, uid, step) {
  if (request.method === 'GET') return send(response, 200, loginPage(uid, ''));
  if (step === 'abort') {
    const result = { error: 'access_denied', error_description: 'given up' };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  const form = await body(request);
  const customer = config.customers[form.get('login')];
  if (!customer || customer.password !== form.get('password')) {
    return send(response, 403, loginPage(uid, 'Name or password is wrong.'));
  }
  const login = { accountId: customer.sub };
  if (customer.strong && config.strong_acr) login.acr = config.strong_acr;
  return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
}

async function serve(request, response) {
  const path = new URL(request.url, config.issuer).pathname;
  if (request.method === 'POST' && path === '/test/rotate') {
    keys = [newKey()];
    provider = make(keys);
    answer = provider.callback();
    response.writeHead(204);
    return response.end();
  }
  const [, first, uid, step] = path.split('/');
  if (first === 'interaction' && uid) return interaction(request, response, uid, step);
  return answer(request, response);
}

function handle(request, response) {
  serve(request, response).catch((error) => {
    console.error(error);
    response.writeHead(500);
    response.end();
  });
}

const server = config.tls
  ? https.createServer({ key: fs.readFileSync(config.tls.key), cert: fs.readFileSync(config.tls.cert) }, handle)
  : http.createServer(handle);
server.listen(config.port, '127.0.0.1', () => console.log('ready'));
