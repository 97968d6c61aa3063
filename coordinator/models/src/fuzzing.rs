//! Private parsers, for `tests/fuzz` alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use reeve_sdk::api::Wire;

use crate::body;
use crate::clock::SystemClock;
use crate::event::{Completed, Event};
use crate::options::{Limits, Options};
use crate::wires;

/// What a reply in pieces came to: the text, how many other events, the end; or a fault.
///
/// # Errors
/// What is wrong with the reply.
pub async fn reply(wire: Wire, pieces: Vec<Bytes>) -> Result<(String, Option<Completed>), String> {
    let spoken = wires::spoken(wire).ok_or("no wire")?;
    let all = Options::default();
    let limits = Limits {
        first_byte: all.first_byte,
        idle: all.idle,
        tail: all.tail,
        retries: all.retries,
        reply_bytes: all.reply_bytes,
        event_bytes: all.event_bytes,
        error_bytes: all.error_bytes,
    };
    let mut reader = spoken.reader();
    let body = stream::iter(pieces.into_iter().map(Ok)).boxed();
    let clock = Arc::new(SystemClock::default());
    let mut frames = body::frames(body, spoken.framing(), limits, clock, Duration::from_secs(3600));
    let mut text = String::new();
    while !reader.progress().is_over {
        let Some(frame) = frames.next().await else { break };
        let frame = frame.map_err(|error| error.to_string())?;
        let data = match frame.data.trim() {
            "[DONE]" => serde_json::Value::String("[DONE]".to_owned()),
            text => serde_json::from_str(text).map_err(|_| "no JSON".to_owned())?,
        };
        let mut events = Vec::new();
        let read = reader.read(&data, &mut events);
        for event in events {
            if let Event::Text(piece) = event {
                text.push_str(&piece);
            }
        }
        read.map_err(|trouble| format!("{trouble:?}"))?;
    }
    Ok((text, reader.progress().completed()))
}
