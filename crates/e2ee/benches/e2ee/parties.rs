//! Two nodes with a connection.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_e2ee::envelope::{EnvelopeDirection, OuterKey, open_envelope, seal_envelope};
use sealpost_e2ee::keys::{ConnId, ExporterSecret, Identity, Incarnation};
use sealpost_e2ee::plaintext::{Kind, Plaintext};
use sealpost_e2ee::prekeys::{BundleParameters, PrekeyBundle, PrekeySecrets, Scope};
use sealpost_e2ee::sessions::{InitReason, InitiateArgs, OpenContext, OpenOutcome, Sessions};
use sealpost_proto::limits::PREKEYS_LIFETIME;
use sealpost_proto::{MailboxId, MessageId, Timestamp};
use std::hint::black_box;
use std::rc::Rc;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MAILBOX: MailboxId = MailboxId::from_bytes([3; 16]);
const CONNECTION: ConnId = ConnId::from_bytes([4; 32]);

/// Two parties: A sends, B receives.
#[derive(Clone)]
pub(crate) struct Parties {
    a: Rc<Identity>,
    b: Rc<Identity>,
    from_a: Sessions,
    to_b: Sessions,
    bundle: Vec<u8>,
    secrets: Vec<PrekeySecrets>,
    outer: OuterKey,
    plaintext: Plaintext,
    rng: ChaCha20Rng,
}

impl Parties {
    pub(crate) fn paired() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (a, b) = (
            Rc::new(Identity::generate(&mut rng)),
            Rc::new(Identity::generate(&mut rng)),
        );
        let parameters = BundleParameters {
            scope: Scope::connection(&CONNECTION),
            incarnation: Incarnation::from_bytes([5; 8]),
            epoch: NOW.as_millis(),
            spk_id: 1,
            now: NOW,
            lifetime: PREKEYS_LIFETIME,
        };
        let (secrets, bundle) = PrekeySecrets::generate(&b, &parameters, &mut rng);
        let outer = OuterKey::for_mailbox(
            &ExporterSecret::from_bytes([6; 32]),
            EnvelopeDirection::InviteeToInviter,
        );
        let plaintext = Plaintext {
            kind: Kind::MESSAGE,
            message_id: MessageId::from_bytes([7; 16]),
            incarnation: Incarnation::from_bytes([5; 8]),
            seq: 1,
            sent_at: NOW,
            body: vec![8; 1_500],
        };
        let (from_a, to_b, secrets) = (Sessions::new(), Sessions::new(), vec![secrets]);
        let mut parties = Self {
            a,
            b,
            from_a,
            to_b,
            bundle,
            secrets,
            outer,
            plaintext,
            rng,
        };
        parties.exchange();
        parties
    }

    /// Exchanges an INIT, a reply and a message without prefix, so that both sides are confirmed.
    fn exchange(&mut self) {
        self.from_a = self.initiate();
        let init = self
            .from_a
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session");
        self.to_b = open(&self.to_b, &self.b, &self.a, &self.secrets, &init);
        let answer = self
            .to_b
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session");
        self.from_a = open(&self.from_a, &self.a, &self.b, &[], &answer);
        let confirmation = self
            .from_a
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session");
        self.to_b = open(&self.to_b, &self.b, &self.a, &self.secrets, &confirmation);
    }

    fn initiate(&mut self) -> Sessions {
        let scope = Scope::connection(&CONNECTION);
        let bundle =
            PrekeyBundle::parse_verified(&self.bundle, self.b.public(), &scope).expect("a bundle");
        let mut sessions = Sessions::new();
        let args = InitiateArgs {
            identity: &self.a,
            peer: self.b.public(),
            conn_id: CONNECTION,
            bundle: &bundle,
            reason: InitReason::Rotate,
            incarnation: Incarnation::from_bytes([5; 8]),
            resume: None,
            sealed_card: None,
            now: NOW,
        };
        sessions.initiate(&args, &mut self.rng).expect("sound keys");
        sessions
    }

    pub(crate) fn seal(&mut self) -> Vec<u8> {
        let inner = self
            .from_a
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session");
        seal_envelope(&self.outer, &MAILBOX, &inner, &mut self.rng).expect("small")
    }

    pub(crate) fn open(&self, envelope: &[u8]) {
        let inner = open_envelope(&self.outer, &MAILBOX, envelope).expect("sealed above");
        drop(black_box(open(
            &self.to_b,
            &self.b,
            &self.a,
            &self.secrets,
            &inner,
        )));
    }

    /// Seals a message at B that gives A a new ratchet key.
    pub(crate) fn seal_with_new_ratchet_key(&mut self) -> Vec<u8> {
        self.to_b
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session")
    }

    pub(crate) fn open_and_reply(&mut self, inner: &[u8]) {
        let mut sessions = open(&self.from_a, &self.a, &self.b, &[], inner);
        drop(black_box(
            sessions
                .seal(&self.plaintext, NOW, &mut self.rng)
                .expect("a session"),
        ));
    }

    pub(crate) fn establish_session(&mut self) {
        let mut sessions = self.initiate();
        let init = sessions
            .seal(&self.plaintext, NOW, &mut self.rng)
            .expect("a session");
        drop(black_box(open(
            &Sessions::new(),
            &self.b,
            &self.a,
            &self.secrets,
            &init,
        )));
    }
}

fn open(
    sessions: &Sessions,
    identity: &Identity,
    peer: &Identity,
    bundles: &[PrekeySecrets],
    inner: &[u8],
) -> Sessions {
    let context = OpenContext {
        identity,
        peer: peer.public(),
        conn_id: CONNECTION,
        bundles,
        now: NOW,
    };
    match sessions.open(&context, inner) {
        OpenOutcome::Opened(opened) => opened.sessions,
        OpenOutcome::Rejected(refused) => panic!("{}", refused.reason),
    }
}
