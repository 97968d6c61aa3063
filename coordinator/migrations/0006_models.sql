-- Written with its feature.
create table model_providers (
    id text primary key
);
