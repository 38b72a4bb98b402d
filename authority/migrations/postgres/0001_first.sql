-- The schema as it is when PostgreSQL is first used: what version 20 of the embedded store has, in the words
-- of PostgreSQL. Times are milliseconds since the Unix epoch, UTC. Ids are UUIDs of 16 bytes. Amounts are
-- minor units of a currency of ISO 4217. Texts are compared byte by byte, as SQLite does. Later steps only
-- add, so that a node of the version before can go on beside one of this version.

-- What statements for both databases may call.
CREATE FUNCTION max(a bigint, b bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT greatest(a, b)';
CREATE FUNCTION min(a bigint, b bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT least(a, b)';
CREATE FUNCTION json_valid(body text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    PERFORM body::json;
    RETURN true;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN false;
END $$;
CREATE FUNCTION json_extract(body text, path text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT body::json #>> string_to_array(substr(path, 3), '.') $$;
CREATE FUNCTION json_each(list text) RETURNS TABLE (value text)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT json_array_elements_text(list::json) $$;

CREATE TABLE meta (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    generation BIGINT NOT NULL CHECK (generation >= 1), -- life of this database, an input of every epoch key
    node TEXT COLLATE "C" NOT NULL, -- the node that made this database
    parting_key BYTEA CHECK (length(parting_key) = 32) -- random; names in parted are macs under it
);

CREATE TABLE probe (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    value BYTEA NOT NULL -- 16 random bytes of the last readiness probe
);

CREATE TABLE spent (
    epoch BIGINT NOT NULL, -- first, so that old epochs do not slow new ones and go together
    terminal BIGINT NOT NULL, -- whose token
    version BIGINT NOT NULL, -- of the seed
    channel BIGINT NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window" BIGINT NOT NULL CHECK ("window" BETWEEN 0 AND 65535), -- number within epoch and channel
    turn BIGINT NOT NULL CHECK (turn BETWEEN 0 AND 65535), -- number within the window
    claim BYTEA NOT NULL CHECK (length(claim) = 16), -- the claim that spent it
    PRIMARY KEY (epoch, terminal, version, channel, "window", turn)
) PARTITION BY RANGE (epoch);

CREATE TABLE epoch_fence (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    below BIGINT NOT NULL CHECK (below >= 0) -- no token of an epoch below it is accepted; only rises
);

CREATE TABLE turns (
    epoch BIGINT NOT NULL, -- first, as in spent
    terminal BIGINT NOT NULL, -- whose window
    version BIGINT NOT NULL, -- of the seed
    channel BIGINT NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window" BIGINT NOT NULL CHECK ("window" BETWEEN 0 AND 65535), -- number within epoch and channel
    turn BIGINT NOT NULL CHECK (turn BETWEEN 1 AND 65535), -- the one that counts; a window without a row is at 0
    PRIMARY KEY (epoch, terminal, version, channel, "window")
) PARTITION BY RANGE (epoch);

CREATE TABLE audit_rows (
    node TEXT COLLATE "C" NOT NULL, -- whose chain
    sequence BIGINT NOT NULL CHECK (sequence >= 1), -- from 1, without gaps
    previous BYTEA NOT NULL CHECK (length(previous) = 32), -- hash of the row before
    at_ms BIGINT NOT NULL, -- when
    kind TEXT COLLATE "C" NOT NULL, -- what happened, e.g. payment.paid
    body TEXT COLLATE "C" NOT NULL, -- JSON, hashed as these bytes; persons only as salted commitments
    hash BYTEA NOT NULL CHECK (length(hash) = 32), -- of this row, and so of all before it
    PRIMARY KEY (node, sequence)
);
CREATE INDEX audit_of_claims ON audit_rows (json_extract(body, '$.claim')) WHERE kind IN ('approval.signed', 'sms.turned') AND json_valid(body);
CREATE INDEX audit_of_confirmations ON audit_rows (json_extract(body, '$.payment')) WHERE kind = 'payment.confirmed' AND json_valid(body);

CREATE TABLE checkpoints (
    number BIGINT NOT NULL PRIMARY KEY CHECK (number >= 1), -- from 1, without gaps
    at_ms BIGINT NOT NULL, -- when
    jws TEXT COLLATE "C" NOT NULL -- compact JWS that binds the heads of all chains
);

CREATE TABLE revocations (
    serial TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- lower-case hex; need not be in certificates: a restored database may have lost it
    issuer_key TEXT COLLATE "C" NOT NULL, -- key identifier of the issuing CA whose list it is on; empty: on every list
    not_after_ms BIGINT NOT NULL, -- end of the certificate; it leaves the list one list later
    revoked_at_ms BIGINT NOT NULL, -- refused from then on
    reason TEXT COLLATE "C" NOT NULL CHECK (reason IN ('unspecified', 'key-compromise', 'ca-compromise', 'superseded', 'cessation-of-operation', 'privilege-withdrawn')), -- RFC 5280, 5.3.1
    revoked_by TEXT COLLATE "C" NOT NULL -- the verb that did it: certificate-revoke, terminal-ban or fence-raise
);
CREATE INDEX revocations_by_list ON revocations (issuer_key, not_after_ms);

CREATE TABLE crls (
    issuer_key TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- key identifier of the issuing CA
    number BIGINT NOT NULL CHECK (number >= 1), -- the highest given out, signed or not; never goes back
    this_update_ms BIGINT, -- of the last list that was signed; null: none yet
    next_update_ms BIGINT, -- when the next is there at the latest; null: none yet
    CHECK ((this_update_ms IS NULL) = (next_update_ms IS NULL))
);

CREATE TABLE fence (
    node TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- whose journal
    journal TEXT COLLATE "C" NOT NULL, -- which one it writes into
    line BIGINT NOT NULL CHECK (line >= 1), -- a line that stood there, rising with every checkpoint
    hash BYTEA NOT NULL CHECK (length(hash) = 32) -- of that line
);

CREATE TABLE news (
    number BIGINT NOT NULL PRIMARY KEY, -- rising, in the order of commits
    node TEXT COLLATE "C" NOT NULL, -- who did it, and need not hear of it
    kind TEXT COLLATE "C" NOT NULL, -- what others must hear of: banned, revoked, reseeded, keys, operations, generation, fact
    about TEXT COLLATE "C" -- the terminal or serial; null: nothing in particular
);

CREATE TABLE nodes (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- as its configuration says
    since_ms BIGINT NOT NULL, -- when it came, by the clock of the database
    seen_ms BIGINT NOT NULL, -- when it was there last, within some seconds
    version TEXT COLLATE "C" NOT NULL -- of its program
);

CREATE TABLE key_proofs (
    sealing_label TEXT COLLATE "C" NOT NULL, -- the HSM key that seals
    binding_label TEXT COLLATE "C" NOT NULL, -- the HSM key that binds
    context BYTEA NOT NULL, -- the header: of no terminal
    blob BYTEA NOT NULL, -- a seed of nobody, wrapped: a node whose HSM token cannot use it has other keys
    binding BYTEA NOT NULL CHECK (length(binding) = 32), -- HMAC over sealing label, header and wrapped seed
    PRIMARY KEY (sealing_label, binding_label)
);

CREATE TABLE raises (
    generation BIGINT NOT NULL PRIMARY KEY CHECK (generation >= 2), -- in force from then on
    raised_at_ms BIGINT NOT NULL, -- when; certificates from before it may be adopted
    reason TEXT COLLATE "C" NOT NULL, -- in the operator's words
    lost_rows BIGINT NOT NULL CHECK (lost_rows >= 0) -- audit rows that the journal knew of and this database did not
);

CREATE TABLE operations (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time
    verb TEXT COLLATE "C" NOT NULL, -- what an operator asked for
    work TEXT COLLATE "C" NOT NULL, -- JSON: what is carried out, exactly
    asked_by TEXT COLLATE "C" NOT NULL, -- the operator
    consent TEXT COLLATE "C", -- id of the request that others consented to; null: nobody else was needed
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'refused')), -- running ones go on by themselves
    outcome TEXT COLLATE "C", -- what came of it, in words; null while it runs
    total BIGINT CHECK (total >= 0), -- terminals it concerns; null: not counted yet, or none
    done BIGINT NOT NULL CHECK (done >= 0), -- of these
    after_id BIGINT, -- the last of these, in order of id; null: before the first
    started_at_ms BIGINT NOT NULL, -- asked for
    ended_at_ms BIGINT, -- null while it runs
    CHECK ((state = 'running') = (ended_at_ms IS NULL)),
    CHECK ((state = 'running') = (outcome IS NULL))
);
CREATE INDEX running_operations ON operations (id) WHERE state = 'running';
CREATE UNIQUE INDEX one_operation_per_consent ON operations (consent) WHERE consent IS NOT NULL;

CREATE TABLE operators (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- the last part of the SPIFFE ID; never given to anybody else
    added_by TEXT COLLATE "C" NOT NULL, -- the operator who asked for it; 'init' for the first
    added_at_ms BIGINT NOT NULL, -- when
    revoked_by TEXT COLLATE "C", -- the operator who asked for that; null: still an operator
    revoked_at_ms BIGINT, -- counts for nothing from then on
    CHECK ((revoked_by IS NULL) = (revoked_at_ms IS NULL))
);

CREATE TABLE consent_policy (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one
    policy TEXT COLLATE "C" NOT NULL, -- JSON: how many must consent to which group of verbs
    set_by TEXT COLLATE "C" NOT NULL, -- the operator who asked for it
    set_at_ms BIGINT NOT NULL, -- when
    number BIGINT NOT NULL DEFAULT 1 CHECK (number >= 1) -- rises with every change
);

CREATE TABLE persons (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- random, tells nothing
    audit_salt BYTEA NOT NULL CHECK (length(audit_salt) = 32), -- random; without it the audit's commitments name nobody
    pairwise_salt BYTEA NOT NULL CHECK (length(pairwise_salt) = 32), -- random; key of the pseudonyms towards merchants
    default_account BYTEA, -- the service account that is offered first; null: the oldest
    locked_at_ms BIGINT, -- pays nothing since then; null: not locked
    lock_reason TEXT COLLATE "C", -- why, in the words of whoever locked it
    deleted_at_ms BIGINT, -- the shopper left: no identity leads here, and the salts are new ones
    lock_turn BIGINT NOT NULL DEFAULT 0 CHECK (lock_turn >= 0), -- how often it was locked or unlocked
    brought_misses BIGINT NOT NULL DEFAULT 0 CHECK (brought_misses >= 0), -- wrong codes that an identity brought along
    brought_missed_at_ms BIGINT, -- the last of them
    CHECK ((locked_at_ms IS NULL) = (lock_reason IS NULL))
);
CREATE INDEX persons_locked ON persons (id) WHERE locked_at_ms IS NOT NULL;

CREATE TABLE logout_tokens (
    issuer TEXT COLLATE "C" NOT NULL, -- the identity provider that ended a session of its own
    jti TEXT COLLATE "C" NOT NULL, -- its name for saying so, once
    expires_at_ms BIGINT NOT NULL, -- refused as too old from then on, so it may be forgotten
    PRIMARY KEY (issuer, jti)
);

CREATE TABLE nonce_keys (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    key BYTEA NOT NULL CHECK (length(key) = 32), -- makes the nonces of proofs: the same on every node, so that any of them knows any other's
    made_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE proofs (
    key BYTEA NOT NULL CHECK (length(key) = 32), -- thumbprint of the key that signed the proof
    jti BYTEA NOT NULL CHECK (length(jti) = 32), -- SHA-256 of the proof's jti
    until_ms BIGINT NOT NULL, -- from then on it is too old for everybody, and the row goes
    PRIMARY KEY (key, jti)
);
CREATE INDEX proofs_by_end ON proofs (until_ms);

CREATE TABLE wallet_requests (
    key BYTEA NOT NULL CHECK (length(key) = 32), -- thumbprint of the wallet's key
    name BYTEA NOT NULL CHECK (length(name) = 32), -- SHA-256 of the Idempotency-Key
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32), -- SHA-256 of who asked for what
    claim BYTEA NOT NULL CHECK (length(claim) = 16), -- the id of the claim that it makes: a repeat goes on with it
    began_at_ms BIGINT NOT NULL, -- first asked
    running_until_ms BIGINT NOT NULL, -- a repeat waits until then; 0: nobody is at work
    status BIGINT, -- of the refusal that stays its answer; null: none
    refusal BYTEA, -- its body
    PRIMARY KEY (key, name),
    CHECK ((status IS NULL) = (refusal IS NULL))
);
CREATE INDEX wallet_requests_by_time ON wallet_requests (began_at_ms);

CREATE TABLE sms_texts (
    gateway TEXT COLLATE "C" NOT NULL, -- the gateway's link that it came over
    message TEXT COLLATE "C" NOT NULL, -- the gateway's own id of it
    number TEXT COLLATE "C" NOT NULL, -- who sent it, as the gateway says, E.164
    print BYTEA CHECK (length(print) = 32), -- keyed hash of a code or number in it; null: neither
    text TEXT COLLATE "C", -- what it says; null once it is answered
    received_at_ms BIGINT NOT NULL, -- when
    answered_at_ms BIGINT, -- when what follows from it was committed; null: not yet
    PRIMARY KEY (gateway, message),
    CHECK ((text IS NULL) = (answered_at_ms IS NOT NULL))
);
CREATE INDEX sms_texts_by_number ON sms_texts (number, received_at_ms);
CREATE INDEX sms_texts_waiting ON sms_texts (received_at_ms) WHERE answered_at_ms IS NULL;
CREATE INDEX sms_texts_by_age ON sms_texts (received_at_ms);

CREATE TABLE sms_talks (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one payment by SMS, from the code to the receipt
    number TEXT COLLATE "C", -- whose phone, E.164; null once it is over
    language TEXT COLLATE "C" NOT NULL CHECK (language IN ('en', 'fr')), -- of the answers
    claim BYTEA NOT NULL UNIQUE CHECK (length(claim) = 16), -- the claim it makes; chosen before that is made
    print BYTEA NOT NULL CHECK (length(print) = 32), -- of the text that began it
    typed TEXT COLLATE "C", -- the amount that the shopper wrote, as written; null: none
    stage TEXT COLLATE "C" NOT NULL CHECK (stage IN ('claiming', 'wants-amount', 'offered', 'approving', 'paid', 'over')), -- where it stands
    amount_minor BIGINT CHECK (amount_minor > 0), -- what was offered
    currency TEXT COLLATE "C" CHECK (length(currency) = 3), -- of that
    wrong BIGINT NOT NULL CHECK (wrong >= 0), -- wrong numbers so far
    told BIGINT NOT NULL CHECK (told IN (0, 1)), -- the shopper knows that the answer takes time
    until_ms BIGINT NOT NULL, -- the stage ends, or is taken up again, then
    begun_at_ms BIGINT NOT NULL, -- when
    changed_at_ms BIGINT NOT NULL, -- since when it is in this stage
    CHECK ((number IS NULL) = (stage IN ('paid', 'over'))),
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK (stage NOT IN ('offered', 'approving', 'paid') OR amount_minor IS NOT NULL)
);
CREATE UNIQUE INDEX one_open_sms_talk_per_number ON sms_talks (number) WHERE number IS NOT NULL;
CREATE INDEX open_sms_talks_by_end ON sms_talks (until_ms) WHERE number IS NOT NULL;

CREATE TABLE sms_numbers (
    number TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- a phone that chose a language, E.164
    language TEXT COLLATE "C" NOT NULL CHECK (language IN ('en', 'fr')) -- which
);

CREATE TABLE account_caps (
    rail TEXT COLLATE "C" NOT NULL, -- rail and reference: the service account, whoever has it
    reference TEXT COLLATE "C" NOT NULL, -- what the rail calls the account
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of the caps, and of every payment from it
    payment_max_minor BIGINT NOT NULL CHECK (payment_max_minor > 0), -- the most of one payment
    month_max_minor BIGINT NOT NULL CHECK (month_max_minor > 0), -- the most of one calendar month, UTC
    month TEXT COLLATE "C" NOT NULL, -- the month that is counted, 2026-11
    spent_minor BIGINT NOT NULL CHECK (spent_minor >= 0), -- paid or being paid in it
    PRIMARY KEY (rail, reference)
);

CREATE TABLE parted (
    identity BYTEA NOT NULL PRIMARY KEY CHECK (length(identity) = 32), -- HMAC of issuer and subject; the names themselves are nowhere
    kept_until_ms BIGINT NOT NULL, -- goes then
    misses BIGINT NOT NULL CHECK (misses >= 0), -- wrong codes of the profile it left, lately
    missed_at_ms BIGINT -- the last of them
);
CREATE INDEX parted_by_end ON parted (kept_until_ms);

CREATE TABLE parted_locks (
    identity BYTEA NOT NULL PRIMARY KEY CHECK (length(identity) = 32), -- as in parted: it opened a profile that a restore has lost
    person BYTEA NOT NULL CHECK (length(person) = 16), -- that profile
    turn BIGINT NOT NULL CHECK (turn > 0), -- its lock_turn then
    locked_at_ms BIGINT NOT NULL, -- since when it was locked
    reason TEXT COLLATE "C" NOT NULL -- why
);
CREATE INDEX parted_locks_by_person ON parted_locks (person);

CREATE TABLE accounts (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an outside account has 13 zero bytes and its currency
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('shopper', 'merchant', 'outside')), -- whose; outside is where credits come from
    person BYTEA REFERENCES persons (id) DEFERRABLE, -- the shopper; null for the others
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of all entries
    balance_minor BIGINT CHECK (balance_minor >= 0), -- the guarded balance of a shopper; null for the others, who are the sum of their entries
    opened_at_ms BIGINT NOT NULL, -- when it was opened
    CHECK ((kind = 'shopper') = (person IS NOT NULL)),
    CHECK ((kind = 'shopper') = (balance_minor IS NOT NULL))
);
CREATE UNIQUE INDEX one_account_per_person_and_currency ON accounts (person, currency) WHERE kind = 'shopper';

CREATE TABLE misses (
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- who typed a wrong code
    at_ms BIGINT NOT NULL, -- when
    epoch BIGINT NOT NULL, -- epoch to window: where
    terminal BIGINT NOT NULL, -- need not exist: it was typed
    version BIGINT NOT NULL, -- of the seed
    channel BIGINT NOT NULL, -- 3, a code
    "window" BIGINT NOT NULL, -- number within epoch and channel
    misses BIGINT NOT NULL CHECK (misses >= 1), -- how many in that millisecond
    PRIMARY KEY (person, at_ms, epoch, terminal, version, channel, "window")
);
CREATE INDEX misses_by_window ON misses (epoch, terminal, version, channel, "window", misses);

CREATE TABLE operation_rows (
    operation BYTEA NOT NULL REFERENCES operations (id) DEFERRABLE, -- whose transcript
    node TEXT COLLATE "C" NOT NULL, -- whose audit chain
    sequence BIGINT NOT NULL, -- the row that tells of it
    PRIMARY KEY (operation, node, sequence)
);

CREATE TABLE consent_requests (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time
    verb TEXT COLLATE "C" NOT NULL, -- what is asked for
    body TEXT COLLATE "C" NOT NULL, -- JSON: with what, exactly
    asked_by TEXT COLLATE "C" NOT NULL REFERENCES operators (name) DEFERRABLE, -- who signed the request
    statement TEXT COLLATE "C" NOT NULL, -- the request, JWS with the certificates of the one who asks
    asked_at_ms BIGINT NOT NULL, -- as the request says
    expires_at_ms BIGINT NOT NULL, -- carried out no later
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'begun', 'done', 'withdrawn')), -- how far it is
    begun_at_ms BIGINT, -- when it was first carried out; null: not yet
    ended_at_ms BIGINT, -- when it was done or withdrawn; null: neither
    answer TEXT COLLATE "C", -- JSON: what came of it, for verbs whose answer holds no secret
    CHECK ((state IN ('done', 'withdrawn')) = (ended_at_ms IS NOT NULL)),
    CHECK (state NOT IN ('begun', 'done') OR begun_at_ms IS NOT NULL)
);
CREATE INDEX consent_requests_to_carry_out ON consent_requests (verb, expires_at_ms) WHERE state IN ('open', 'begun');

