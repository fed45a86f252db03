"""The database schema, one script a version; never edit a script that was released, append one."""

# What 0.2.0 had; not its tables of workers and of lanes that wait.
_FIRST = """
CREATE TABLE leaders (role TEXT PRIMARY KEY, worker INTEGER NOT NULL);
CREATE TABLE sessions (
  key TEXT PRIMARY KEY,
  title TEXT NOT NULL DEFAULT '',
  created_at REAL NOT NULL, updated_at REAL NOT NULL,
  last_seq INTEGER NOT NULL DEFAULT 0,         -- the newest message
  start_seq INTEGER NOT NULL DEFAULT 0,        -- the model's context begins after this message
  settings TEXT NOT NULL DEFAULT '{}',
  is_group INTEGER NOT NULL DEFAULT 0,         -- several people write in it
  summary TEXT NOT NULL DEFAULT '',            -- what was said before start_seq
  shortened_seq INTEGER NOT NULL DEFAULT 0,    -- tool results up to it are shown to the model in short
  context_tokens INTEGER NOT NULL DEFAULT 0,   -- the last request, as the provider counted it
  context_estimate INTEGER NOT NULL DEFAULT 0, -- and as it had been estimated
  consolidated_seq INTEGER NOT NULL DEFAULT 0  -- up to it the memory files have it, or a pending change does
);
CREATE INDEX sessions_by_update ON sessions (updated_at);
CREATE INDEX unconsolidated ON sessions (last_seq - consolidated_seq);
CREATE INDEX left_behind ON sessions (key) WHERE start_seq > consolidated_seq;
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, session TEXT NOT NULL, seq INTEGER NOT NULL, turn INTEGER NOT NULL,
  created_at REAL NOT NULL, body TEXT NOT NULL, UNIQUE (session, seq)
);
CREATE TABLE turns (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL,
  origin TEXT NOT NULL,                  -- terminal: only its terminal goes on; inbox: any worker may
  state TEXT NOT NULL,                   -- running, or its stop reason, or interrupted
  worker INTEGER NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 1,      -- rises with every takeover and fences the previous worker
  first_seq INTEGER NOT NULL, started_at REAL NOT NULL, finished_at REAL, error TEXT NOT NULL DEFAULT '',
  family INTEGER,                        -- the turn whose subagents' turns share its model calls
  calls INTEGER NOT NULL DEFAULT 0,      -- model calls that ended
  calling INTEGER NOT NULL DEFAULT 0,    -- one is under way
  tokens INTEGER NOT NULL DEFAULT 0      -- of the whole turn, once it has ended
);
CREATE UNIQUE INDEX one_running_turn ON turns (session) WHERE state = 'running';
CREATE INDEX running_turns ON turns (id) WHERE state = 'running';
CREATE INDEX turns_of_session ON turns (session, id);
CREATE INDEX turns_of_family ON turns (family) WHERE family IS NOT NULL;
CREATE TABLE intents (turn INTEGER, call_id TEXT, PRIMARY KEY (turn, call_id)) WITHOUT ROWID;
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, external_id TEXT NOT NULL,
  session TEXT NOT NULL, received_at REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'pending', -- pending, claimed, done, unreadable
  turn INTEGER, body TEXT NOT NULL, UNIQUE (channel, external_id)
);
CREATE INDEX pending_inbox ON inbox (session, id) WHERE state = 'pending';
CREATE INDEX claimed_inbox ON inbox (turn) WHERE state = 'claimed';
CREATE TABLE chats (                     -- who has ever written, and when last
  channel TEXT, chat_id TEXT, seen_at REAL NOT NULL, PRIMARY KEY (channel, chat_id)
) WITHOUT ROWID;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
  channel TEXT NOT NULL, chat_id TEXT NOT NULL, created_at REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'pending', -- pending, sent, parked
  attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0,
  error TEXT NOT NULL DEFAULT '', receipt TEXT NOT NULL DEFAULT '', body TEXT NOT NULL
);
CREATE INDEX pending_outbox ON outbox (channel, chat_id, id) WHERE state = 'pending';
CREATE INDEX parked_outbox ON outbox (id) WHERE state = 'parked';
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, enabled INTEGER NOT NULL,
  next_at REAL,                          -- NULL: it does not run again
  created_at REAL NOT NULL, body TEXT NOT NULL
);
CREATE TABLE fired (                     -- the slots of a job, or of the heartbeat: fired or missed
  job TEXT, slot REAL, status TEXT NOT NULL, PRIMARY KEY (job, slot)
) WITHOUT ROWID;
-- files of the older nanobot that were taken over
CREATE TABLE imports (name TEXT PRIMARY KEY, imported_at REAL NOT NULL);
CREATE TABLE setbacks (                  -- sessions whose consolidation failed since it last succeeded
  session TEXT PRIMARY KEY, failures INTEGER NOT NULL, retry_at REAL NOT NULL, error TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE memory_changes (            -- what consolidations put into the memory files
  id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL,
  first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, created_at REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'pending', -- pending, applied
  body TEXT NOT NULL
);
CREATE INDEX pending_changes ON memory_changes (id) WHERE state = 'pending';
CREATE INDEX changes_of_session ON memory_changes (session, last_seq);
-- when something was forgotten; never what
CREATE TABLE forgets (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL);
CREATE TABLE subagents (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,               -- its session is subagent:<id>
  parent TEXT NOT NULL,                  -- the session that asked for it
  label TEXT NOT NULL, profile TEXT NOT NULL,
  worker INTEGER,                        -- whose terminal runs it; NULL: it came through the inbox
  created_at REAL NOT NULL,
  ended TEXT NOT NULL DEFAULT ''         -- how, once its parent was told or is not to be told
);
CREATE INDEX subagents_of_session ON subagents (parent, number);
CREATE INDEX open_subagents ON subagents (parent, number) WHERE ended = ''
"""

