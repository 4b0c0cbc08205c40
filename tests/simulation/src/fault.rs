//! Injected faults, which the system must tolerate, and mutants, which the model must detect.

use crate::{pace::Span, random::Random};

/// Probability of each fault, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FaultRates {
    /// A request or a response is lost.
    pub(crate) lost: u64,
    /// A request or a response arrives twice.
    pub(crate) duplicated: u64,
    /// A request or a response is delayed by minutes, so that later ones overtake it.
    pub(crate) delayed: u64,
    /// A process crashes just before or just after a commit.
    pub(crate) crashed: u64,
    /// A webhook responds to a call with 500.
    pub(crate) webhook_errors: u64,
    /// An envelope makes every call that carries it fail.
    pub(crate) poisoned: u64,
    /// A wake-up inside a process is lost.
    pub(crate) lost_wakes: u64,
    /// A node stores a part of a batch and defers the rest.
    pub(crate) deferred: u64,
}

impl FaultRates {
    /// Generates the rates of a run.
    pub(crate) fn generate(span: Span, random: &mut Random) -> Self {
        match span {
            Span::Hour => Self {
                lost: random.below(120),
                duplicated: random.below(80),
                delayed: random.below(60),
                crashed: random.below(40),
                webhook_errors: random.below(400).saturating_sub(200),
                poisoned: random.below(300).saturating_sub(50),
                lost_wakes: random.below(200),
                deferred: random.below(600),
            },
            // A poisoned envelope would stay so for the year.
            Span::Year => Self {
                lost: random.below(60),
                duplicated: random.below(40),
                delayed: random.below(30),
                crashed: random.below(15),
                webhook_errors: random.below(200).saturating_sub(100),
                poisoned: 0,
                lost_wakes: random.below(100),
                deferred: random.below(300),
            },
        }
    }
}

/// Deliberate defect that must make a run fail, so that the simulation is known to detect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The relay accepts some envelopes without storing them.
    RelayDropsEnvelopes,
    /// The relay does not record acknowledgements.
    RelayIgnoresAcknowledgements,
    /// The relay reports a mailbox as open without opening it.
    RelayOpensNoMailbox,
    /// The relay stores the envelopes of one request in reverse order.
    RelayReversesEnvelopes,
    /// The relay leaves poison envelopes out of a call and sends the later ones.
    RelaySkipsPoison,
    /// The relay treats the results for a part of a batch as results for all of it.
    RelayCompletesPartialResults,
    /// The relay delivers envelopes after their expiry.
    RelayExceedsExpiry,
    /// The relay never sweeps expired envelopes or closed mailboxes.
    RelayNeverSweeps,
    /// The relay reports a mailbox as closed without closing it.
    RelayClosesNoMailbox,
    /// The relay keeps a deleted account.
    RelayKeepsDeletedAccount,
    /// A node forgets which message and envelope ids it has stored.
    NodeForgetsSeenIds,
    /// A node responds `stored` before its commit, and then loses the commit.
    NodeAcknowledgesEarly,
    /// A node loses receipts that are due.
    NodeLosesReceipts,
    /// A node reports a message as delivered as soon as the relay has it.
    NodeReportsDeliveryEarly,
    /// A node reverts a delivery status.
    NodeRevertsStatus,
    /// A node stores a message twice.
    NodeDuplicatesMessage,
    /// A node stores altered message text.
    NodeAltersMessage,
    /// A node waits forever for a receipt.
    NodeNeverExpiresMessages,
    /// A node reopens used and revoked invites.
    NodeReopensInvites,
    /// A node does not send its rejections.
    NodeDropsRejections,
    /// A node does not send again what the relay has accepted when its session is replaced.
    NodeSendsNothingAgain,
    /// A node sends each receipt only once, whatever it is asked.
    NodeRepeatsNoReceipts,
    /// A node does not send again what its partner has received before and asks for.
    NodeIgnoresResume,
    /// A node submits each envelope at its own time after a refusal.
    NodeRetriesOutOfOrder,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 24] = [
        Self::RelayDropsEnvelopes,
        Self::RelayIgnoresAcknowledgements,
        Self::RelayOpensNoMailbox,
        Self::RelayReversesEnvelopes,
        Self::RelaySkipsPoison,
        Self::RelayCompletesPartialResults,
        Self::RelayExceedsExpiry,
        Self::RelayNeverSweeps,
        Self::RelayClosesNoMailbox,
        Self::RelayKeepsDeletedAccount,
        Self::NodeForgetsSeenIds,
        Self::NodeAcknowledgesEarly,
        Self::NodeLosesReceipts,
        Self::NodeReportsDeliveryEarly,
        Self::NodeRevertsStatus,
        Self::NodeDuplicatesMessage,
        Self::NodeAltersMessage,
        Self::NodeNeverExpiresMessages,
        Self::NodeReopensInvites,
        Self::NodeDropsRejections,
        Self::NodeSendsNothingAgain,
        Self::NodeRepeatsNoReceipts,
        Self::NodeIgnoresResume,
        Self::NodeRetriesOutOfOrder,
    ];

    /// Returns the span in which the defect has an effect.
    #[must_use]
    pub const fn span(self) -> Span {
        match self {
            Self::NodeSendsNothingAgain | Self::NodeRepeatsNoReceipts | Self::NodeIgnoresResume => {
                Span::Year
            }
            _ => Span::Hour,
        }
    }
}
