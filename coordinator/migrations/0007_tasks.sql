-- Requests in words: their plans, what became of each step, every event, every call of a model.

create table tasks (
    id text primary key,
    principal text not null,
    user_id text not null,
    -- The API key it was asked with; null when it was asked with a login.
    key_id text,
    request text not null,
    -- Machines it may touch, by id and name, resolved once.
    machines text not null,
    -- The random bytes that markers in its prompts are derived from.
    seed text not null,
    state text not null,
    reason_code text,
    reason text,
    question text,
    -- What was answered to its questions, in order.
    answers text not null,
    planner text,
    plan_summary text,
    summary text,
    created_us bigint not null,
    started_us bigint,
    finished_us bigint,
    -- Since when nothing goes on without a yes, and how long that was the case before.
    waiting_us bigint,
    waited_us bigint not null,
    cancelled_by text,
    cancel_reason text,
    last_event bigint not null,
    idempotency_key text,
    request_hash blob
);
create index tasks_state on tasks (state);
create unique index tasks_idempotency on tasks (principal, idempotency_key);

create table subtasks (
    task_id text not null references tasks (id) on delete cascade,
    number bigint not null,
    -- As it was planned, for good.
    planned text not null,
    state text not null,
    reason_code text,
    reason text,
    primary key (task_id, number)
);

-- Tries of a step; looks around before there is a plan are tries of step 0.
create table attempts (
    task_id text not null references tasks (id) on delete cascade,
    subtask bigint not null,
    number bigint not null,
    detail text not null,
    primary key (task_id, subtask, number)
);

create table task_events (
    task_id text not null references tasks (id) on delete cascade,
    sequence bigint not null,
    at_us bigint not null,
    what text not null,
    primary key (task_id, sequence)
);

-- Every call of a model, so that each stage can be repeated from the record. `name` says which call
-- of the task it was; an answer that is here is never asked for again.
create table model_calls (
    id text primary key,
    task_id text not null references tasks (id) on delete cascade,
    name text not null,
    stage text not null,
    role text not null,
    at_us bigint not null,
    prompt_sha256 text not null,
    request text not null,
    response text,
    provider text not null,
    model text not null,
    outcome text not null,
    input_tokens bigint not null,
    cached_tokens bigint not null,
    output_tokens bigint not null,
    -- Billionths of the currency of the price table.
    cost_nano bigint not null,
    latency_ms bigint not null
);
create index model_calls_task on model_calls (task_id, id);
