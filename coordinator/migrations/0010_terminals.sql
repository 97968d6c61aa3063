-- Terminals: their list, and how large they were when. What they showed is output like any other.
create table terminals (
    operation_id text primary key references operations (id) on delete cascade,
    opened_by text not null,
    -- The request as JSON, without the values of its environment.
    request text not null,
    -- 0: what was shown goes when it has ended.
    recorded bigint not null,
    width bigint not null,
    height bigint not null
);

-- One row per change of the size. all_from: the merged offset that was durable then.
create table terminal_sizes (
    operation_id text not null references terminals (operation_id) on delete cascade,
    at_us bigint not null,
    number bigint not null,
    all_from bigint not null,
    width bigint not null,
    height bigint not null,
    primary key (operation_id, number)
);

-- When a piece became durable; null in rows that are older than this column.
alter table output_pieces add column at_us bigint;