# Where words come from: 0.2.0 said it in keys of metadata and in the beginnings of session keys; an order's
# address was JSON in a string. What is left of metadata belongs to the platform.
# turns.name stands in ids that platforms see; that of a turn which 0.2.0 has begun stays as it was.
# outbox.turn is the turn that replies, or whose tool call it is. forgets.request is what is being forgotten,
# until that is done. imports.left_out says what of the file could not be read, and state: of the file then.
# A slot that fired is a message in the inbox. jobs.skipped: nobody was there for the newest slot.
_SINCE_0_2_0 = """
ALTER TABLE sessions ADD COLUMN kind TEXT NOT NULL DEFAULT 'chat';
UPDATE sessions SET kind = CASE WHEN key = 'heartbeat' THEN 'heartbeat' WHEN key GLOB 'cron:*' THEN 'job'
  WHEN key GLOB 'subagent:*' THEN 'subagent' ELSE 'chat' END;
ALTER TABLE inbox ADD COLUMN source TEXT NOT NULL DEFAULT 'person';
ALTER TABLE inbox ADD COLUMN trust TEXT NOT NULL DEFAULT 'owner';
ALTER TABLE inbox ADD COLUMN family INTEGER;
ALTER TABLE inbox ADD COLUMN owner TEXT NOT NULL DEFAULT '';
DROP INDEX IF EXISTS unattended_inbox;
UPDATE inbox SET
  source = CASE json_extract(body, '$.metadata.origin') WHEN 'cron' THEN 'schedule' WHEN 'heartbeat'
    THEN 'heartbeat' ELSE iif(json_extract(body, '$.metadata.profile') IS NULL, 'report', 'order') END,
  family = CAST(json_extract(body, '$.metadata.turn_family') AS INTEGER),
  body = json_set(body, '$.deliver',
    json(iif(json_extract(body, '$.metadata.deliver') = 'no', 'false', 'true')))
  WHERE json_valid(body) AND json_extract(body, '$.metadata.origin') IS NOT NULL;
UPDATE inbox SET trust = 'foreign' WHERE source = 'report';
UPDATE inbox SET body = (SELECT json_set(body,
    '$.deliver', json(iif(json_extract(asked, '$.metadata.deliver') = 'no', 'false', 'true')),
    '$.reply_to', json_object(
      'session_key', json_extract(body, '$.metadata.parent'),
      'channel', json_extract(asked, '$.channel'), 'chat_id', json_extract(asked, '$.chat_id'),
      'metadata', json_remove(json_extract(asked, '$.metadata'), '$.origin', '$.turn_family', '$.job',
        '$.deliver'),
      'is_group', json(iif(json_extract(asked, '$.is_group'), 'true', 'false'))))
    FROM (SELECT json_extract(body, '$.metadata.address') AS asked))
  WHERE source = 'order' AND json_valid(json_extract(body, '$.metadata.address'));
UPDATE inbox SET body = json_remove(body, '$.metadata.origin', '$.metadata.turn_family', '$.metadata.job',
    '$.metadata.deliver', '$.metadata.parent', '$.metadata.label', '$.metadata.profile', '$.metadata.address')
  WHERE source <> 'person';
UPDATE jobs SET body = json_remove(json_set(body, '$.is_group', json('true')), '$.metadata.group')
  WHERE json_valid(body) AND json_extract(body, '$.metadata.group') IS NOT NULL;
CREATE INDEX unattended_inbox ON inbox (turn) WHERE source <> 'person';
CREATE INDEX waiting_inbox ON inbox (owner, session, id) WHERE state = 'pending';
ALTER TABLE turns ADD COLUMN name TEXT NOT NULL DEFAULT '';
UPDATE turns SET name = CAST(id AS TEXT) WHERE state = 'running';
ALTER TABLE outbox ADD COLUMN turn INTEGER;
UPDATE outbox SET turn = CAST(substr(key, 6) AS INTEGER) WHERE key LIKE 'turn-%';
CREATE INDEX outbox_of_turn ON outbox (turn) WHERE turn IS NOT NULL;
ALTER TABLE forgets ADD COLUMN request TEXT NOT NULL DEFAULT '';
DROP TABLE IF EXISTS waiting;
DROP TABLE IF EXISTS workers;
ALTER TABLE imports ADD COLUMN left_out TEXT NOT NULL DEFAULT '';
ALTER TABLE imports ADD COLUMN state TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET missed = (SELECT COUNT(*) FROM fired WHERE job = jobs.id AND status = 'missed'),
  skipped = (SELECT COUNT(*) FROM fired WHERE job = jobs.id AND status = 'missed'
    AND slot = (SELECT MAX(slot) FROM fired WHERE job = jobs.id));
DROP TABLE fired
"""

