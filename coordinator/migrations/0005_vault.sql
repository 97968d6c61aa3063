-- Written with its feature.
create table vault_keyring (
    id text primary key
);
