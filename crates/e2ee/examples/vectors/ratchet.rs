use crate::{NOW, Outcome, Party, conn_id, flipped, paired, rng, text};
use rand_chacha::ChaCha20Rng;
use sealpost_e2ee::prekeys::PrekeySecrets;
use sealpost_e2ee::sessions::{OpenContext, OpenOutcome, RejectReason, Sessions};
use serde_json::{Value, json};

pub(crate) fn context<'a>(
    me: &'a Party,
    peer: &'a Party,
    bundles: &'a [PrekeySecrets],
) -> OpenContext<'a> {
    OpenContext {
        identity: &me.identity,
        peer: peer.identity.public(),
        conn_id: conn_id(me, peer),
        bundles,
        now: NOW,
    }
}

pub(crate) fn open(me: &Party, peer: &Party, inner: &[u8]) -> Outcome<Sessions> {
    match me.sessions.open(&context(me, peer, &[]), inner) {
        OpenOutcome::Opened(opened) => Ok(opened.sessions),
        OpenOutcome::Rejected(refused) => Err(refused.reason.into()),
    }
}

pub(crate) fn vectors() -> Outcome<Value> {
    Ok(json!({
        "about": "docs/e2ee.md, Ratchet and Session serialisation. Each step opens inner bytes in \
                  the stored sessions that the steps before left; `sessions_after` is the state \
                  after the last. Bytes are base64url without padding.",
        "now": NOW.as_millis(),
        "stories": [in_order()?, out_of_order()?, both_ways()?, large_gap()?],
    }))
}

/// A sequence of steps at B.
struct Scenario {
    name: &'static str,
    a: Party,
    b: Party,
    before: Vec<u8>,
    steps: Vec<Value>,
    rng: ChaCha20Rng,
}

impl Scenario {
    fn new(name: &'static str, seed: u64) -> Outcome<Self> {
        let mut rng = rng(seed);
        let (a, b) = paired(&mut rng)?;
        let before = b.sessions.encode().to_vec();
        Ok(Self {
            name,
            a,
            b,
            before,
            steps: Vec::new(),
            rng,
        })
    }

    fn seal(&mut self, body: &str) -> Outcome<(Vec<u8>, Vec<u8>)> {
        self.a.seal(body, &mut self.rng)
    }

    fn expect_opened(&mut self, (inner, record): &(Vec<u8>, Vec<u8>)) -> Outcome<()> {
        self.b.sessions = open(&self.b, &self.a, inner)?;
        self.steps
            .push(json!({ "inner": text(inner), "record": text(record) }));
        Ok(())
    }

    fn expect_rejected(&mut self, inner: &[u8], reason: &str) -> Outcome<()> {
        match self.b.sessions.open(&context(&self.b, &self.a, &[]), inner) {
            OpenOutcome::Rejected(refused) if reason_name(refused.reason) == reason => {}
            _ => return Err(format!("not refused as {reason}").into()),
        }
        self.steps
            .push(json!({ "inner": text(inner), "why": reason }));
        Ok(())
    }

    /// B replies, so that A's next message starts a new chain. Records B's state, which sealing
    /// changes.
    fn reply(&mut self) -> Outcome<()> {
        let (inner, _) = self.b.seal("answer", &mut self.rng)?;
        self.a.sessions = open(&self.a, &self.b, &inner)?;
        self.steps
            .push(json!({ "sessions": text(self.b.sessions.encode().as_slice()) }));
        Ok(())
    }

    fn finish(self) -> Value {
        json!({
            "name": self.name,
            "sessions": text(self.before),
            "steps": self.steps,
            "sessions_after": text(self.b.sessions.encode().as_slice()),
        })
    }
}

fn reason_name(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Malformed => "malformed",
        RejectReason::UnknownSession => "unknown_session",
        RejectReason::RetiredSession => "retired_session",
        RejectReason::NoHeaderKey => "no_header_key",
        RejectReason::GapTooLarge => "gap_too_large",
        RejectReason::HeaderRefused => "header_refused",
        RejectReason::KeyEvicted => "key_evicted",
        RejectReason::Consumed { .. } => "consumed",
        RejectReason::BodyInvalid => "body_invalid",
        RejectReason::BundleUnknown => "base_not_held",
        RejectReason::HandshakeInvalid => "handshake_invalid",
        RejectReason::OtherIdentity => "other_identity",
        RejectReason::Superseded => "loses_to_other_init",
        RejectReason::EpochTooFarAhead => "epoch_too_far_ahead",
    }
}

fn in_order() -> Outcome<Value> {
    let mut scenario = Scenario::new("in order, each once, and nothing changed", 20)?;
    let first = scenario.seal("first")?;
    for (at, reason) in [
        (0, "unknown_session"),
        (8, "malformed"),
        (9, "malformed"),
        (10, "no_header_key"),
        (34, "no_header_key"),
        (89, "no_header_key"),
        (90, "body_invalid"),
        (first.0.len() - 1, "body_invalid"),
    ] {
        scenario.expect_rejected(&flipped(&first.0, at), reason)?;
    }
    scenario.expect_rejected(&first.0[..8 + 97], "malformed")?;
    scenario.expect_rejected(&[], "malformed")?;
    scenario.expect_opened(&first)?;
    scenario.expect_rejected(&first.0, "consumed")?;
    let second = scenario.seal("second")?;
    scenario.expect_opened(&second)?;
    Ok(scenario.finish())
}

fn out_of_order() -> Outcome<Value> {
    let mut scenario = Scenario::new("out of order, with one that never comes", 21)?;
    let sealed = (0..5)
        .map(|n| scenario.seal(&format!("message {n}")))
        .collect::<Outcome<Vec<_>>>()?;
    for at in [3, 0, 4, 1] {
        scenario.expect_opened(&sealed[at])?;
    }
    scenario.expect_rejected(&sealed[3].0, "consumed")?;
    Ok(scenario.finish())
}

fn both_ways() -> Outcome<Value> {
    let mut scenario = Scenario::new("three chains, the first one's late", 22)?;
    let (late, first) = (scenario.seal("late")?, scenario.seal("first chain")?);
    scenario.expect_opened(&first)?;
    scenario.reply()?;
    let (later, second) = (scenario.seal("later")?, scenario.seal("second chain")?);
    scenario.expect_opened(&second)?;
    scenario.reply()?;
    let third = scenario.seal("third chain")?;
    scenario.expect_opened(&third)?;
    scenario.expect_opened(&later)?;
    scenario.expect_opened(&late)?;
    scenario.expect_rejected(&first.0, "consumed")?;
    Ok(scenario.finish())
}

fn large_gap() -> Outcome<Value> {
    let mut scenario = Scenario::new("a gap of 1,001 and one of 1,000", 23)?;
    let sealed = (0..1_002)
        .map(|_| scenario.seal("x"))
        .collect::<Outcome<Vec<_>>>()?;
    scenario.expect_rejected(&sealed[1_001].0, "gap_too_large")?;
    scenario.expect_opened(&sealed[1_000])?;
    scenario.expect_opened(&sealed[1_001])?;
    scenario.expect_opened(&sealed[0])?;
    Ok(scenario.finish())
}
