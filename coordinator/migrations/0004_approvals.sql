-- A yes that is waited for, or was given, with everything it is bound to.
create table approvals (
    id text primary key,
    digest blob not null,
    state text not null,
    task_id text,
    subtask bigint,
    principal text not null,
    user_id text not null,
    key_id text,
    request text not null,
    machines text not null,
    purpose text not null,
    effect text not null,
    effect_reasons text not null,
    undo text,
    needed bigint not null,
    other_than_requester bigint not null,
    step_up bigint not null,
    rule text not null,
    created_us bigint not null,
    expires_us bigint not null,
    -- Of the request that asked for it, so that asking again asks once.
    idempotency_key text,
    -- Of whoever used it, so that the same one may ask again what came of it.
    redeem_key text,
    job_id text
);
create index approvals_state on approvals (state, expires_us);
create index approvals_task on approvals (task_id);
create unique index approvals_idempotency on approvals (principal, idempotency_key);

-- What people said. The digest is the one they said it to.
create table approval_decisions (
    approval_id text not null references approvals (id) on delete cascade,
    user_id text not null,
    principal text not null,
    approved bigint not null,
    digest blob not null,
    reason text not null,
    at_us bigint not null,
    primary key (approval_id, user_id)
);

-- The yes a job runs with: what waits for its machine is held against it when it is sent.
alter table jobs add column approval text;
