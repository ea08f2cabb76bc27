-- Who may do what. The token itself is nowhere: only its SHA-256, which finds it when it is shown.

CREATE TABLE tokens (
    token_id      BLOB    NOT NULL PRIMARY KEY,
    -- Hexadecimal.
    hash          TEXT    NOT NULL UNIQUE CHECK (length(hash) = 64),
    name          TEXT    NOT NULL,
    -- The only project it is good for; null: all.
    project       TEXT,
    -- JSON array of ingest, read, admin.
    scopes        TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL,
    -- Null: never.
    expires_at_us INTEGER,
    -- A revoked token stays, so that it cannot be made again from the same text.
    revoked_at_us INTEGER
) STRICT, WITHOUT ROWID;