CREATE TABLE identities (
    issuer TEXT COLLATE "C" NOT NULL, -- the identity provider
    subject TEXT COLLATE "C" NOT NULL, -- the provider's name for the person, never an e-mail address
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- whose profile it opens
    linked_at_ms BIGINT NOT NULL, -- when
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_by_person ON identities (person);

CREATE TABLE service_accounts (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- as the shopper chooses it; in the ledger the account's own id
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- who pays from it
    rail TEXT COLLATE "C" NOT NULL, -- what moves its money: 'ledger', or a rail of the configuration
    reference TEXT COLLATE "C" NOT NULL, -- what the rail calls it
    name TEXT COLLATE "C" NOT NULL, -- what the shopper calls it
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of every payment from it
    issuer TEXT COLLATE "C", -- issuer and subject: the identity that brought it; null in the ledger
    subject TEXT COLLATE "C", -- as issuer
    added_at_ms BIGINT NOT NULL, -- when
    closed_at_ms BIGINT, -- pays no more since then; null: open
    CHECK ((issuer IS NULL) = (subject IS NULL))
);
CREATE UNIQUE INDEX one_open_service_account_per_reference ON service_accounts (person, rail, reference) WHERE closed_at_ms IS NULL;

CREATE TABLE sessions (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one browser, signed in once
    secret BYTEA NOT NULL UNIQUE CHECK (length(secret) = 32), -- SHA-256 of the secret in its cookie
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- whose profile it opens
    issuer TEXT COLLATE "C" NOT NULL, -- issuer and subject: the identity that signed in
    subject TEXT COLLATE "C" NOT NULL, -- as issuer
    provider TEXT COLLATE "C" NOT NULL, -- name of the identity provider at that time
    provider_session TEXT COLLATE "C", -- what the provider calls its own session (sid); null: it did not say
    authenticated_at_ms BIGINT NOT NULL, -- when the provider last asked for a password or a finger; 0: it did not say
    strong BIGINT NOT NULL CHECK (strong IN (0, 1)), -- whether that was strong customer authentication
    started_at_ms BIGINT NOT NULL, -- when
    seen_at_ms BIGINT NOT NULL, -- when it was used last, to the minute
    ended_at_ms BIGINT, -- good for nothing since then; null: until a limit ends it
    end_reason TEXT COLLATE "C" CHECK (end_reason IN ('signed-out', 'replaced', 'provider', 'everywhere', 'too-many', 'unlinked', 'deleted')), -- why
    CHECK ((ended_at_ms IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_by_person ON sessions (person, started_at_ms);
CREATE INDEX open_sessions_by_identity ON sessions (issuer, subject) WHERE ended_at_ms IS NULL;
CREATE INDEX sessions_by_start ON sessions (started_at_ms);

CREATE TABLE passkeys (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 1023), -- what its authenticator calls it
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- whose payments it confirms
    public_point BYTEA NOT NULL CHECK (length(public_point) = 65), -- uncompressed, P-256
    counter BIGINT NOT NULL CHECK (counter BETWEEN 0 AND 4294967295), -- the highest its authenticator has shown; 0: it keeps none
    name TEXT COLLATE "C" NOT NULL, -- what the shopper calls it
    added_at_ms BIGINT NOT NULL, -- when
    used_at_ms BIGINT, -- when it last confirmed a payment; null: never
    removed_at_ms BIGINT -- confirms nothing since then, and stays for what it confirmed before
);
CREATE INDEX passkeys_by_person ON passkeys (person) WHERE removed_at_ms IS NULL;
CREATE INDEX passkeys_removed ON passkeys (removed_at_ms) WHERE removed_at_ms IS NOT NULL;

CREATE TABLE allowances (
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- who pays
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of everything in this row
    strong_at_ms BIGINT, -- the last strong authentication; null: none yet
    unaided_minor BIGINT NOT NULL CHECK (unaided_minor >= 0), -- paid since then without one
    unaided_payments BIGINT NOT NULL CHECK (unaided_payments >= 0), -- in so many payments
    unaided_at_ms BIGINT, -- the last of them
    day BIGINT NOT NULL, -- days since 1970, UTC
    day_minor BIGINT NOT NULL CHECK (day_minor >= 0), -- paid on that day
    own_each_minor BIGINT CHECK (own_each_minor >= 0), -- the shopper's own limit per payment; null: none
    own_day_minor BIGINT CHECK (own_day_minor >= 0), -- and per day; null: none
    PRIMARY KEY (person, currency)
);

CREATE TABLE sms_letters (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an SMS that is still to be sent; the gateway took it: the row goes
    number TEXT COLLATE "C" NOT NULL, -- to whom, E.164
    language TEXT COLLATE "C" NOT NULL CHECK (language IN ('en', 'fr')), -- in which language
    talk BYTEA REFERENCES sms_talks (id) DEFERRABLE, -- what it belongs to; null: nothing was begun
    kind TEXT COLLATE "C" NOT NULL, -- what it says
    say TEXT COLLATE "C" NOT NULL, -- the same with its particulars, JSON, but never the number that approves
    made_at_ms BIGINT NOT NULL, -- when
    next_at_ms BIGINT NOT NULL, -- when it is tried next
    tries BIGINT NOT NULL CHECK (tries >= 0) -- how often the gateway did not take it
);
CREATE INDEX sms_letters_by_next ON sms_letters (next_at_ms);
CREATE UNIQUE INDEX one_sms_receipt_per_talk ON sms_letters (talk) WHERE kind = 'paid';

CREATE TABLE sms_wrong (
    number TEXT COLLATE "C" NOT NULL, -- a phone that replied with a wrong number
    talk BYTEA NOT NULL REFERENCES sms_talks (id) DEFERRABLE, -- to what
    at_ms BIGINT NOT NULL, -- when
    times BIGINT NOT NULL CHECK (times > 0), -- how often in that millisecond
    PRIMARY KEY (number, at_ms, talk)
);

CREATE TABLE parted_allowances (
    identity BYTEA NOT NULL REFERENCES parted (identity) ON DELETE CASCADE DEFERRABLE, -- who left
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of everything in this row
    unaided_minor BIGINT NOT NULL CHECK (unaided_minor >= 0), -- as in allowances
    unaided_payments BIGINT NOT NULL CHECK (unaided_payments >= 0), -- as in allowances
    unaided_at_ms BIGINT, -- as in allowances
    day BIGINT NOT NULL, -- days since 1970, UTC
    day_minor BIGINT NOT NULL CHECK (day_minor >= 0), -- paid on that day
    PRIMARY KEY (identity, currency)
);

CREATE TABLE keys (
    kid TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- RFC 7638 thumbprint; for keys without a public half, the label
    purpose TEXT COLLATE "C" NOT NULL CHECK (purpose IN ('schedule', 'receipt', 'checkpoint', 'request', 'sealing', 'binding', 'tag')), -- what it is for
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('prepared', 'active', 'superseded', 'tainted', 'retired')), -- what it may be used for
    label TEXT COLLATE "C" NOT NULL UNIQUE, -- the object's label in the HSM
    public_point BYTEA CHECK (length(public_point) = 65), -- uncompressed SEC 1 point, for signing keys
    certificates TEXT COLLATE "C", -- PEM of its own certificate and the issuing one; null: none yet
    made_at_ms BIGINT NOT NULL, -- when it was made
    since_ms BIGINT NOT NULL, -- since when it is in this state
    published_at_ms BIGINT, -- since when the daemon tells others of it; null: not yet
    tainted_at_ms BIGINT, -- since when nothing it signs is believed; null: it was never tainted
    operation BYTEA REFERENCES operations (id) DEFERRABLE -- that brought it into this state; null: it was made with the authority
);
CREATE UNIQUE INDEX one_active_key_per_purpose ON keys (purpose) WHERE state = 'active';
CREATE UNIQUE INDEX one_prepared_key_per_purpose ON keys (purpose) WHERE state = 'prepared';

CREATE TABLE ledger_entries (
    account BYTEA NOT NULL REFERENCES accounts (id) DEFERRABLE, -- whose entry
    movement BYTEA NOT NULL CHECK (length(movement) = 16), -- the payment, or the credit, that moved it
    amount_minor BIGINT NOT NULL CHECK (amount_minor <> 0), -- to the account if positive; the entries of a movement sum to zero
    PRIMARY KEY (account, movement)
);

CREATE TABLE credits (
    reference TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- the operator's own; the same one again is the same credit
    movement BYTEA NOT NULL CHECK (length(movement) = 16), -- its ledger entries
    account BYTEA NOT NULL REFERENCES accounts (id) DEFERRABLE, -- whose account was credited
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0), -- how much, in the account's currency
    credited_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE merchants (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- who is paid
    name TEXT COLLATE "C" NOT NULL, -- as shoppers see it
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of every charge
    account BYTEA NOT NULL UNIQUE REFERENCES accounts (id) DEFERRABLE, -- where the built-in ledger puts the money
    fixed_minor BIGINT CHECK (fixed_minor > 0), -- what everybody pays when the till asks for nothing; null: not offered
    open_cap_minor BIGINT CHECK (open_cap_minor > 0), -- the most a shopper may choose to pay then; null: not offered
    added_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE clearing_accounts (
    rail TEXT COLLATE "C" NOT NULL, -- whose payments
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of them
    account BYTEA NOT NULL UNIQUE REFERENCES accounts (id) DEFERRABLE, -- kind outside; its entries sum up to what the rail owes, negated
    PRIMARY KEY (rail, currency)
);

CREATE TABLE offered_links (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an identity that has signed in to join a profile
    session BYTEA NOT NULL REFERENCES sessions (id) DEFERRABLE, -- who must confirm
    issuer TEXT COLLATE "C" NOT NULL, -- issuer and subject: the identity
    subject TEXT COLLATE "C" NOT NULL, -- as issuer
    provider TEXT COLLATE "C" NOT NULL, -- name of its provider
    brought TEXT COLLATE "C", -- JSON: the accounts it brings; null: it says nothing of accounts
    expires_at_ms BIGINT NOT NULL -- refused from then on
);
CREATE INDEX offered_links_by_end ON offered_links (expires_at_ms);

CREATE TABLE confirmations (
    payment BYTEA NOT NULL PRIMARY KEY CHECK (length(payment) = 16), -- the payment, or the intent that came to nothing
    passkey BYTEA NOT NULL REFERENCES passkeys (id) DEFERRABLE, -- what signed
    nonce BYTEA NOT NULL CHECK (length(nonce) = 32), -- with the payment's own fields this makes the challenge again
    authenticator_data BYTEA NOT NULL, -- authenticator_data ‖ SHA-256(client_data) is what is signed
    client_data BYTEA NOT NULL, -- the browser's JSON: challenge and origin
    signature BYTEA NOT NULL -- ECDSA over P-256 with SHA-256, DER
);

CREATE TABLE terminals (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id BETWEEN 0 AND 99999999), -- the 8 digits as a number
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- who is paid there
    name TEXT COLLATE "C" NOT NULL, -- where it stands, in the merchant's words
    banned_at_ms BIGINT, -- since when it is refused; null: active
    ban_reason TEXT COLLATE "C", -- why, in the operator's words
    version BIGINT NOT NULL CHECK (version >= 0), -- of the seed in force
    sequence BIGINT NOT NULL CHECK (sequence >= 0), -- of the last schedule; 0 before the first
    issued_until BIGINT, -- the last epoch any schedule held
    revision BIGINT NOT NULL CHECK (revision >= 0), -- rises with every change that the terminal is told
    till_charge BYTEA, -- the charge its till started last
    added_at_ms BIGINT NOT NULL, -- when
    refetch BIGINT NOT NULL DEFAULT 0 CHECK (refetch IN (0, 1)), -- The key that signed its last schedule; null before the first.
    schedule_kid TEXT COLLATE "C", -- The last epoch of any schedule that an earlier key signed; null: there is none.
    former_until BIGINT, -- the last epoch that a schedule of a replaced seed held; null: none
    void_below BIGINT NOT NULL DEFAULT 0 CHECK (void_below >= 0), -- no seed below this version counts again
    CHECK ((banned_at_ms IS NULL) = (ban_reason IS NULL))
);

CREATE TABLE merchant_limits (
    merchant BYTEA NOT NULL PRIMARY KEY REFERENCES merchants (id) DEFERRABLE, -- who is paid
    day_minor BIGINT NOT NULL CHECK (day_minor >= 0), -- the most in a day; goes before the configuration's
    set_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE merchant_days (
    merchant BYTEA NOT NULL PRIMARY KEY REFERENCES merchants (id) DEFERRABLE, -- who is paid; only those who have a limit
    day BIGINT NOT NULL, -- days since 1970, UTC
    taken_minor BIGINT NOT NULL CHECK (taken_minor >= 0) -- on that day
);

CREATE TABLE merchant_terms (
    merchant BYTEA NOT NULL PRIMARY KEY REFERENCES merchants (id) DEFERRABLE, -- whose; without a row the defaults count
    zone TEXT COLLATE "C", -- time zone of its business days, by its IANA name; null: the configuration's
    refund_day_max_minor BIGINT CHECK (refund_day_max_minor >= 0), -- most that is refunded on one business day; null: the configuration's
    pin_salt BYTEA CHECK (length(pin_salt) = 16), -- random; null: no PIN, so no refund from a till
    pin_hash BYTEA CHECK (length(pin_hash) = 32), -- scrypt over the PIN
    pin_cost BIGINT CHECK (pin_cost BETWEEN 1 AND 31), -- scrypt's log2 N
    pin_set_at_ms BIGINT, -- when
    pin_misses BIGINT NOT NULL DEFAULT 0 CHECK (pin_misses >= 0), -- tries since the last right one, begun or over
    pin_locked_until_ms BIGINT, -- no try before; null: not locked
    pin_day BIGINT NOT NULL DEFAULT 0, -- days since 1970, UTC
    pin_day_misses BIGINT NOT NULL DEFAULT 0 CHECK (pin_day_misses >= 0), -- tries of that day that were not right
    CHECK ((pin_salt IS NULL) = (pin_hash IS NULL)),
    CHECK ((pin_salt IS NULL) = (pin_cost IS NULL))
);

CREATE TABLE refund_days (
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- whose
    day TEXT COLLATE "C" NOT NULL, -- business day, as YYYY-MM-DD
    refunded_minor BIGINT NOT NULL CHECK (refunded_minor >= 0), -- given back or being given back on it
    PRIMARY KEY (merchant, day)
);

CREATE TABLE settlements (
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- whose books
    number BIGINT NOT NULL CHECK (number >= 1), -- of the merchant, from 1, without gaps
    day TEXT COLLATE "C" NOT NULL, -- the business day that it closes, as YYYY-MM-DD
    zone TEXT COLLATE "C" NOT NULL, -- the time zone of that day
    from_ms BIGINT NOT NULL, -- the cut before; the merchant's first: when it was added
    to_ms BIGINT NOT NULL, -- what was booked before this cut, and is in no earlier one
    first_ms BIGINT NOT NULL, -- its earliest booking: one that came late may lie before from_ms
    last_ms BIGINT NOT NULL, -- its latest
    opening_minor BIGINT NOT NULL, -- the merchant's ledger account at the cut before
    closing_minor BIGINT NOT NULL, -- and at this one
    credits BIGINT NOT NULL CHECK (credits >= 0), -- how many payments
    credit_minor BIGINT NOT NULL CHECK (credit_minor >= 0), -- their sum
    debits BIGINT NOT NULL CHECK (debits >= 0), -- how many refunds
    debit_minor BIGINT NOT NULL CHECK (debit_minor >= 0), -- their sum
    closed_by TEXT COLLATE "C" NOT NULL, -- an operator, or the authority at the day's end
    closed_at_ms BIGINT NOT NULL, -- when
    PRIMARY KEY (merchant, number),
    CHECK (closing_minor = opening_minor + credit_minor - debit_minor),
    CHECK (from_ms < to_ms)
);

CREATE TABLE webhooks (
    merchant BYTEA NOT NULL PRIMARY KEY REFERENCES merchants (id) DEFERRABLE, -- who is told
    url TEXT COLLATE "C" NOT NULL, -- where
    set_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE seeds (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose seed
    version BIGINT NOT NULL CHECK (version >= 0), -- rises with every re-seed
    from_epoch BIGINT NOT NULL CHECK (from_epoch >= 0), -- the first epoch derived from it
    sealing_label TEXT COLLATE "C" NOT NULL, -- the HSM key it is wrapped under
    binding_label TEXT COLLATE "C" NOT NULL, -- the HSM key that binds it to its header
    context BYTEA NOT NULL, -- the header: terminal, version, usage
    blob BYTEA NOT NULL, -- the seed, wrapped (RFC 3394)
    binding BYTEA NOT NULL CHECK (length(binding) = 32), -- HMAC over sealing label, header and wrapped seed
    operation BYTEA REFERENCES operations (id) DEFERRABLE, -- that made it; null: it came with the terminal
    PRIMARY KEY (terminal, version)
);
CREATE INDEX seeds_by_sealing_key ON seeds (sealing_label, terminal);
CREATE INDEX seeds_by_binding_key ON seeds (binding_label, terminal);

CREATE TABLE join_tokens (
    hash BYTEA NOT NULL PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256 of the secret
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- who may enrol with it
    expires_at_ms BIGINT NOT NULL, -- refused from then on
    added_at_ms BIGINT NOT NULL, -- when
    spki_sha256 BYTEA CHECK (length(spki_sha256) = 32), -- the key it was redeemed for; null: not redeemed
    redeemed_at_ms BIGINT, -- when first
    revoked_at_ms BIGINT, -- since when an operator has taken it back; null: they have not
    CHECK ((spki_sha256 IS NULL) = (redeemed_at_ms IS NULL))
);
CREATE INDEX join_tokens_by_terminal ON join_tokens (terminal, added_at_ms);

CREATE TABLE charges (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the till's making, or of the claim's
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- where
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- who is paid
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('till', 'fixed', 'open')), -- where the amount comes from
    currency TEXT COLLATE "C" NOT NULL CHECK (length(currency) = 3), -- of all amounts here
    asked_minor BIGINT CHECK (asked_minor > 0), -- what is asked for; null for an open charge
    cap_minor BIGINT CHECK (cap_minor > 0), -- the most an open charge may be; null for the others
    paid_minor BIGINT CHECK (paid_minor > 0), -- what was paid
    reference TEXT COLLATE "C", -- the till's own number for the sale
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('offered', 'held', 'paid', 'ended')), -- where it stands
    claim BYTEA CHECK (length(claim) = 16), -- who holds or has paid it
    end_reason TEXT COLLATE "C" CHECK (end_reason IN ('cancelled', 'released', 'expired')), -- why it ended
    until_ms BIGINT NOT NULL, -- on offer until then
    releases BIGINT NOT NULL CHECK (releases >= 0), -- how many claims came to nothing
    started_at_ms BIGINT NOT NULL, -- when
    CHECK ((kind = 'open') = (asked_minor IS NULL)),
    CHECK ((kind = 'open') = (cap_minor IS NOT NULL)),
    CHECK ((state IN ('held', 'paid')) = (claim IS NOT NULL)),
    CHECK ((state = 'paid') = (paid_minor IS NOT NULL)),
    CHECK ((state = 'ended') = (end_reason IS NOT NULL))
);
CREATE INDEX offered_charges_by_end ON charges (until_ms) WHERE state = 'offered';
CREATE INDEX unsettled_charges_by_terminal ON charges (terminal) WHERE state IN ('offered', 'held');

CREATE TABLE reports (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the terminal's making; again is the same event
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- who saw it
    at_ms BIGINT NOT NULL, -- by the terminal's clock
    event TEXT COLLATE "C" NOT NULL -- as it came, JSON
);
CREATE INDEX reports_by_terminal ON reports (terminal, at_ms);

CREATE TABLE trust_followers (
    terminal BIGINT NOT NULL PRIMARY KEY REFERENCES terminals (id) DEFERRABLE, -- who
    sequence BIGINT NOT NULL CHECK (sequence >= 0), -- of the list of roots it follows; 0: only the root it pinned
    seen_at_ms BIGINT NOT NULL -- when it was connected last, to the hour
);

CREATE TABLE alarms (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- which was in two places at once
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('second-key', 'second-stream', 'superseded')), -- what was seen
    certificate TEXT COLLATE "C" NOT NULL, -- serial of the certificate it was seen with
    other TEXT COLLATE "C" NOT NULL, -- the latest that contradicts it: SHA-256 of another key, or the serial of another certificate; empty: none
    first_at_ms BIGINT NOT NULL, -- when first
    last_at_ms BIGINT NOT NULL, -- when last
    times BIGINT NOT NULL CHECK (times >= 1), -- how often
    PRIMARY KEY (terminal, kind, certificate)
);
CREATE INDEX alarms_by_time ON alarms (last_at_ms);

CREATE TABLE settlement_rails (
    merchant BYTEA NOT NULL, -- merchant and number: which closed day
    number BIGINT NOT NULL, -- which closed day, of this merchant
    rail TEXT COLLATE "C" NOT NULL, -- what moved the money
    opening_minor BIGINT NOT NULL, -- what came in over it until the cut before
    closing_minor BIGINT NOT NULL, -- and until this one
    credits BIGINT NOT NULL CHECK (credits >= 0), -- how many payments
    credit_minor BIGINT NOT NULL CHECK (credit_minor >= 0), -- their sum
    debits BIGINT NOT NULL CHECK (debits >= 0), -- how many refunds
    debit_minor BIGINT NOT NULL CHECK (debit_minor >= 0), -- their sum
    PRIMARY KEY (merchant, number, rail),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number) DEFERRABLE,
    CHECK (closing_minor = opening_minor + credit_minor - debit_minor)
);

