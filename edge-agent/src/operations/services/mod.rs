//! Units of systemd, asked for and controlled over D-Bus.

mod bus;
mod control;
mod fault;
mod list;
mod nearest;
mod status;

use reeve_protocol::ops::Failure;

use bus::Systemd;

/// Does something with systemd, on a runtime of its own: a worker has none.
fn with_systemd<T>(work: impl AsyncFnOnce(&Systemd) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("io", format!("cannot start: {error}")))?;
    runtime.block_on(async { work(&Systemd::connect().await?).await })
}
