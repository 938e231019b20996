PRAGMA foreign_keys = OFF;
CREATE TABLE again (
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    task INTEGER NOT NULL,
    avoid TEXT,
    avoid_until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step, task)
) STRICT, WITHOUT ROWID;
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
    audit_chain BLOB, booked INTEGER NOT NULL DEFAULT 0, tasks INTEGER NOT NULL DEFAULT 1,
    UNIQUE (job, step, task, attempt)
) STRICT;
INSERT INTO "attempt" VALUES(1,'job-040g2081040g2081',0,0,1,'ses-0000000000002000','north',0,1000001,1000061,'committed',1000010,'{"exited":{"code":0}}','0000000000000001000007070707070707070707070707070707070707070707',1,X'0101010101010101010101010101010101010101010101010101010101010101',1,1);
INSERT INTO "attempt" VALUES(2,'job-040g2081040g2081',0,1,1,'ses-0000000000004000','north',0,1000011,1000071,'failed',1000020,'{"exited":{"code":3}}',NULL,NULL,NULL,1,1);
INSERT INTO "attempt" VALUES(3,'job-040g2081040g2081',0,1,2,'ses-0000000000006000','north',1,1000021,1000081,'running',NULL,NULL,NULL,NULL,NULL,1,1);
INSERT INTO "attempt" VALUES(4,'job-040g2081040g2081',0,2,1,'ses-0000000000008000','north',0,1000026,1000086,'committed',1000030,'{"exited":{"code":0}}','0000000000000004000007070707070707070707070707070707070707070707',1,X'0101010101010101010101010101010101010101010101010101010101010101',1,1);
INSERT INTO "attempt" VALUES(5,'job-040g2081040g2081',0,3,1,'ses-000000000000a000','north',0,1000031,1000091,'committed',1000033,'{"exited":{"code":0}}','0000000000000005000007070707070707070707070707070707070707070707',1,X'0101010101010101010101010101010101010101010101010101010101010101',1,1);
CREATE TABLE client (
    alias TEXT PRIMARY KEY,
    cap INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE errand (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES job (id),
    at INTEGER NOT NULL,
    done_at INTEGER,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO "errand" VALUES('result','done','job-081040g2081040g2',1000000,1000009);
INSERT INTO "errand" VALUES('result','open','job-040g2081040g2081',1000000,NULL);
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    outline TEXT NOT NULL,
    envelope TEXT NOT NULL,
    state TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    audit_records INTEGER,
    audit_chain BLOB
, farm INTEGER NOT NULL DEFAULT 0, queue TEXT, queue_key INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0, leasable INTEGER NOT NULL DEFAULT 0, priority INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL DEFAULT 0, terms TEXT NOT NULL DEFAULT '{}', placement TEXT, site TEXT, started_at INTEGER, round INTEGER NOT NULL DEFAULT 0, forgiven INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "job" VALUES('job-040g2081040g2081','river','{"job":[1,1,1,1,1,1,1,1,1,1],"client":"river","priority":50,"policy":"blender","policy_digest":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"steps":[{"tasks":4,"depends_on":[],"amounts":{"amount.worker.vcpu":2.0},"attributes":{},"timeout":60,"batch":null},{"tasks":1,"depends_on":[0],"amounts":{"amount.worker.vcpu":2.0},"attributes":{},"timeout":60,"batch":null}],"expires":2000000,"central":[],"retries":null,"wishes":{"failures":null,"not_before":null,"held":false,"trial":false}}','0101010101010101010101010101010101010101010101010101010101010101','running',1000000,1,X'0101010101010101010101010101010101010101010101010101010101010101',1,'active',970000,0,0,50,2000000,'{"wanted":"auto","task_retries":null,"dead_max":null}',NULL,NULL,1000001,0,0);
INSERT INTO "job" VALUES('job-081040g2081040g2','brook','{"job":[2,2,2,2,2,2,2,2,2,2],"client":"brook","priority":50,"policy":"blender","policy_digest":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"steps":[{"tasks":1,"depends_on":[],"amounts":{},"attributes":{},"timeout":60,"batch":null}],"expires":2000000,"central":[],"retries":null,"wishes":{"failures":null,"not_before":null,"held":false,"trial":false}}','0202020202020202020202020202020202020202020202020202020202020202','waiting',1000025,NULL,NULL,1,'active',970025,0,1,50,2000000,'{"wanted":"auto","task_retries":null,"dead_max":null}',NULL,NULL,NULL,0,0);
INSERT INTO "job" VALUES('job-0c1g60r30c1g60r3','river','{"job":[3,3,3,3,3,3,3,3,3,3],"client":"river","priority":50,"policy":"blender","policy_digest":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"steps":[{"tasks":2,"depends_on":[],"amounts":{},"attributes":{},"timeout":60,"batch":null}],"expires":2000000,"central":[],"retries":null,"wishes":{"failures":null,"not_before":null,"held":false,"trial":false}}','0303030303030303030303030303030303030303030303030303030303030303','waiting',1000034,NULL,NULL,1,'active',970034,1,1,50,2000000,'{"wanted":"auto","task_retries":null,"dead_max":null}',NULL,NULL,NULL,0,0);
INSERT INTO "job" VALUES('job-0g2081040g208104','river','{"job":[4,4,4,4,4,4,4,4,4,4],"client":"river","priority":50,"policy":"blender","policy_digest":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"steps":[{"tasks":2,"depends_on":[],"amounts":{},"attributes":{},"timeout":60,"batch":null}],"expires":2000000,"central":[],"retries":null,"wishes":{"failures":null,"not_before":null,"held":false,"trial":false}}','0404040404040404040404040404040404040404040404040404040404040404','canceled',1000036,NULL,NULL,1,NULL,970036,0,0,50,2000000,'{"wanted":"auto","task_retries":null,"dead_max":null}',NULL,NULL,NULL,0,0);
INSERT INTO "job" VALUES('job-0m2ga1850m2ga185','river','{"job":[5,5,5,5,5,5,5,5,5,5],"client":"river","priority":50,"policy":"blender","policy_digest":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"steps":[{"tasks":3,"depends_on":[],"amounts":{},"attributes":{},"timeout":60,"batch":null}],"expires":2000000,"central":[],"retries":null,"wishes":{"failures":null,"not_before":null,"held":false,"trial":false}}','0505050505050505050505050505050505050505050505050505050505050505','new',1000038,NULL,NULL,1,'new',970038,0,0,50,2000000,'{"wanted":"auto","task_retries":null,"dead_max":null}',NULL,NULL,NULL,0,0);
CREATE TABLE letter_numbers (
    recipient TEXT PRIMARY KEY,
    numbers TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "letter_numbers" VALUES('0707070707070707070707070707070707070707070707070707070707070707','{"to":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"last":{"epoch":[0,0,15,66,64,1,2,3],"number":2}}');
CREATE TABLE letter_out (
    letter TEXT PRIMARY KEY,
    item TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "letter_out" VALUES('ca680cdd1e0778044a702461b658bf50378a6555ae495c5e3c349507bbef3008','{"to":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"seq":{"epoch":[0,0,15,66,64,1,2,3],"number":2},"kind":"Cancel","bytes":[2,2,2],"load":null,"expires":1000009,"offers":0,"offered":0,"held":null}');
CREATE TABLE letter_seen (
    sender TEXT NOT NULL,
    epoch TEXT NOT NULL,
    number INTEGER NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (sender, epoch, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "letter_seen" VALUES('0707070707070707070707070707070707070707070707070707070707070707','00000f4240010203',1,'{"from":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"seq":{"epoch":[0,0,15,66,64,1,2,3],"number":1},"mark":{"of":[9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9],"verdict":"Accepted","at":1000000}}');
CREATE TABLE node (
    name TEXT PRIMARY KEY,
    key BLOB NOT NULL,
    state TEXT NOT NULL,
    drained INTEGER NOT NULL DEFAULT 0,
    heard_at INTEGER NOT NULL,
    faults INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO "node" VALUES('north',X'0505050505050505050505050505050505050505050505050505050505050505','up',0,1000000,0);
CREATE TABLE notice (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    state TEXT NOT NULL,
    round INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sent_at INTEGER,
    UNIQUE (job, state, round)
) STRICT;
INSERT INTO "notice" VALUES(1,'job-0g2081040g208104','canceled',0,1000037,NULL);
CREATE TABLE prekey (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    id TEXT NOT NULL,
    signed BLOB NOT NULL,
    job TEXT,
    UNIQUE (site, id)
) STRICT;
INSERT INTO "prekey" VALUES(1,'0707070707070707070707070707070707070707070707070707070707070707','01010101010101010101010101010101',X'0102','job-0m2ga1850m2ga185');
INSERT INTO "prekey" VALUES(2,'0707070707070707070707070707070707070707070707070707070707070707','02020202020202020202020202020202',X'0304',NULL);
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    cap INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "queue" VALUES('active',0,NULL);
INSERT INTO "queue" VALUES('new',0,NULL);
INSERT INTO "queue" VALUES('outsourced',0,NULL);
CREATE TABLE slot (
    node TEXT NOT NULL REFERENCES node (name),
    slot INTEGER NOT NULL,
    spec TEXT NOT NULL,
    PRIMARY KEY (node, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO "slot" VALUES('north',0,'{"vcpu":8,"memory_mib":4096,"gpu":0,"gpu_memory_mib":0,"scratch_mib":0,"attributes":{},"walls":[],"software":{}}');
INSERT INTO "slot" VALUES('north',1,'{"vcpu":4,"memory_mib":4096,"gpu":0,"gpu_memory_mib":0,"scratch_mib":0,"attributes":{},"walls":[],"software":{}}');
CREATE TABLE step (
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    fresh INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    again INTEGER NOT NULL DEFAULT 0, sessions INTEGER NOT NULL DEFAULT 0, spent INTEGER NOT NULL DEFAULT 0, spent_tasks INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step),
    CHECK (fresh BETWEEN 0 AND tasks AND running >= 0 AND done >= 0 AND failed >= 0),
    CHECK (running + done + failed <= tasks AND again BETWEEN 0 AND failed)
) STRICT, WITHOUT ROWID;
INSERT INTO "step" VALUES('job-040g2081040g2081',0,4,4,1,3,0,0,1,15,3);
INSERT INTO "step" VALUES('job-040g2081040g2081',1,1,0,0,0,0,0,0,0,0);
INSERT INTO "step" VALUES('job-081040g2081040g2',0,1,0,0,0,0,0,0,0,0);
INSERT INTO "step" VALUES('job-0c1g60r30c1g60r3',0,2,0,0,0,0,0,0,0,0);
INSERT INTO "step" VALUES('job-0g2081040g208104',0,2,0,0,0,0,0,0,0,0);
INSERT INTO "step" VALUES('job-0m2ga1850m2ga185',0,3,0,0,0,0,0,0,0,0);
CREATE TABLE story (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    from_state TEXT,
    to_state TEXT NOT NULL,
    event TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
INSERT INTO "story" VALUES(1,'job-040g2081040g2081',NULL,'waiting','"received"',1000000);
INSERT INTO "story" VALUES(2,'job-040g2081040g2081','waiting','running','"started"',1000001);
INSERT INTO "story" VALUES(3,'job-081040g2081040g2',NULL,'waiting','"received"',1000025);
INSERT INTO "story" VALUES(4,'job-0c1g60r30c1g60r3',NULL,'waiting','"received"',1000034);
INSERT INTO "story" VALUES(5,'job-0c1g60r30c1g60r3','waiting','waiting','"paused"',1000035);
INSERT INTO "story" VALUES(6,'job-0g2081040g208104',NULL,'waiting','"received"',1000036);
INSERT INTO "story" VALUES(7,'job-0g2081040g208104','waiting','canceled','"canceled"',1000037);
INSERT INTO "story" VALUES(8,'job-0m2ga1850m2ga185',NULL,'new','"submitted"',1000038);
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
INSERT INTO "usage" VALUES('river',11,4,3,24,192,0,9);
CREATE UNIQUE INDEX one_result ON attempt (job, step, task) WHERE state = 'committed';
CREATE UNIQUE INDEX one_runs ON attempt (job, step, task) WHERE state = 'running';
CREATE INDEX in_queue ON job (queue, queue_key) WHERE queue IS NOT NULL;
CREATE UNIQUE INDEX one_in_slot ON attempt (node, slot) WHERE state = 'running' AND booked = 1;
CREATE INDEX live ON attempt (lease_until) WHERE state = 'running' AND booked = 1;
CREATE INDEX step_live ON step (job, running) WHERE running > 0;
CREATE INDEX story_of ON story (job, number);
CREATE INDEX to_send ON notice (number) WHERE sent_at IS NULL;
CREATE UNIQUE INDEX prekey_of ON prekey (site, job) WHERE job IS NOT NULL;
CREATE INDEX errand_to_do ON errand (kind, at) WHERE done_at IS NULL;
CREATE INDEX errand_of ON errand (job, kind);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('story',8);
INSERT INTO "sqlite_sequence" VALUES('attempt',5);
INSERT INTO "sqlite_sequence" VALUES('notice',1);
INSERT INTO "sqlite_sequence" VALUES('prekey',2);
PRAGMA application_id = 0x534c4c47;
PRAGMA user_version = 4;