CREATE TABLE settlement_statements (
    merchant BYTEA NOT NULL, -- merchant and number: which closed day
    number BIGINT NOT NULL, -- which closed day, of this merchant
    jws TEXT COLLATE "C" NOT NULL, -- compact JWS over the totals and the digests of the files; the first stays for ever
    stored_at_ms BIGINT NOT NULL, -- when
    PRIMARY KEY (merchant, number),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number) DEFERRABLE
);

CREATE TABLE settlement_statements_due (
    merchant BYTEA NOT NULL, -- merchant and number: closed, and not signed yet
    number BIGINT NOT NULL, -- which closed day, of this merchant
    PRIMARY KEY (merchant, number),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number) DEFERRABLE
);

CREATE TABLE tags (
    uid BYTEA NOT NULL CHECK (length(uid) = 7), -- of the chip
    key_version BIGINT NOT NULL CHECK (key_version BETWEEN 1 AND 255), -- of its five keys; each set of keys is a row
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose tag it is with these keys
    master TEXT COLLATE "C" NOT NULL, -- kid of the key from which these keys follow
    made_at_ms BIGINT NOT NULL, -- when an operator had the keys
    read_floor BIGINT NOT NULL CHECK (read_floor BETWEEN 0 AND 16777215), -- its read counter at its last write: a link counts only above it
    signing_since_ms BIGINT, -- when its terminal first said, or a link first proved, that it has these keys; null: not yet
    written_at_ms BIGINT, -- when its terminal last said that it wrote it; null: never
    retired_at_ms BIGINT, -- since when its links are refused; null: they count
    retired_because TEXT COLLATE "C", -- why, in an operator's words or ours
    PRIMARY KEY (uid, key_version),
    CHECK ((retired_at_ms IS NULL) = (retired_because IS NULL))
);
CREATE INDEX tags_by_terminal ON tags (terminal) WHERE retired_at_ms IS NULL;
CREATE INDEX tags_by_master ON tags (master) WHERE retired_at_ms IS NULL;