# A session holds conversations, one of which is going on; a turn stays in that in which it has begun.
# sessions.start_seq: what was said up to there has left a window, so memory owes it.
_CONVERSATIONS = """
CREATE TABLE conversations (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL,
  title TEXT NOT NULL DEFAULT '', created_at REAL NOT NULL, updated_at REAL NOT NULL,
  parent INTEGER,                              -- it goes on from another one
  fork_seq INTEGER NOT NULL DEFAULT 0,         -- after this message of its parent
  messages INTEGER NOT NULL DEFAULT 0,         -- in it, with those it has from there
  start_seq INTEGER NOT NULL DEFAULT 0,        -- the model's context begins after this message
  summary TEXT NOT NULL DEFAULT '',            -- what was said before start_seq
  shortened_seq INTEGER NOT NULL DEFAULT 0,    -- tool results up to it are shown to the model in short
  context_tokens INTEGER NOT NULL DEFAULT 0,   -- the last request, as the provider counted it
  context_estimate INTEGER NOT NULL DEFAULT 0  -- and as it had been estimated
);
CREATE INDEX conversations_by_update ON conversations (updated_at);
INSERT INTO conversations (session, title, messages, created_at, updated_at, start_seq, summary,
    shortened_seq, context_tokens, context_estimate)
  SELECT key, title, (SELECT COUNT(*) FROM messages WHERE session = key), created_at, updated_at, start_seq,
    summary, shortened_seq, context_tokens, context_estimate FROM sessions ORDER BY updated_at;
ALTER TABLE sessions ADD COLUMN conversation INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET conversation = (SELECT id FROM conversations WHERE session = key);
ALTER TABLE messages ADD COLUMN conversation INTEGER NOT NULL DEFAULT 0;
UPDATE messages SET conversation = (SELECT conversation FROM sessions WHERE key = session);
CREATE INDEX messages_of_conversation ON messages (conversation, seq);
ALTER TABLE turns ADD COLUMN conversation INTEGER NOT NULL DEFAULT 0;
UPDATE turns SET conversation = COALESCE((SELECT conversation FROM sessions WHERE key = session), 0);
ALTER TABLE sessions DROP COLUMN title;
ALTER TABLE sessions DROP COLUMN summary;
ALTER TABLE sessions DROP COLUMN shortened_seq;
ALTER TABLE sessions DROP COLUMN context_tokens;
ALTER TABLE sessions DROP COLUMN context_estimate
"""

# The version that each script makes of the one before.
MIGRATIONS = {5: _FIRST, 11: _SINCE_0_2_0, 12: _CONVERSATIONS}
