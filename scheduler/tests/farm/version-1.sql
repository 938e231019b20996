CREATE TABLE job (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    outline TEXT NOT NULL,
    envelope TEXT NOT NULL,
    state TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    audit_records INTEGER,
    audit_chain BLOB
) STRICT;
CREATE TABLE attempt (
    fence INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    session TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL,
    slot INTEGER NOT NULL,
    leased_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    state TEXT NOT NULL,
    ended_at INTEGER,
    cause TEXT,
    result TEXT,
    audit_records INTEGER,
    audit_chain BLOB,
    UNIQUE (job, step, task, attempt)
) STRICT;
CREATE UNIQUE INDEX one_result ON attempt (job, step, task) WHERE state = 'committed';
CREATE UNIQUE INDEX one_runs ON attempt (job, step, task) WHERE state = 'running';
PRAGMA application_id = 0x534c4c47;
PRAGMA user_version = 1;
