//! The outermost shape of every message.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::ids::OperationId;

/// What a message is. An unknown kind is kept as its name, so that a newer peer's message can be
/// ignored or answered and never breaks the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Agent → coordinator, first message.
    Hello,
    /// Coordinator → agent.
    Challenge,
    /// Agent → coordinator.
    Proof,
    /// Coordinator → agent: the session is open.
    Welcome,
    /// Coordinator → agent: there will be no session.
    Reject,
    /// Coordinator → agent: do this.
    Request,
    /// Agent → coordinator: journalled and started.
    Accepted,
    /// Agent → coordinator: bytes a command wrote.
    Output,
    /// Either way: how far the peer may send.
    Credit,
    /// Coordinator → agent: stdin, signals, cancel.
    Control,
    /// Agent → coordinator: how it ended.
    Result,
    /// Coordinator → agent: this much is durable.
    Acknowledge,
    /// Either way: alive, with metrics from the agent.
    Heartbeat,
    /// Agent → coordinator: a line of the agent's own log.
    ClientLog,
    /// Agent → coordinator: what is running here, after connect.
    Report,
    /// Agent → coordinator: facts about the machine.
    Facts,
    /// Either way: this connection ends on purpose.
    Goodbye,
    /// Something this build does not know.
    Unknown(String),
}

macro_rules! kinds {
    ($($variant:ident = $name:literal),* $(,)?) => {
        impl Kind {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Kind::$variant => $name,)*
                    Kind::Unknown(name) => name,
                }
            }

            fn from_name(name: &str) -> Self {
                match name {
                    $($name => Kind::$variant,)*
                    other => Kind::Unknown(other.to_owned()),
                }
            }
        }
    };
}

kinds! {
    Hello = "hello",
    Challenge = "challenge",
    Proof = "proof",
    Welcome = "welcome",
    Reject = "reject",
    Request = "request",
    Accepted = "accepted",
    Output = "output",
    Credit = "credit",
    Control = "control",
    Result = "result",
    Acknowledge = "acknowledge",
    Heartbeat = "heartbeat",
    ClientLog = "client_log",
    Report = "report",
    Facts = "facts",
    Goodbye = "goodbye",
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Kind;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a message kind")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Kind, E> {
                Ok(Kind::from_name(name))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// One message. The body is decoded only by the code that handles its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What this is.
    pub kind: Kind,
    /// The operation it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OperationId>,
    /// The operation's name, in a `request` only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The encoded body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// A body that says of which kind of message it is the body.
pub trait Body: Serialize + DeserializeOwned {
    /// The kind of the envelope around it.
    const KIND: Kind;
}

impl Envelope {
    /// A message that belongs to no operation.
    ///
    /// # Errors
    /// When the body cannot be encoded.
    pub fn of<B: Body>(body: &B) -> Result<Self, CodecError> {
        Ok(Self { kind: B::KIND, id: None, name: String::new(), body: codec::encode(body)? })
    }

    /// A message about one operation.
    ///
    /// # Errors
    /// When the body cannot be encoded.
    pub fn about<B: Body>(id: OperationId, body: &B) -> Result<Self, CodecError> {
        Ok(Self { id: Some(id), ..Self::of(body)? })
    }

    /// The encoded message about one operation whose body ends with `bytes`, which `body` leaves empty.
    /// They are copied once, where [`Self::about`] and encoding it copy them twice.
    ///
    /// # Errors
    /// When the body cannot be encoded, or does not end with bytes.
    pub fn encode_ending_with<B: Body>(
        id: OperationId,
        body: &B,
        bytes: &[u8],
    ) -> Result<Vec<u8>, CodecError> {
        let envelope = Self::about(id, body)?;
        if bytes.is_empty() {
            return codec::encode(&envelope);
        }
        let around = codec::encode(&Self { body: Vec::new(), ..envelope.clone() })?;
        let inner = codec::cut_empty_bytes(&envelope.body)?;
        let marker = codec::bytes_marker(bytes.len())?;
        let whole = inner.len() + marker.len() + bytes.len();
        let outer = codec::cut_empty_bytes(&around)?;
        let outer_marker = codec::bytes_marker(whole)?;
        let mut message = Vec::with_capacity(outer.len() + outer_marker.len() + whole);
        for part in [outer, outer_marker.as_slice(), inner, marker.as_slice(), bytes] {
            message.extend_from_slice(part);
        }
        Ok(message)
    }

    /// A request, which also names what is asked.
    ///
    /// # Errors
    /// When the body cannot be encoded.
    pub fn request(id: OperationId, name: &str, body: &crate::Request) -> Result<Self, CodecError> {
        Ok(Self { name: name.to_owned(), ..Self::about(id, body)? })
    }

    /// The body as `B`.
    ///
    /// # Errors
    /// [`CodecError::Kind`] when the envelope is of another kind, or what decoding says.
    pub fn open<B: Body>(&self) -> Result<B, CodecError> {
        self.check_kind(&B::KIND)?;
        codec::decode(&self.body)
    }

    /// The body of an `output` message, whose bytes stay where they are.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_output(&self) -> Result<crate::OutputRef<'_>, CodecError> {
        self.check_kind(&Kind::Output)?;
        codec::decode(&self.body)
    }

    fn check_kind(&self, expected: &Kind) -> Result<(), CodecError> {
        if self.kind == *expected {
            return Ok(());
        }
        Err(CodecError::Kind {
            expected: expected.as_str().to_owned(),
            found: self.kind.as_str().to_owned(),
        })
    }

    /// The operation id, which every message about an operation must carry.
    ///
    /// # Errors
    /// [`CodecError::NoOperation`] when there is none.
    pub fn operation(&self) -> Result<OperationId, CodecError> {
        self.id.ok_or_else(|| CodecError::NoOperation { kind: self.kind.as_str().to_owned() })
    }
}