CREATE TABLE tag_wear (
    terminal BIGINT PRIMARY KEY NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose tag
    tag_uid TEXT COLLATE "C" NOT NULL, -- the tag it visited last, hex
    cycles BIGINT NOT NULL CHECK (cycles >= 0), -- as the terminal counts, which may have lost its count
    cycles_before BIGINT NOT NULL DEFAULT 0 CHECK (cycles_before >= 0), -- what it had counted of this tag before it lost the count: added to cycles
    endurance BIGINT NOT NULL CHECK (endurance > 0), -- cycles that the tag is good for
    per_link BIGINT NOT NULL CHECK (per_link > 0), -- cycles that one link costs
    cycles_per_day BIGINT NOT NULL, -- as it is used lately
    at_ms BIGINT NOT NULL, -- when it was written
    replace_by_ms BIGINT NOT NULL, -- reckoned then: when only the margin is left
    due_since_ms BIGINT -- when a report first told that only the margin is left; NULL: more is left
);
CREATE INDEX tag_wear_by_end ON tag_wear (replace_by_ms, terminal);

CREATE TABLE nfc_paces (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose windows on nfc
    from_epoch BIGINT NOT NULL, -- the first epoch with this pace
    shortest_ms BIGINT, -- both NULL: as the policy says
    longest_ms BIGINT, -- as shortest_ms
    PRIMARY KEY (terminal, from_epoch),
    CHECK ((shortest_ms IS NULL) = (longest_ms IS NULL))
);

