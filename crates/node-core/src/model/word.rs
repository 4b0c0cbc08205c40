//! Closed sets of words: the database stores them and the API shows them as [`as_str`] writes them.
//!
//! [`as_str`]: Direction::as_str

/// Text that is no word of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known words")]
pub struct UnknownWord;

/// Defines an enum together with its words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the word that is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// [`UnknownWord`] when it is none of the set.
            pub fn parse(text: &str) -> Result<Self, $crate::model::UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::model::UnknownWord),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(|_| {
                    serde::de::Error::unknown_variant(&text, &[$($word,)*])
                })
            }
        }
    };
}
pub(super) use words;

words! {
    /// Which way something goes.
    Direction {
        /// From the peer to this node.
        In = "in",
        /// From this node to the peer.
        Out = "out",
    }
}

words! {
    /// State of a connection, as people see it.
    ConnectionStatus {
        /// Requested and not answered.
        Pending = "pending",
        /// Both sides agreed.
        Accepted = "accepted",
        /// One side rejected the request.
        Rejected = "rejected",
        /// This side closed it for good.
        Blocked = "blocked",
        /// Paused.
        Suspended = "suspended",
    }
}

words! {
    /// Whether messages pass on a connection.
    HealthState {
        /// They pass.
        Ok = "ok",
        /// They wait for something.
        Waiting = "waiting",
        /// They do not pass, and waiting does not help.
        Broken = "broken",
    }
}

words! {
    /// How often an invite can be used.
    InviteKind {
        /// For one connection, within a limited time.
        Single = "single",
        /// A contact address: for any number of requests.
        Contact = "contact",
    }
}

words! {
    /// Whether an invite can still be used.
    InviteStatus {
        /// It can.
        Open = "open",
        /// A connection was made with it.
        Used = "used",
        /// Its time is over.
        Expired = "expired",
        /// Its maker revoked it.
        Revoked = "revoked",
    }
}

words! {
    /// Kind of a chat.
    ChatType {
        /// The one chat that each connection has.
        Direct = "direct",
    }
}

words! {
    /// Whether a participant is still in the chat.
    ParticipantStatus {
        /// It is.
        Active = "active",
    }
}

words! {
    /// Who can see a message.
    Visibility {
        /// Everybody in the chat.
        Public = "public",
    }
}

words! {
    /// Media type of a message text.
    ContentType {
        /// Markdown.
        Markdown = "text/markdown",
        /// HTML.
        Html = "text/html",
    }
}

words! {
    /// Whether the relay responds.
    RelayState {
        /// No response has been received or missed yet.
        Starting = "starting",
        /// It responds.
        Connected = "connected",
        /// It does not respond.
        Unreachable = "unreachable",
    }
}

words! {
    /// What an event is about.
    EventTopic {
        /// A message was stored or changed.
        Message = "message",
        /// The delivery of a message to a recipient changed.
        Delivery = "delivery",
        /// A connection changed.
        Connection = "connection",
        /// The status of a file changed.
        Attachment = "attachment",
        /// Progress of a transfer; never stored.
        Transfer = "transfer",
        /// The relay was reached or lost.
        Node = "node",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for topic in EventTopic::ALL {
            assert_eq!(EventTopic::parse(topic.as_str()), Ok(*topic));
        }
        assert_eq!(Direction::parse("In"), Err(UnknownWord));
        assert_eq!(ContentType::Html.to_string(), "text/html");
    }
}
