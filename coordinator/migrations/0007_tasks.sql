-- Written with its feature.
create table tasks (
    id text primary key
);
