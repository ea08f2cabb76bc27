-- Rules, whom to tell, what was found and what is still to be told. Texts that people or other servers write (summary,
-- comment, detail, reasons) are JSON strings: they come back whatever is in them.

CREATE TABLE alert_rules (
    rule_id        BLOB    NOT NULL PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    -- api or file.
    source         TEXT    NOT NULL,
    -- Null: all projects.
    project        TEXT,
    revision       INTEGER NOT NULL,
    active_from_us INTEGER NOT NULL,
    updated_at_us  INTEGER NOT NULL,
    -- JSON object.
    definition     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE alert_receivers (
    name            TEXT    NOT NULL PRIMARY KEY,
    source          TEXT    NOT NULL,
    -- JSON object.
    definition      TEXT    NOT NULL,
    updated_at_us   INTEGER NOT NULL,
    disabled_at_us  INTEGER,
    -- JSON string.
    disabled_reason TEXT,
    CHECK ((disabled_at_us IS NULL) = (disabled_reason IS NULL))
) STRICT, WITHOUT ROWID;

-- How far the rules were evaluated. A commit names the number that it finds.
CREATE TABLE alert_cursors (
    run_id            BLOB    NOT NULL REFERENCES runs (run_id),
    -- steps or layers.
    lane              TEXT    NOT NULL,
    -- Null before the first step.
    segment           INTEGER,
    step              INTEGER,
    event_id          INTEGER NOT NULL,
    number            INTEGER NOT NULL,
    -- owner_epoch and owner_commits of the run then.
    run_owner_epoch   INTEGER NOT NULL,
    run_owner_commits INTEGER NOT NULL,
    PRIMARY KEY (run_id, lane),
    CHECK ((segment IS NULL) = (step IS NULL))
) STRICT, WITHOUT ROWID;

-- With a rowid: it numbers them in the order of making, which is the order of lists.
CREATE TABLE alerts (
    sequence         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    alert_id         BLOB    NOT NULL UNIQUE,
    rule_id          BLOB    NOT NULL,
    rule_name        TEXT    NOT NULL,
    rule_revision    INTEGER NOT NULL,
    lane             TEXT    NOT NULL,
    run_id           BLOB    NOT NULL REFERENCES runs (run_id),
    project          TEXT    NOT NULL,
    -- Empty: the run.
    group_name       TEXT    NOT NULL,
    -- pending, firing or resolved.
    state            TEXT    NOT NULL,
    severity         TEXT    NOT NULL,
    -- JSON objects of texts.
    labels           TEXT    NOT NULL,
    annotations      TEXT    NOT NULL,
    -- JSON string.
    summary          TEXT    NOT NULL,
    -- JSON array of names.
    receivers        TEXT    NOT NULL,
    -- JSON object.
    term_values      TEXT    NOT NULL,
    pending_segment  INTEGER NOT NULL,
    pending_step     INTEGER NOT NULL,
    pending_at_us    INTEGER NOT NULL,
    -- Null unless it fired.
    fired_segment    INTEGER,
    fired_step       INTEGER,
    fired_at_us      INTEGER,
    -- Null unless it ended.
    resolved_segment INTEGER,
    resolved_step    INTEGER,
    resolved_at_us   INTEGER,
    resolved_reason  TEXT,
    machine          BLOB    NOT NULL
) STRICT;

-- There is one open alert of a rule, run and group. Finds the open alerts of a run.
CREATE UNIQUE INDEX alerts_open_once ON alerts (run_id, rule_id, lane, group_name) WHERE state <> 'resolved';

-- Lists of open alerts, which are few among all.
CREATE INDEX alerts_open ON alerts (sequence) WHERE state <> 'resolved';

-- Lists and deletion of a run's alerts.
CREATE INDEX alerts_of_run ON alerts (run_id, sequence);

-- Deletion of old alerts.
CREATE INDEX alerts_ended ON alerts (resolved_at_us) WHERE state = 'resolved';

-- What is to be told and is in no message yet. It outlives its run: what is in it is complete.
CREATE TABLE alert_notifications (
    notification_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    receiver        TEXT    NOT NULL,
    group_key       TEXT    NOT NULL,
    alert_id        BLOB    NOT NULL,
    state           TEXT    NOT NULL,
    -- JSON object.
    content         TEXT    NOT NULL,
    created_at_us   INTEGER NOT NULL,
    silenced        INTEGER NOT NULL DEFAULT 0 CHECK (silenced IN (0, 1))
) STRICT;

-- The order in which they are read.
CREATE INDEX alert_notifications_by_key ON alert_notifications (receiver, group_key, notification_id);

-- What receivers are told, with the same id and content however often.
CREATE TABLE alert_messages (
    sequence           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id         BLOB    NOT NULL UNIQUE,
    receiver           TEXT    NOT NULL,
    group_key          TEXT    NOT NULL,
    -- JSON object.
    content            TEXT    NOT NULL,
    -- waiting, delivered or failed.
    state              TEXT    NOT NULL,
    attempts           INTEGER NOT NULL,
    created_at_us      INTEGER NOT NULL,
    next_attempt_at_us INTEGER NOT NULL,
    give_up_at_us      INTEGER NOT NULL,
    ended_at_us        INTEGER,
    -- Somebody is sending it until then at the latest; null: nobody.
    claimed_until_us   INTEGER
) STRICT;

-- Those that are to be sent, few among all, by what must stay in order.
CREATE INDEX alert_messages_waiting ON alert_messages (receiver, group_key, sequence) WHERE state = 'waiting';

-- Deletion of old messages.
CREATE INDEX alert_messages_ended ON alert_messages (ended_at_us) WHERE state <> 'waiting';

-- The attempts to send them.
CREATE TABLE alert_deliveries (
    delivery_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id  BLOB    NOT NULL REFERENCES alert_messages (message_id),
    receiver    TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    at_us       INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    status      INTEGER,
    -- JSON string.
    detail      TEXT    NOT NULL
) STRICT;

-- The attempts of a message.
CREATE INDEX alert_deliveries_of_message ON alert_deliveries (message_id, delivery_id);

CREATE TABLE alert_silences (
    silence_id    BLOB    NOT NULL PRIMARY KEY,
    -- Null: all projects.
    project       TEXT,
    -- JSON array.
    matchers      TEXT    NOT NULL,
    starts_at_us  INTEGER NOT NULL,
    ends_at_us    INTEGER NOT NULL,
    -- JSON string.
    comment       TEXT    NOT NULL,
    created_by    TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
