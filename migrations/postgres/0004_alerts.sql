-- Rules, whom to tell, what was found and what is still to be told. Texts that people or other servers write (summary,
-- comment, detail, reasons) are JSON strings: they come back whatever is in them.
--
-- Cursors and alerts reference no run by foreign key: their commit locks the runs' rows against deletion for itself.

CREATE TABLE alert_rules (
    rule_id        UUID             NOT NULL PRIMARY KEY,
    name           TEXT COLLATE "C" NOT NULL UNIQUE,
    -- api or file.
    source         TEXT COLLATE "C" NOT NULL,
    -- Null: all projects.
    project        TEXT COLLATE "C",
    revision       BIGINT           NOT NULL,
    active_from_us BIGINT           NOT NULL,
    updated_at_us  BIGINT           NOT NULL,
    -- JSON object.
    definition     TEXT             NOT NULL
);

CREATE TABLE alert_receivers (
    name            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    source          TEXT COLLATE "C" NOT NULL,
    -- JSON object.
    definition      TEXT             NOT NULL,
    updated_at_us   BIGINT           NOT NULL,
    disabled_at_us  BIGINT,
    -- JSON string.
    disabled_reason TEXT,
    CHECK ((disabled_at_us IS NULL) = (disabled_reason IS NULL))
);

-- How far the rules were evaluated. A commit names the number that it finds. Every evaluation changes the row: there is
-- room for its next version.
CREATE TABLE alert_cursors (
    run_id            UUID             NOT NULL,
    -- steps or layers.
    lane              TEXT COLLATE "C" NOT NULL,
    -- Null before the first step.
    segment           BIGINT,
    step              BIGINT,
    event_id          BIGINT           NOT NULL,
    number            BIGINT           NOT NULL,
    -- owner_epoch and owner_commits of the run then.
    run_owner_epoch   BIGINT           NOT NULL,
    run_owner_commits BIGINT           NOT NULL,
    PRIMARY KEY (run_id, lane),
    CHECK ((segment IS NULL) = (step IS NULL))
) WITH (fillfactor = 50);

-- The sequence numbers them in the order of making, which is the order of lists. Open alerts change while they are
-- evaluated: there is room for the next version.
CREATE TABLE alerts (
    sequence         BIGINT           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id         UUID             NOT NULL UNIQUE,
    rule_id          UUID             NOT NULL,
    rule_name        TEXT COLLATE "C" NOT NULL,
    rule_revision    BIGINT           NOT NULL,
    lane             TEXT COLLATE "C" NOT NULL,
    run_id           UUID             NOT NULL,
    project          TEXT COLLATE "C" NOT NULL,
    -- Empty: the run.
    group_name       TEXT COLLATE "C" NOT NULL,
    -- pending, firing or resolved.
    state            TEXT COLLATE "C" NOT NULL,
    severity         TEXT COLLATE "C" NOT NULL,
    -- JSON objects of texts.
    labels           TEXT             NOT NULL,
    annotations      TEXT             NOT NULL,
    -- JSON string.
    summary          TEXT             NOT NULL,
    -- JSON array of names.
    receivers        TEXT             NOT NULL,
    -- JSON object.
    term_values      TEXT             NOT NULL,
    pending_segment  BIGINT           NOT NULL,
    pending_step     BIGINT           NOT NULL,
    pending_at_us    BIGINT           NOT NULL,
    -- Null unless it fired.
    fired_segment    BIGINT,
    fired_step       BIGINT,
    fired_at_us      BIGINT,
    -- Null unless it ended.
    resolved_segment BIGINT,
    resolved_step    BIGINT,
    resolved_at_us   BIGINT,
    resolved_reason  TEXT COLLATE "C",
    machine          BYTEA            NOT NULL
) WITH (fillfactor = 70);

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
    notification_id BIGINT           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    receiver        TEXT COLLATE "C" NOT NULL,
    group_key       TEXT COLLATE "C" NOT NULL,
    alert_id        UUID             NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    -- JSON object.
    content         TEXT             NOT NULL,
    created_at_us   BIGINT           NOT NULL,
    silenced        BOOLEAN          NOT NULL DEFAULT FALSE
);

-- The order in which they are read.
CREATE INDEX alert_notifications_by_key ON alert_notifications (receiver, group_key, notification_id);

-- What receivers are told, with the same id and content however often.
CREATE TABLE alert_messages (
    sequence           BIGINT           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id         UUID             NOT NULL UNIQUE,
    receiver           TEXT COLLATE "C" NOT NULL,
    group_key          TEXT COLLATE "C" NOT NULL,
    -- JSON object.
    content            TEXT             NOT NULL,
    -- waiting, delivered or failed.
    state              TEXT COLLATE "C" NOT NULL,
    attempts           BIGINT           NOT NULL,
    created_at_us      BIGINT           NOT NULL,
    next_attempt_at_us BIGINT           NOT NULL,
    give_up_at_us      BIGINT           NOT NULL,
    ended_at_us        BIGINT,
    -- Somebody is sending it until then at the latest; null: nobody.
    claimed_until_us   BIGINT
);

-- Those that are to be sent, few among all, by what must stay in order.
CREATE INDEX alert_messages_waiting ON alert_messages (receiver, group_key, sequence) WHERE state = 'waiting';

-- Deletion of old messages.
CREATE INDEX alert_messages_ended ON alert_messages (ended_at_us) WHERE state <> 'waiting';

-- The attempts to send them.
CREATE TABLE alert_deliveries (
    delivery_id BIGINT           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id  UUID             NOT NULL REFERENCES alert_messages (message_id),
    receiver    TEXT COLLATE "C" NOT NULL,
    attempt     BIGINT           NOT NULL,
    at_us       BIGINT           NOT NULL,
    duration_ms BIGINT           NOT NULL,
    outcome     TEXT COLLATE "C" NOT NULL,
    status      BIGINT,
    -- JSON string.
    detail      TEXT             NOT NULL
);

-- The attempts of a message.
CREATE INDEX alert_deliveries_of_message ON alert_deliveries (message_id, delivery_id);

CREATE TABLE alert_silences (
    silence_id    UUID             NOT NULL PRIMARY KEY,
    -- Null: all projects.
    project       TEXT COLLATE "C",
    -- JSON array.
    matchers      TEXT             NOT NULL,
    starts_at_us  BIGINT           NOT NULL,
    ends_at_us    BIGINT           NOT NULL,
    -- JSON string.
    comment       TEXT             NOT NULL,
    created_by    TEXT COLLATE "C" NOT NULL,
    created_at_us BIGINT           NOT NULL
);
