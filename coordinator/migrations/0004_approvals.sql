-- Written with its feature.
create table approvals (
    id text primary key
);
