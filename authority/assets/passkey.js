// What does a page do with passkeys? Forms say what they are for, this asks the authenticator.
//
//   <form data-passkey="confirm" data-options="/v1/claims/…/approval/options">  amount_minor, currency, payee, account;
//       goes on its way with what the passkey signed in a field `assertion`
//   <form data-passkey="add" data-done="/me">  name; adds a passkey, then goes to data-done
//
// Both have a field form_token, and say data-failed in their [data-passkey-says] when it did not work.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => {
  const binary = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};
const value = (form, name) => form.elements.namedItem(name)?.value || undefined;

const ask = async (form, path, body) => {
  const headers = { "content-type": "application/json", "x-form-token": value(form, "form_token") ?? "" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin" });
  const said = await answer.json();
  if (!answer.ok) throw new Error([said.title, said.next_step].join(" "), { cause: "refused" });
  return said;
};

const credentials = (list) => list.map((it) => ({ ...it, id: bytes(it.id) }));

const confirm = async (form) => {
  const { publicKey } = await ask(form, form.dataset.options, {
    amount: { amount_minor: Number(value(form, "amount_minor")), currency: value(form, "currency") },
    payee: value(form, "payee"),
    account: value(form, "account"),
  });
  publicKey.challenge = bytes(publicKey.challenge);
  publicKey.allowCredentials = credentials(publicKey.allowCredentials);
  const { rawId, response } = await navigator.credentials.get({ publicKey });
  form.elements.namedItem("assertion").value = JSON.stringify({
    passkey: text(rawId),
    client_data: text(response.clientDataJSON),
    authenticator_data: text(response.authenticatorData),
    signature: text(response.signature),
  });
  form.submit();
};

const add = async (form) => {
  const { profile, publicKey } = await ask(form, "/v1/passkeys/options", {});
  publicKey.challenge = bytes(publicKey.challenge);
  publicKey.user.id = bytes(publicKey.user.id);
  publicKey.excludeCredentials = credentials(publicKey.excludeCredentials);
  const { response } = await navigator.credentials.create({ publicKey });
  await ask(form, "/v1/passkeys", {
    profile,
    name: value(form, "name"),
    client_data: text(response.clientDataJSON),
    attestation_object: text(response.attestationObject),
  });
  location.assign(form.dataset.done);
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "1";
    try {
      await (form.dataset.passkey === "add" ? add : confirm)(form);
    } catch (error) {
      const says = form.querySelector("[data-passkey-says]");
      if (says) says.textContent = error.cause === "refused" ? error.message : form.dataset.failed;
    } finally {
      delete form.dataset.busy;
    }
  });
}
