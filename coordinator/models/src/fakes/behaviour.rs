//! What the fake does with a request.

use serde_json::Value;

/// What the fake does with one request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A good reply, in many small pieces, with usage and rate-limit headers.
    Text(String),
    /// A good reply that is JSON.
    Json(Value),
    /// A reply after thoughts, where the wire has them.
    Thoughtful {
        /// What it thinks.
        thought: String,
        /// What it replies.
        text: String,
    },
    /// A good reply cut off by the limit of tokens.
    Truncated(String),
    /// The model declines, in the wire's own way.
    Refuses,
    /// HTTP 200, the wire's content type, and exactly this body.
    Raw(String),
    /// Exactly this.
    Reply {
        /// The status.
        status: u16,
        /// All headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// An error in the wire's own words.
    Trouble(Trouble),
    /// As the model behaves while the request has the field of this name (anywhere in the body):
    /// 400, and names it; without it a good reply with the JSON.
    RefusesField(String, Value),
    /// Some text, then the connection is cut in the middle of an event.
    CutMidEvent,
    /// Some text, then an orderly end of the body without the wire's last event.
    EndsEarly,
    /// Some text, then an error event: HTTP said 200 long ago.
    ErrorAfterText,
    /// Takes the request and says nothing.
    NeverFirstByte,
    /// Some text, then nothing, with the connection open.
    HangsAfterText,
    /// A good reply, then the connection stays open: no end of the body.
    NeverCloses(String),
    /// Byte after byte of an event that never ends.
    Drips,
    /// Small events without end; stops at 50 MB.
    Floods,
    /// One event of 2 MiB.
    GiantEvent,
    /// 307 to there.
    Redirects(String),
    /// Good status, then bytes that are no text.
    Garbage,
    /// An event whose JSON is cut in half, then an orderly end.
    HalfJson,
    /// A web page, as of a proxy in between.
    WebPage,
    /// Says that the body is compressed.
    Compressed,
    /// Does not stream whatever it is asked: the whole reply as one JSON.
    NotStreamed(String),
}

/// An error, in each wire's own words.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// 429.
    RateLimit(Delay),
    /// 529 at Anthropic, 503 elsewhere.
    Overloaded,
    /// This status.
    Server(u16),
    /// The money is gone.
    Quota,
    /// The prompt is too long.
    ContextTooLong,
    /// 413.
    TooLarge,
    /// 401.
    BadKey,
    /// 403.
    Forbidden,
    /// 404.
    NoModel,
    /// 400 with this text.
    BadRequest(String),
}

/// How a 429 says when to come back.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// Not at all.
    Unsaid,
    /// `retry-after` in seconds; in the body at Gemini.
    Seconds(u64),
    /// `retry-after-ms`.
    Millis(u64),
    /// `retry-after` as an HTTP date.
    Date(String),
    /// In the message: `Please try again in 1.5s`.
    Words(String),
}

impl Behaviour {
    /// A good reply.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A good reply that is JSON.
    #[must_use]
    pub fn json(json: Value) -> Self {
        Self::Json(json)
    }

    /// JSON as models send it that do not keep to a schema: with a fence, and words around it.
    #[must_use]
    pub fn fenced(json: &Value) -> Self {
        Self::Text(format!("Sure, here you are:\n\n```json\n{json}\n```\n\nAnything else?"))
    }
}
