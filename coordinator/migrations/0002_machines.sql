-- Machines, what selectors know of them, and the tokens they join with.
create table machines (
    id text primary key,
    name text not null,
    public_key blob not null,
    channel_binding bigint not null,
    enrolled_us bigint not null,
    enrolled_with text not null,
    last_seen_us bigint,
    agent_version text not null,
    boot_id text not null,
    facts text not null,
    epoch bigint not null,
    quarantined_us bigint,
    revoked_us bigint
);
create unique index machines_name on machines (name);

create table machine_labels (
    machine_id text not null references machines (id) on delete cascade,
    label text not null,
    content text not null,
    primary key (machine_id, label)
);

create table enrolment_tokens (
    id text primary key,
    secret_hash blob not null,
    labels text not null,
    name text,
    uses bigint not null,
    uses_left bigint not null,
    created_us bigint not null,
    created_by text not null,
    expires_us bigint not null,
    revoked_us bigint
);
