//! What goes wrong on purpose: faults that the system has to bear, and mutants that it must not survive unnoticed.

/// How often what goes wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// A request or an answer is lost.
    pub(crate) lost: u64,
    /// It arrives twice.
    pub(crate) repeated: u64,
    /// It takes minutes, and others overtake it.
    pub(crate) late: u64,
    /// A process ends just before or just after a commit.
    pub(crate) crashed: u64,
    /// A webhook answers 500 to a call.
    pub(crate) stumbles: u64,
    /// An envelope breaks every call that carries it.
    pub(crate) poisoned: u64,
    /// A wake-up inside a process is lost.
    pub(crate) unheard: u64,
    /// A node takes a part of what is handed to it and asks for the rest again.
    pub(crate) put_off: u64,
}

/// A deliberate mistake. Each has to turn a run red, or the run would not notice the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The relay says `accepted` to some envelopes and keeps nothing.
    RelaySwallows,
    /// The relay does not write down what a node acknowledges.
    RelayIgnoresAnswers,
    /// The relay says that a mailbox is open that is not.
    RelayOpensNothing,
    /// Envelopes of one request arrive in the opposite order.
    RelayReverses,
    /// The relay leaves out of a call what would break it, and sends what stands behind that.
    RelaySkipsTrouble,
    /// The relay takes the answer to a part of what it handed over for the answer to all of it.
    RelayTakesPartForWhole,
    /// The relay gives out envelopes for longer than it said.
    RelayOutlivesItsWord,
    /// The relay never ends what has expired, nor what waits in closed mailboxes.
    RelayNeverSweeps,
    /// The relay says that a mailbox is closed that is not.
    RelayClosesNothing,
    /// The relay keeps an account that left.
    RelayKeepsWhoLeft,
    /// A node forgets which messages and envelopes it has stored.
    NodeForgetsWhatItSaw,
    /// A node answers `stored` before its commit, and then loses the commit.
    NodeAnswersFirst,
    /// A node loses receipts that are due.
    NodeLosesReceipts,
    /// A node calls a message delivered as soon as the relay has it.
    NodeClaimsDelivery,
    /// A node takes a status back.
    NodeFallsBack,
    /// A node shows a message twice.
    NodeShowsTwice,
    /// A node stores a message under its sender's words, altered.
    NodeAlters,
    /// A node waits for a receipt for ever.
    NodeNeverGivesUp,
    /// A node opens invites again that were used or revoked.
    NodeReopensInvites,
    /// A node does not tell that it said no.
    NodeSwallowsRejections,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 20] = [
        Self::RelaySwallows,
        Self::RelayIgnoresAnswers,
        Self::RelayOpensNothing,
        Self::RelayReverses,
        Self::RelaySkipsTrouble,
        Self::RelayTakesPartForWhole,
        Self::RelayOutlivesItsWord,
        Self::RelayNeverSweeps,
        Self::RelayClosesNothing,
        Self::RelayKeepsWhoLeft,
        Self::NodeForgetsWhatItSaw,
        Self::NodeAnswersFirst,
        Self::NodeLosesReceipts,
        Self::NodeClaimsDelivery,
        Self::NodeFallsBack,
        Self::NodeShowsTwice,
        Self::NodeAlters,
        Self::NodeNeverGivesUp,
        Self::NodeReopensInvites,
        Self::NodeSwallowsRejections,
    ];
}
