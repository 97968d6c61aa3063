-- Files kept for stdin of operations, and which job reads which.
create table uploads (
    id text primary key,
    principal text not null,
    user_id text not null,
    name text,
    size bigint not null,
    -- Bytes that are on the disk.
    received bigint not null,
    state text not null,
    -- As announced, or as computed once it is complete.
    blake3 text,
    created_us bigint not null,
    appended_us bigint not null,
    used_us bigint not null
);
create index uploads_principal on uploads (principal);
create index uploads_used on uploads (used_us);
alter table jobs add column upload_id text;
create index jobs_upload on jobs (upload_id, state);
