-- A CHECK that a value is one of a list of three or more builds that list as a table for each statement that writes the
-- row, nine of them in a payment. The same rules without lists cost nothing. No row changes, so only the text of the
-- tables does (SQLite, "Making Other Kinds Of Table Schema Changes").

PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = replace(sql, 'channel IN (1, 2, 3)', 'channel BETWEEN 1 AND 3')
WHERE type = 'table' AND name IN ('spent', 'turns', 'claims');

UPDATE sqlite_schema SET sql = replace(sql,
    'state IN (''held'', ''paying'', ''released'', ''paid'')',
    'state = ''held'' OR state = ''paying'' OR state = ''released'' OR state = ''paid''')
WHERE type = 'table' AND name = 'claims';

UPDATE sqlite_schema SET sql = replace(replace(replace(sql,
    'kind IN (''till'', ''fixed'', ''open'')',
    'kind = ''till'' OR kind = ''fixed'' OR kind = ''open'''),
    'state IN (''offered'', ''held'', ''paid'', ''ended'')',
    'state = ''offered'' OR state = ''held'' OR state = ''paid'' OR state = ''ended'''),
    'end_reason IN (''cancelled'', ''released'', ''expired'')',
    'end_reason = ''cancelled'' OR end_reason = ''released'' OR end_reason = ''expired''')
WHERE type = 'table' AND name = 'charges';

UPDATE sqlite_schema SET sql = replace(replace(replace(sql,
    'state IN (''authorising'', ''capturing'', ''paid'', ''declined'', ''reversing'', ''reversed'')',
    'state = ''authorising'' OR state = ''capturing'' OR state = ''paid'' OR state = ''declined'' OR state = ''reversing'' OR state = ''reversed'''),
    '(state IN (''authorising'', ''capturing'', ''reversing''))',
    '(state = ''authorising'' OR state = ''capturing'' OR state = ''reversing'')'),
    '(state IN (''declined'', ''reversing'', ''reversed''))',
    '(state = ''declined'' OR state = ''reversing'' OR state = ''reversed'')')
WHERE type = 'table' AND name = 'intents';

UPDATE sqlite_schema SET sql = replace(sql,
    'kind IN (''payment.paid'', ''payment.refunded'', ''settlement.closed'')',
    'kind = ''payment.paid'' OR kind = ''payment.refunded'' OR kind = ''settlement.closed''')
WHERE type = 'table' AND name = 'notices';

UPDATE sqlite_schema SET sql = replace(sql,
    'state IN (''waiting'', ''delivered'', ''parked'')',
    'state = ''waiting'' OR state = ''delivered'' OR state = ''parked''')
WHERE type = 'table' AND name = 'notices';

PRAGMA writable_schema = RESET;
