-- What a restored copy must not forget besides bans and revocations: seeds that a compromise replaced, and
-- the policy of consents.

-- Every seed of a lower version is void, because of a compromise; 0: none is.
ALTER TABLE terminals ADD COLUMN void_below INTEGER NOT NULL DEFAULT 0 CHECK (void_below >= 0);
UPDATE terminals SET void_below = coalesce((
    SELECT max(s.version) FROM seeds s JOIN operations o ON o.id = s.operation
    WHERE s.terminal = terminals.id
      AND (o.work ->> '$.do' IN ('taint', 'unban') OR o.work ->> '$.when' = 'compromised')), 0);

-- Rises with every policy, so that an older copy is told from a later one.
ALTER TABLE consent_policy ADD COLUMN number INTEGER NOT NULL DEFAULT 1 CHECK (number >= 1);
