//! Directions, kinds, statuses and topics. The database stores and the local API shows them as
//! [`as_str`] returns them.
//!
//! [`as_str`]: Direction::as_str

use sealpost_proto::string_enum;

string_enum! {
    /// Direction of a message, file or connection request.
    pub enum Direction {
        /// From the peer to this node.
        In = "in",
        /// From this node to the peer.
        Out = "out",
    }
}

string_enum! {
    /// Visible status of a connection.
    pub enum ConnectionStatus {
        /// Requested, but not decided yet.
        Pending = "pending",
        /// Both sides agreed.
        Accepted = "accepted",
        /// One side rejected the request.
        Rejected = "rejected",
        /// Closed permanently by this node.
        Blocked = "blocked",
        /// Accepted, but nothing is sent until a person decides about a warning.
        Suspended = "suspended",
    }
}

string_enum! {
    /// Health of a connection.
    pub enum HealthState {
        /// Messages are delivered.
        Ok = "ok",
        /// Something needs attention or has not been confirmed yet. Messages may wait; none is
        /// lost.
        Waiting = "waiting",
        /// The session is being replaced, because a message could not be opened. Messages wait or
        /// are sent again; none is lost.
        Healing = "healing",
        /// Messages cannot be delivered until somebody intervenes.
        Broken = "broken",
    }
}

string_enum! {
    /// Warning about a connection, which remains until a person acknowledges it; the most serious
    /// first.
    pub enum ConnectionWarning {
        /// Somebody with another identity tried to continue the connection. It is suspended.
        OtherIdentity = "other_identity",
        /// The partner's node started a session that does not continue the earlier one.
        Reset = "reset",
        /// The partner's node was rolled back to an older state, or a second copy of it is running.
        Forked = "forked",
        /// This node's state was older than what the partner has received.
        RolledBack = "rolled_back",
        /// The session had to be replaced many times in a day.
        ManyRepairs = "many_repairs",
    }
}

string_enum! {
    /// Warning about this node, which remains until a person acknowledges it; the most serious
    /// first.
    pub enum NodeWarning {
        /// A second node runs with this identity.
        SecondNode = "second_node",
        /// The database was older than what this node has done since.
        RolledBack = "rolled_back",
    }
}

string_enum! {
    /// Kind of an invite, by how often it can be used.
    pub enum InviteKind {
        /// For one connection and a limited time.
        Single = "single",
        /// Contact address for any number of requests.
        Contact = "contact",
    }
}

string_enum! {
    /// Status of an invite.
    pub enum InviteStatus {
        /// Open for requests.
        Open = "open",
        /// Used for a connection.
        Used = "used",
        /// Past its expiry.
        Expired = "expired",
        /// Revoked by this node.
        Revoked = "revoked",
    }
}

string_enum! {
    /// Kind of a chat.
    pub enum ChatType {
        /// The only chat of a connection.
        Direct = "direct",
    }
}

string_enum! {
    /// Status of a participant in a chat.
    pub enum ParticipantStatus {
        /// Takes part in the chat.
        Active = "active",
    }
}

string_enum! {
    /// Audience of a message.
    pub enum Visibility {
        /// Every participant of the chat.
        Public = "public",
    }
}

string_enum! {
    /// Media type of a message text.
    pub enum ContentType {
        /// Markdown.
        Markdown = "text/markdown",
        /// HTML.
        Html = "text/html",
        /// Plain text.
        Plain = "text/plain",
    }
}

string_enum! {
    /// State of the connection to the relay.
    pub enum RelayState {
        /// No request has succeeded or failed yet.
        Starting = "starting",
        /// The relay responds.
        Connected = "connected",
        /// The relay does not respond.
        Unreachable = "unreachable",
        /// The relay responds, but refuses the requests of this node.
        Refused = "refused",
    }
}

string_enum! {
    /// Subject of an event.
    pub enum EventTopic {
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
        /// The connection to the relay or the state of this node changed.
        Node = "node",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_proto::string_enum::ParseEnumError;

    #[test]
    fn enums_round_trip() {
        for topic in EventTopic::ALL {
            assert_eq!(EventTopic::parse(topic.as_str()), Ok(*topic));
        }
        assert_eq!(Direction::parse("In"), Err(ParseEnumError));
        assert_eq!(ContentType::Html.to_string(), "text/html");
    }
}
