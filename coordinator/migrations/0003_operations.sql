-- Jobs, their operations, and where the output of each lies.
create table jobs (
    id text primary key,
    principal text not null,
    selector text not null,
    operation text not null,
    rollout text not null,
    output_limit bigint not null,
    expires_us bigint,
    state text not null,
    created_us bigint not null,
    finished_us bigint,
    cancel_requested_us bigint,
    idempotency_key text,
    request_hash blob
);
create index jobs_state on jobs (state);
create unique index jobs_idempotency on jobs (principal, idempotency_key);

create table operations (
    id text primary key,
    job_id text not null references jobs (id) on delete cascade,
    ordinal bigint not null,
    machine_id text not null,
    machine text not null,
    state text not null,
    boot_id text,
    journal_id text,
    created_us bigint not null,
    sent_us bigint,
    started_us bigint,
    finished_us bigint,
    updated_us bigint not null,
    cancel_requested_us bigint,
    cancel_reason text,
    exit_code bigint,
    signal bigint,
    reason_code text,
    reason text,
    containment text,
    duration_ms bigint,
    leftovers_killed bigint not null,
    usage text,
    durable_all bigint not null,
    durable_stdout bigint not null,
    durable_stderr bigint not null
);
create index operations_job on operations (job_id, ordinal);
create index operations_machine on operations (machine_id, state);
create index operations_state on operations (state, job_id);

-- One row per piece of output that became durable together. A piece is a run of records (see
-- coordinator/src/operations/output/record.rs), inline when small, else in a segment file.
create table output_pieces (
    operation_id text not null references operations (id) on delete cascade,
    all_from bigint not null,
    all_to bigint not null,
    stdout_from bigint not null,
    stdout_to bigint not null,
    stderr_from bigint not null,
    stderr_to bigint not null,
    segment bigint,
    position bigint,
    length bigint not null,
    content blob,
    primary key (operation_id, all_from)
);
create index output_pieces_segment on output_pieces (segment);