CREATE TABLE tag_watches (
    terminal BIGINT NOT NULL PRIMARY KEY REFERENCES terminals (id) DEFERRABLE, -- whose tag
    tag_uid TEXT COLLATE "C" NOT NULL, -- the one it visited last
    counter BIGINT CHECK (counter >= 0), -- where the tag's counter stood when it was left; null: it is not told
    epoch BIGINT, -- epoch to turn: what is on it; null: nothing was written yet
    "window" BIGINT, -- as epoch
    turn BIGINT, -- as epoch
    unsure BIGINT NOT NULL CHECK (unsure IN (0, 1)), -- 1: a visit since then failed or was forgotten, so another link may be on it
    CHECK ((epoch IS NULL) = ("window" IS NULL) AND (epoch IS NULL) = (turn IS NULL))
);

CREATE TABLE tag_links (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- which had it on its tag
    epoch BIGINT NOT NULL, -- epoch to turn: what was on the tag
    "window" BIGINT NOT NULL, -- as epoch
    turn BIGINT NOT NULL, -- as epoch
    until_epoch BIGINT, -- what took its place; null: it is on the tag
    until_window BIGINT, -- as until_epoch
    until_turn BIGINT, -- as until_epoch
    taps BIGINT NOT NULL CHECK (taps >= 0), -- how often phones read it
    counted BIGINT NOT NULL CHECK (counted IN (0, 1)), -- 0: not all the time, so nothing follows from it
    judged BIGINT NOT NULL CHECK (judged IN (0, 1)), -- 1: compared with the claims
    next_at_ms BIGINT, -- when it is judged, or forgotten once it is; null: it is on the tag
    CHECK ((until_epoch IS NULL) = (until_window IS NULL) AND (until_epoch IS NULL) = (until_turn IS NULL)),
    PRIMARY KEY (terminal, epoch, "window", turn)
);
CREATE INDEX tag_links_by_next ON tag_links (next_at_ms) WHERE next_at_ms IS NOT NULL;

