//! `open_terminal`: a keeper runs the user's shell, or one program, on a terminal.

use std::sync::Arc;

use reeve_protocol::ops::{OpenTerminal, Work as _};
use reeve_protocol::{OperationId, Refusal, Request};

use super::exec::{self, Launched};
use super::{Operation, Operations, refusal};
use crate::host;
use crate::keeper::files::{Spec, Terminal};
use crate::keeper::spool::SEGMENT_BYTES;

/// Terminals at the same time. More are refused: a machine has but so many (pty(7)), and each is two
/// processes at least.
const MAX_AT_ONCE: u32 = 64;

/// Where a user's entry names no shell (passwd(5)).
const DEFAULT_SHELL: &str = "/bin/sh";

/// Opens it. When this returns a refusal, nothing of it ran.
pub fn start(
    operations: &Operations,
    id: OperationId,
    request: &Request,
) -> Result<Arc<Operation>, Refusal> {
    let asked: OpenTerminal = reeve_protocol::decode(&request.body).map_err(|error| {
        refusal("invalid", &format!("what was asked could not be understood: {error}"))
    })?;
    asked.validate().map_err(|error| refusal("invalid", &error.to_string()))?;
    let settings = &operations.inner.settings;
    if !settings.policy.allow.terminal {
        return Err(refusal(
            "policy_terminal",
            "this machine's policy allows no terminals ([allow] terminal = false); only its owner \
             can change that",
        ));
    }
    let own = &operations.inner.own_account;
    let plain = asked.to_command(DEFAULT_SHELL);
    let account = exec::find_account(&plain, own)?;
    let shell = if account.shell.is_empty() { DEFAULT_SHELL } else { &account.shell };
    let command = asked.to_command(shell);
    // Whatever can be run can be typed, so what holds for commands holds here.
    settings.policy.check(&command, &account.name)?;
    if operations.count_unfinished(Operation::is_terminal) >= MAX_AT_ONCE {
        return Err(refusal(
            "busy",
            &format!(
                "{MAX_AT_ONCE} terminals are open on this machine already; close one \
                 ('reeve sessions list' shows them)"
            ),
        ));
    }
    let switch_user = exec::has_to_switch(&account, own)?;
    let spec = Spec {
        id,
        terminal: Some(Terminal {
            columns: asked.columns,
            rows: asked.rows,
            login: asked.command.is_none(),
            idle_limit_ms: (asked.idle_limit_ms > 0).then_some(asked.idle_limit_ms),
        }),
        command,
        account,
        switch_user,
        created_us: host::now_us(),
        boot_id: settings.boot_id.clone(),
        group: settings.groups.as_ref().map(|base| base.join(format!("op-{id}"))),
        spool_bytes: settings.spool_bytes,
        segment_bytes: SEGMENT_BYTES,
        walls: None,
        work: None,
    };
    exec::launch(operations, &Launched { spec: &spec, order: None })
}
