-- People, their keys, what the installation knows of itself, and the audit chain.
-- Ids are hyphenated UUIDs, times microseconds since 1970 in UTC.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    scope TEXT NOT NULL,
    -- Argon2id in PHC form; null until the one-time code has been used.
    password TEXT,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_name_key ON users (name);

CREATE TABLE one_time_codes (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the code.
    hash BLOB NOT NULL,
    -- Whose password it sets; null for the code of the first start, which makes the first admin.
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    created BIGINT NOT NULL,
    -- Null never expires.
    expires BIGINT
);
CREATE UNIQUE INDEX one_time_codes_hash_key ON one_time_codes (hash);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    -- 'key' for programs, 'cli' and 'web' for sessions of people.
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Null: the owner's.
    role TEXT,
    scope TEXT,
    -- SHA-256 of the secret.
    hash BLOB NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    last_used BIGINT
);
-- 'key:NAME' in the audit log has to mean one key.
CREATE UNIQUE INDEX api_keys_name_key ON api_keys (name) WHERE kind = 'key';
CREATE INDEX api_keys_user ON api_keys (user_id);

CREATE TABLE audit (
    sequence BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
);
CREATE INDEX audit_action ON audit (action, sequence);
CREATE INDEX audit_principal ON audit (principal, sequence);

-- One row: the last link. Updating it first is what keeps two writers from forging one sequence
-- number, and what shows that the newest entries were cut off.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL
);