CREATE TABLE tap_days (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose tag
    day BIGINT NOT NULL, -- days since 1970, UTC
    taps BIGINT NOT NULL CHECK (taps >= 0), -- how often phones read it, as the terminal told
    counted BIGINT NOT NULL CHECK (counted IN (0, 1)), -- 1: it told how often that day; 0: only second places are known
    claims BIGINT NOT NULL CHECK (claims >= 0), -- on nfc, when the day was judged last
    second_places BIGINT NOT NULL CHECK (second_places >= 0), -- spent links that another network brought again
    next_at_ms BIGINT, -- when it is judged; null: nothing has changed
    PRIMARY KEY (terminal, day)
);
CREATE INDEX tap_days_by_next ON tap_days (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX judged_tap_days ON tap_days (day) WHERE next_at_ms IS NULL;

CREATE TABLE tag_alarms (
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- where
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('claims-without-taps', 'counter-back', 'second-place', 'taps-without-claims')), -- what does not fit
    day BIGINT NOT NULL, -- days since 1970, UTC
    times BIGINT NOT NULL CHECK (times >= 1), -- how much of it
    reason TEXT COLLATE "C" NOT NULL, -- in words, with numbers
    first_at_ms BIGINT NOT NULL, -- when it was raised
    last_at_ms BIGINT NOT NULL, -- when it last grew
    closed_at_ms BIGINT, -- since when an operator takes it for explained; null: open
    closed_by TEXT COLLATE "C", -- who
    closed_note TEXT COLLATE "C", -- what they found
    closed_times BIGINT, -- how much of it there was then: twice as much opens it again
    PRIMARY KEY (terminal, kind, day),
    CHECK ((closed_at_ms IS NULL) = (closed_by IS NULL) AND (closed_at_ms IS NULL) = (closed_note IS NULL) AND (closed_at_ms IS NULL) = (closed_times IS NULL))
);
CREATE INDEX tag_alarms_by_time ON tag_alarms (last_at_ms);
CREATE INDEX closed_tag_alarms ON tag_alarms (closed_at_ms) WHERE closed_at_ms IS NOT NULL;
CREATE INDEX open_tag_alarms ON tag_alarms (kind) WHERE closed_at_ms IS NULL;

CREATE TABLE certificates (
    serial TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- lower-case hex
    subject_kind TEXT COLLATE "C" NOT NULL CHECK (subject_kind IN ('terminal', 'operator', 'authority')), -- what it identifies
    subject TEXT COLLATE "C" NOT NULL, -- terminal id, operator name or node
    spki_sha256 BYTEA NOT NULL CHECK (length(spki_sha256) = 32), -- of its public key
    not_before_ms BIGINT NOT NULL, -- valid from
    not_after_ms BIGINT NOT NULL, -- valid until
    issued_at_ms BIGINT NOT NULL, -- recorded before it was handed out
    issuer_key TEXT COLLATE "C" NOT NULL DEFAULT '', -- key identifier of the issuing CA, lower-case hex; empty: not kept
    renews TEXT COLLATE "C" REFERENCES certificates (serial) DEFERRABLE, -- the certificate it was issued under; null: a first one
    join_token BYTEA REFERENCES join_tokens (hash) DEFERRABLE, -- the join token it was issued for; null: another way
    used_at_ms BIGINT, -- when a terminal first came with it; null: not yet
    superseded_at_ms BIGINT -- since when it is refused because a later one has been used; null: it is not
);
CREATE UNIQUE INDEX one_successor_per_certificate ON certificates (renews) WHERE renews IS NOT NULL;
CREATE UNIQUE INDEX one_certificate_per_join_token ON certificates (join_token) WHERE join_token IS NOT NULL;
CREATE INDEX certificates_by_key ON certificates (spki_sha256);
CREATE INDEX certificates_by_subject ON certificates (subject_kind, subject, issued_at_ms);
CREATE INDEX certificates_in_force_by_end ON certificates (not_after_ms, subject_kind) WHERE superseded_at_ms IS NULL;

