-- Providers of models that were added at run time; those in the settings file are not here.
create table model_providers (
    name text primary key,
    settings text not null,
    created_us bigint not null,
    created_by text not null,
    updated_us bigint not null
);

-- Which models a role asks, in order, where that was said at run time.
create table model_roles (
    role text primary key,
    models text not null,
    updated_us bigint not null,
    updated_by text not null
);

-- One row per call of a model, failed ones included.
create table model_usage (
    id text primary key,
    at_us bigint not null,
    user_name text not null,
    task_id text,
    stage text not null,
    role text not null,
    provider text not null,
    model text not null,
    outcome text not null,
    http_status bigint,
    latency_ms bigint not null,
    first_text_ms bigint,
    prompt_sha256 text not null,
    input_tokens bigint not null,
    cached_tokens bigint not null,
    output_tokens bigint not null,
    -- Millionths of the currency of the price table.
    cost_micro bigint not null
);
create index model_usage_at on model_usage (at_us);
create index model_usage_user on model_usage (user_name, at_us);
