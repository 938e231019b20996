//! What each version of the schema adds to the one before. A new ledger is made by the same steps that an old one is taken through.

/// From 1 to 2: queues, steps counted, the resource database, the story of a job, what its supplier is to be told; the letters of hot
/// folders, one-time prekeys of other sites, and what the site loop has yet to do.
///
/// Tasks are no rows: a step counts them, and only an attempt or a retry names one.
pub(super) const TO_2: &str = "
ALTER TABLE job ADD COLUMN farm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN queue TEXT;
ALTER TABLE job ADD COLUMN queue_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN leasable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
ALTER TABLE job ADD COLUMN placement TEXT;
ALTER TABLE job ADD COLUMN site TEXT;
ALTER TABLE job ADD COLUMN started_at INTEGER;
ALTER TABLE job ADD COLUMN round INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
CREATE INDEX in_queue ON job (queue, queue_key) WHERE queue IS NOT NULL;

ALTER TABLE attempt ADD COLUMN booked INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX one_in_slot ON attempt (node, slot) WHERE state = 'running' AND booked = 1;
CREATE INDEX live ON attempt (lease_until) WHERE state = 'running' AND booked = 1;

CREATE TABLE step (
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    fresh INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    again INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step),
    CHECK (fresh BETWEEN 0 AND tasks AND running >= 0 AND done >= 0 AND failed >= 0),
    CHECK (running + done + failed <= tasks AND again BETWEEN 0 AND failed)
) STRICT, WITHOUT ROWID;
CREATE INDEX step_live ON step (job, running) WHERE running > 0;
INSERT INTO step (job, step, tasks)
    SELECT job.id, one.key, json_extract(one.value, '$.tasks')
    FROM job, json_each(job.outline, '$.steps') AS one;
UPDATE step SET (running, done, failed) = (
    SELECT count(*) FILTER (WHERE state = 'running'),
        count(*) FILTER (WHERE state = 'committed'),
        count(*) FILTER (WHERE state IN ('failed', 'superseded'))
    FROM attempt AS own WHERE own.job = step.job AND own.step = step.step
        AND own.attempt = (SELECT max(attempt) FROM attempt AS later
            WHERE later.job = own.job AND later.step = own.step AND later.task = own.task));
UPDATE job SET priority = json_extract(outline, '$.priority');

CREATE TABLE again (
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    task INTEGER NOT NULL,
    avoid TEXT,
    avoid_until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    cap INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO queue (name) VALUES ('new'), ('outsourced'), ('active');

CREATE TABLE client (
    alias TEXT PRIMARY KEY,
    cap INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node (
    name TEXT PRIMARY KEY,
    key BLOB NOT NULL,
    state TEXT NOT NULL,
    drained INTEGER NOT NULL DEFAULT 0,
    heard_at INTEGER NOT NULL,
    faults INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE slot (
    node TEXT NOT NULL REFERENCES node (name),
    slot INTEGER NOT NULL,
    spec TEXT NOT NULL,
    PRIMARY KEY (node, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE story (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    from_state TEXT,
    to_state TEXT NOT NULL,
    event TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX story_of ON story (job, number);

CREATE TABLE notice (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    state TEXT NOT NULL,
    round INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sent_at INTEGER,
    UNIQUE (job, state, round)
) STRICT;
CREATE INDEX to_send ON notice (number) WHERE sent_at IS NULL;

CREATE TABLE letter_seen (
    sender TEXT NOT NULL,
    epoch TEXT NOT NULL,
    number INTEGER NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (sender, epoch, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE letter_out (
    letter TEXT PRIMARY KEY,
    item TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE letter_numbers (
    recipient TEXT PRIMARY KEY,
    numbers TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE prekey (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    id TEXT NOT NULL,
    signed BLOB NOT NULL,
    job TEXT,
    UNIQUE (site, id)
) STRICT;
CREATE UNIQUE INDEX prekey_of ON prekey (site, job) WHERE job IS NOT NULL;
CREATE TABLE errand (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES job (id),
    at INTEGER NOT NULL,
    done_at INTEGER,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX errand_to_do ON errand (kind, at) WHERE done_at IS NULL;
CREATE INDEX errand_of ON errand (job, kind);

PRAGMA user_version = 2;
";

/// From 2 to 3: sessions of several tasks, and how long tasks take.
pub(super) const TO_3: &str = "
ALTER TABLE attempt ADD COLUMN tasks INTEGER NOT NULL DEFAULT 1;
ALTER TABLE step ADD COLUMN sessions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN spent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN spent_tasks INTEGER NOT NULL DEFAULT 0;
UPDATE step SET sessions = running;
PRAGMA user_version = 3;
";

/// From 3 to 4: who used how much, by client and day. Kept apart from the attempts, so that it outlives them.
///
/// Of slots that are gone nobody knows how large they were: their sessions count with their time only.
pub(super) const TO_4: &str = "
CREATE TABLE usage (
    client TEXT NOT NULL,
    day INTEGER NOT NULL,
    sessions INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    core_seconds INTEGER NOT NULL,
    gpu_seconds INTEGER NOT NULL,
    lost_seconds INTEGER NOT NULL,
    PRIMARY KEY (client, day)
) STRICT, WITHOUT ROWID;
INSERT INTO usage
    SELECT job.client, own.ended_at / 86400, count(*),
        sum(CASE own.state WHEN 'committed' THEN own.tasks ELSE 0 END),
        sum(max(own.ended_at - own.leased_at, 0)),
        sum(max(own.ended_at - own.leased_at, 0) * coalesce(json_extract(slot.spec, '$.vcpu'), 0)),
        sum(max(own.ended_at - own.leased_at, 0) * coalesce(json_extract(slot.spec, '$.gpu'), 0)),
        sum(CASE own.state WHEN 'committed' THEN 0 ELSE max(own.ended_at - own.leased_at, 0) END)
    FROM attempt AS own JOIN job ON job.id = own.job
    LEFT JOIN slot ON slot.node = own.node AND slot.slot = own.slot
    WHERE own.ended_at IS NOT NULL GROUP BY job.client, own.ended_at / 86400;
PRAGMA user_version = 4;
";

/// From 4 to 5: how jobs that are not over do on each node. What failed before is not held against a node.
pub(super) const TO_5: &str = "
CREATE TABLE strike (
    job TEXT NOT NULL REFERENCES job (id),
    node TEXT NOT NULL,
    step INTEGER NOT NULL,
    task INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (job, node, step, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE worked (
    job TEXT NOT NULL REFERENCES job (id),
    node TEXT NOT NULL,
    PRIMARY KEY (job, node)
) STRICT, WITHOUT ROWID;
INSERT INTO worked SELECT DISTINCT own.job, own.node FROM attempt AS own
    JOIN job ON job.id = own.job AND job.queue = 'active'
    WHERE own.state = 'committed' AND own.booked = 1;
PRAGMA user_version = 5;
";