CREATE TABLE claims (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one phone has spent one token
    charge BYTEA NOT NULL REFERENCES charges (id) DEFERRABLE, -- what it holds
    epoch BIGINT NOT NULL, -- epoch to turn: the token it spent
    version BIGINT NOT NULL, -- of the seed
    channel BIGINT NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window" BIGINT NOT NULL, -- number within epoch and channel
    turn BIGINT NOT NULL, -- number within the window
    phone BYTEA NOT NULL CHECK (length(phone) = 32), -- SHA-256 of the secret in the phone's cookie
    person BYTEA REFERENCES persons (id) DEFERRABLE, -- who claimed, when that was known at the claim
    mark BIGINT NOT NULL CHECK (mark BETWEEN 0 AND 99), -- two digits on phone, kiosk, till and receipt
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('held', 'paying', 'released', 'paid')), -- where it stands; paying: an open intent works on it
    claimed_at_ms BIGINT NOT NULL, -- when
    held_until_ms BIGINT NOT NULL, -- may be approved until then
    signed_in_at_ms BIGINT, -- when its shopper signed in for it; null: not for it
    signed_in_by BYTEA REFERENCES persons (id) DEFERRABLE -- who signed in for a claim of nobody known: it counts as held by them
);
CREATE UNIQUE INDEX one_claim_at_a_time_per_charge ON claims (charge) WHERE state <> 'released';
CREATE INDEX held_claims_by_end ON claims (held_until_ms) WHERE state = 'held';
CREATE INDEX held_claims_by_person ON claims (person) WHERE state IN ('held', 'paying');
CREATE INDEX claims_by_charge ON claims (charge, claimed_at_ms);
CREATE INDEX held_claims_by_sign_in ON claims (signed_in_by) WHERE state IN ('held', 'paying');

CREATE TABLE certificate_bytes (
    serial TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES certificates (serial) DEFERRABLE, -- whose bytes
    der BYTEA NOT NULL -- the certificate, so that a repeated request gets the same one
);

CREATE TABLE consent_voices (
    request BYTEA NOT NULL REFERENCES consent_requests (id) DEFERRABLE, -- about what
    operator TEXT COLLATE "C" NOT NULL REFERENCES operators (name) DEFERRABLE, -- who; the last word of each counts
    consents BIGINT NOT NULL CHECK (consents IN (0, 1)), -- 1: yes, 0: no
    serial TEXT COLLATE "C" NOT NULL REFERENCES certificates (serial) DEFERRABLE, -- signed under this certificate
    statement TEXT COLLATE "C" NOT NULL, -- JWS with the operator's certificates
    given_at_ms BIGINT NOT NULL, -- when it came
    PRIMARY KEY (request, operator)
);

CREATE TABLE payments (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- also the movement of its ledger entries
    receipt BYTEA NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of the receipt, signed afterwards
    claim BYTEA NOT NULL UNIQUE REFERENCES claims (id) DEFERRABLE, -- what was approved, once
    service_account BYTEA NOT NULL REFERENCES service_accounts (id) DEFERRABLE, -- what it was paid from, and so who paid
    account BYTEA NOT NULL REFERENCES accounts (id) DEFERRABLE, -- what the ledger took it from: the shopper's account, or the clearing account of the rail
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0), -- as approved, in the charge's currency
    pseudonym TEXT COLLATE "C" NOT NULL, -- of the shopper towards this merchant
    rail TEXT COLLATE "C" NOT NULL, -- what moved the money: 'ledger', or a rail of the configuration
    rail_reference TEXT COLLATE "C" NOT NULL, -- what the rail calls it
    approved_at_ms BIGINT NOT NULL, -- when the shopper agreed
    paid_at_ms BIGINT NOT NULL, -- when the money had moved
    refunded_minor BIGINT NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND amount_minor) -- given back or being given back; never more than was paid
);

CREATE TABLE intents (
    payment BYTEA NOT NULL PRIMARY KEY CHECK (length(payment) = 16), -- the payment that it becomes
    receipt BYTEA NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of the receipt that it leads to
    claim BYTEA NOT NULL REFERENCES claims (id) DEFERRABLE, -- what was approved
    service_account BYTEA NOT NULL REFERENCES service_accounts (id) DEFERRABLE, -- what it is paid from, and so who pays
    rail TEXT COLLATE "C" NOT NULL CHECK (rail <> 'ledger'), -- who is asked; the ledger needs no asking
    rail_account TEXT COLLATE "C" NOT NULL, -- the reference of the account there, as it was then
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0), -- as approved, in the charge's currency
    rail_key BYTEA NOT NULL UNIQUE CHECK (length(rail_key) = 16), -- random; every call carries it, and the rail acts on it once
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('authorising', 'capturing', 'paid', 'declined', 'reversing', 'reversed')), -- what is asked for, or what came of it
    reason TEXT COLLATE "C", -- why it is declined or taken back
    rail_reference TEXT COLLATE "C", -- what the rail calls it, once it has said so
    tries BIGINT NOT NULL CHECK (tries >= 0), -- calls without an answer since the last change of state
    next_at_ms BIGINT, -- when it is taken up again; null: it is over
    started_at_ms BIGINT NOT NULL, -- when the shopper agreed
    changed_at_ms BIGINT NOT NULL, -- since when it is in this state
    took_of_shopper BIGINT NOT NULL DEFAULT 0 CHECK (took_of_shopper IN (0, 1)), -- counted in allowances, and not given back
    took_of_merchant BIGINT NOT NULL DEFAULT 0 CHECK (took_of_merchant IN (0, 1)), -- the same in merchant_days
    took_of_account BIGINT NOT NULL DEFAULT 0 CHECK (took_of_account IN (0, 1)), -- the same in account_caps
    UNIQUE (claim, service_account, amount_minor),
    CHECK ((state IN ('authorising', 'capturing', 'reversing')) = (next_at_ms IS NOT NULL)),
    CHECK ((state IN ('declined', 'reversing', 'reversed')) = (reason IS NOT NULL)),
    CHECK (state NOT IN ('capturing', 'paid') OR rail_reference IS NOT NULL)
);
CREATE UNIQUE INDEX one_open_intent_per_claim ON intents (claim) WHERE state IN ('authorising', 'capturing', 'paid');
CREATE INDEX open_intents_by_next ON intents (rail, next_at_ms) WHERE next_at_ms IS NOT NULL;

CREATE TABLE sign_in_attempts (
    state BYTEA NOT NULL PRIMARY KEY CHECK (length(state) = 32), -- SHA-256 of the state that the provider gives back
    visitor BYTEA NOT NULL CHECK (length(visitor) = 32), -- SHA-256 of the secret of the browser that began it
    provider TEXT COLLATE "C" NOT NULL, -- id of the identity provider in the configuration
    purpose TEXT COLLATE "C" NOT NULL CHECK (purpose IN ('pay', 'link', 'profile')), -- what for
    claim BYTEA REFERENCES claims (id) DEFERRABLE, -- what is to be paid afterwards; null: nothing yet
    session BYTEA REFERENCES sessions (id) DEFERRABLE, -- whose profile the identity is to join, for a link
    expires_at_ms BIGINT NOT NULL, -- refused from then on
    taken_at_ms BIGINT, -- when the provider sent the browser back; once
    opened BYTEA REFERENCES sessions (id) DEFERRABLE, -- the session that came of it
    fresh BIGINT NOT NULL DEFAULT 0 CHECK (fresh IN (0, 1)), -- the provider was told to ask for the password; a link always does
    CHECK ((purpose = 'link') = (session IS NOT NULL))
);
CREATE INDEX sign_in_attempts_by_end ON sign_in_attempts (expires_at_ms);
CREATE INDEX sign_in_attempts_by_visitor ON sign_in_attempts (visitor);
CREATE INDEX sign_in_attempts_waiting ON sign_in_attempts ((claim IS NOT NULL), expires_at_ms) WHERE taken_at_ms IS NULL;

