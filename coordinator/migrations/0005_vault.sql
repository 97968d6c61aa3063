-- How the vault's keyring is locked: one row, or none while there is no vault.
create table vault_locks (
    id bigint primary key,
    salt blob not null,
    memory_kib bigint not null,
    passes bigint not null,
    lanes bigint not null,
    -- nonce ‖ XChaCha20-Poly1305(key of the passphrase, keyring)
    keyring blob not null,
    created_us bigint not null,
    created_by text not null
);

-- Secrets, each sealed with the keyring under its own name and kind.
create table vault_entries (
    name text primary key,
    kind text not null,
    sealed blob not null,
    ends_with text,
    account text,
    expires_us bigint,
    created_us bigint not null,
    created_by text not null,
    updated_us bigint not null
);
