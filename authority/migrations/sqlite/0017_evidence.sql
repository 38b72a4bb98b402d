-- What the audit chain says of the evidence of one payment is found without reading the whole chain.

CREATE INDEX audit_of_claims ON audit_rows (json_extract(body, '$.claim'))
    WHERE kind IN ('approval.signed', 'sms.turned') AND json_valid(body);
CREATE INDEX audit_of_confirmations ON audit_rows (json_extract(body, '$.payment'))
    WHERE kind = 'payment.confirmed' AND json_valid(body);