CREATE TABLE challenges (
    challenge BYTEA NOT NULL PRIMARY KEY CHECK (length(challenge) = 32), -- what a passkey is to sign, once
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- whose passkey
    nonce BYTEA NOT NULL CHECK (length(nonce) = 32), -- random, an input of the challenge of a payment
    claim BYTEA REFERENCES claims (id) DEFERRABLE, -- what is to be paid; null: a new passkey is to be made
    amount_minor BIGINT CHECK (amount_minor > 0), -- in the charge's currency
    account BYTEA REFERENCES service_accounts (id) DEFERRABLE, -- what it is to be paid from
    ends_at_ms BIGINT NOT NULL, -- good for nothing from then on
    CHECK ((claim IS NULL) = (amount_minor IS NULL) AND (claim IS NULL) = (account IS NULL))
);
CREATE INDEX challenges_by_person ON challenges (person, ends_at_ms);

CREATE TABLE signed_approvals (
    claim BYTEA NOT NULL PRIMARY KEY REFERENCES claims (id) DEFERRABLE, -- which the approval spends its token for
    key BYTEA NOT NULL CHECK (length(key) = 32), -- thumbprint of the wallet's key
    jti BYTEA NOT NULL CHECK (length(jti) = 32), -- SHA-256 of the approval's jti
    public_point BYTEA NOT NULL CHECK (length(public_point) = 65), -- the wallet's key, uncompressed SEC 1: verifies the approval
    jws TEXT COLLATE "C" NOT NULL, -- the approval as the wallet sent it
    kept_at_ms BIGINT NOT NULL, -- when
    UNIQUE (key, jti)
);

CREATE TABLE taps (
    uid BYTEA NOT NULL, -- of the tag that was read
    key_version BIGINT NOT NULL, -- of the keys that signed
    counter BIGINT NOT NULL CHECK (counter BETWEEN 0 AND 16777215), -- the tag's read counter in the link
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- whose tag it was
    version BIGINT NOT NULL, -- of the seed; version to turn: the token that was on the tag
    epoch BIGINT NOT NULL, -- hour of the terminal
    "window" BIGINT NOT NULL, -- number within epoch and channel
    turn BIGINT NOT NULL, -- number within the window
    claim BYTEA NOT NULL UNIQUE REFERENCES claims (id) DEFERRABLE, -- what it began
    at_ms BIGINT NOT NULL, -- when the link was spent
    PRIMARY KEY (uid, key_version, counter),
    FOREIGN KEY (uid, key_version) REFERENCES tags (uid, key_version) DEFERRABLE
);
CREATE INDEX taps_by_link ON taps (terminal, epoch, "window", turn);

CREATE TABLE receipts_due (
    paid_at_ms BIGINT NOT NULL, -- first, because the oldest goes first
    payment BYTEA NOT NULL REFERENCES payments (id) DEFERRABLE, -- paid, and its receipt not yet stored
    PRIMARY KEY (paid_at_ms, payment)
);

CREATE TABLE receipts (
    payment BYTEA NOT NULL PRIMARY KEY REFERENCES payments (id) DEFERRABLE, -- what it is the receipt of
    jws TEXT COLLATE "C" NOT NULL, -- compact JWS; the first stays for ever
    stored_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE refunds (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the asker's making; again is the same refund
    payment BYTEA NOT NULL REFERENCES payments (id) DEFERRABLE, -- what is given back, to the account that paid it
    movement BYTEA NOT NULL UNIQUE CHECK (length(movement) = 16), -- its ledger entries, and its key at the rail
    receipt BYTEA NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of its receipt, signed afterwards
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0), -- how much, in the payment's currency
    reason TEXT COLLATE "C", -- in the merchant's words
    terminal BIGINT REFERENCES terminals (id) DEFERRABLE, -- who asked; null: an operator
    operator TEXT COLLATE "C", -- who asked; null: a terminal
    day TEXT COLLATE "C" NOT NULL, -- the business day whose cap it counts against
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('asked', 'refunded', 'declined')), -- where it stands; asked: the rail has not said
    rail_reference TEXT COLLATE "C", -- what the rail calls it
    decline_reason TEXT COLLATE "C", -- why the rail does not do it
    tries BIGINT NOT NULL CHECK (tries >= 0), -- calls of the rail
    next_at_ms BIGINT NOT NULL, -- the rail is asked again then
    asked_at_ms BIGINT NOT NULL, -- when
    ended_at_ms BIGINT, -- when the rail said
    CHECK ((terminal IS NULL) <> (operator IS NULL)),
    CHECK ((state = 'asked') = (ended_at_ms IS NULL)),
    CHECK ((state = 'refunded') = (rail_reference IS NOT NULL)),
    CHECK ((state = 'declined') = (decline_reason IS NOT NULL))
);
CREATE INDEX refunds_by_payment ON refunds (payment);
CREATE INDEX refunds_open ON refunds (next_at_ms) WHERE state = 'asked';

CREATE TABLE refund_receipts_due (
    ended_at_ms BIGINT NOT NULL, -- first, because the oldest goes first
    refund BYTEA NOT NULL REFERENCES refunds (id) DEFERRABLE, -- refunded, and its receipt not yet stored
    PRIMARY KEY (ended_at_ms, refund)
);

CREATE TABLE refund_receipts (
    refund BYTEA NOT NULL PRIMARY KEY REFERENCES refunds (id) DEFERRABLE, -- what it is the receipt of
    jws TEXT COLLATE "C" NOT NULL, -- compact JWS; the first stays for ever
    stored_at_ms BIGINT NOT NULL -- when
);

CREATE TABLE bookings (
    movement BYTEA NOT NULL PRIMARY KEY CHECK (length(movement) = 16), -- of its ledger entries
    refund BYTEA REFERENCES refunds (id) DEFERRABLE, -- the refund; null: it is the payment
    payment BYTEA NOT NULL REFERENCES payments (id) DEFERRABLE, -- what was paid, or is given back
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- whose books
    person BYTEA NOT NULL REFERENCES persons (id) DEFERRABLE, -- who paid
    terminal BIGINT NOT NULL REFERENCES terminals (id) DEFERRABLE, -- where it was paid, or the refund asked for; an operator's refund: where it was paid
    amount_minor BIGINT NOT NULL CHECK (amount_minor <> 0), -- to the merchant if positive; the same as the ledger entry
    rail TEXT COLLATE "C" NOT NULL, -- what moved the money
    rail_reference TEXT COLLATE "C" NOT NULL, -- what the rail calls it
    booked_at_ms BIGINT NOT NULL, -- when
    settlement BIGINT CHECK (settlement >= 1), -- number of the merchant's closed day that holds it; null: not closed
    CHECK ((refund IS NULL) = (amount_minor > 0))
);
CREATE INDEX bookings_by_merchant ON bookings (merchant, booked_at_ms, movement);
CREATE INDEX bookings_by_terminal ON bookings (terminal, booked_at_ms, movement);
CREATE INDEX bookings_by_person ON bookings (person, booked_at_ms, movement);
CREATE INDEX bookings_not_settled ON bookings (merchant, booked_at_ms) WHERE settlement IS NULL;

CREATE TABLE notices (
    id BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time; what the merchant tells repeats by
    merchant BYTEA NOT NULL REFERENCES merchants (id) DEFERRABLE, -- who is told
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('payment.paid', 'payment.refunded', 'settlement.closed')), -- what happened
    charge BYTEA REFERENCES charges (id) DEFERRABLE, -- notices of one charge go in their order; null: of a closed day
    movement BYTEA REFERENCES bookings (movement) DEFERRABLE, -- what was booked; null: of a closed day
    settlement BIGINT, -- number of the closed day; null: of a booking
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'delivered', 'parked')), -- where it stands
    tries BIGINT NOT NULL CHECK (tries >= 0), -- how often it was sent
    next_at_ms BIGINT NOT NULL, -- not before
    made_at_ms BIGINT NOT NULL, -- when it happened
    delivered_at_ms BIGINT, -- when the merchant took it
    last_problem TEXT COLLATE "C", -- why the last try failed
    CHECK ((movement IS NULL) <> (settlement IS NULL)),
    CHECK ((charge IS NULL) = (movement IS NULL)),
    CHECK ((state = 'delivered') = (delivered_at_ms IS NOT NULL))
);
CREATE INDEX notices_waiting ON notices (merchant, next_at_ms) WHERE state = 'waiting';
CREATE INDEX notices_of_a_charge ON notices (charge, id) WHERE state <> 'delivered';
CREATE INDEX notices_parked ON notices (merchant, id) WHERE state = 'parked';

-- A terminal's charge and a charge's terminal point to each other.
ALTER TABLE terminals ADD FOREIGN KEY (till_charge) REFERENCES charges (id) DEFERRABLE;

-- What no partition of a day takes, until the next look at partitions: empty, unless nobody looks.
CREATE TABLE spent_rest PARTITION OF spent DEFAULT;
CREATE TABLE turns_rest PARTITION OF turns DEFAULT;
