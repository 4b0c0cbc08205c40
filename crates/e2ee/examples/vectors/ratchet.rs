use crate::{NOW, Outcome, Party, conn_id, flipped, paired, rng, text};
use rand_chacha::ChaCha20Rng;
use sealpost_e2ee::prekeys::PrekeySecrets;
use sealpost_e2ee::sessions::{NotOpened, OpenContext, Sessions, Verdict};
use serde_json::{Value, json};

pub(crate) fn context<'a>(
    me: &'a Party,
    peer: &'a Party,
    bases: &'a [PrekeySecrets],
) -> OpenContext<'a> {
    OpenContext {
        me: &me.identity,
        peer: peer.identity.public(),
        conn_id: conn_id(me, peer),
        bases,
        now: NOW,
    }
}

pub(crate) fn open(me: &Party, peer: &Party, inner: &[u8]) -> Outcome<Sessions> {
    match me.sessions.open(&context(me, peer, &[]), inner) {
        Verdict::Opened(opened) => Ok(opened.sessions),
        Verdict::NotOpened(refused) => Err(refused.why.into()),
    }
}

pub(crate) fn vectors() -> Outcome<Value> {
    Ok(json!({
        "about": "docs/e2ee.md, Ratchet and Session serialisation. Each step opens inner bytes in the stored sessions that the steps before left; `sessions_after` is the state after the last. Bytes are base64url without padding.",
        "now": NOW.as_millis(),
        "stories": [in_order()?, out_of_order()?, both_ways()?, large_gap()?],
    }))
}

/// B's steps, in the making.
struct Story {
    name: &'static str,
    a: Party,
    b: Party,
    before: Vec<u8>,
    steps: Vec<Value>,
    rng: ChaCha20Rng,
}

impl Story {
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

    fn opens(&mut self, (inner, record): &(Vec<u8>, Vec<u8>)) -> Outcome<()> {
        self.b.sessions = open(&self.b, &self.a, inner)?;
        self.steps
            .push(json!({ "inner": text(inner), "record": text(record) }));
        Ok(())
    }

    fn refuses(&mut self, inner: &[u8], why: &str) -> Outcome<()> {
        match self.b.sessions.open(&context(&self.b, &self.a, &[]), inner) {
            Verdict::NotOpened(refused) if reason(refused.why) == why => {}
            _ => return Err(format!("not refused as {why}").into()),
        }
        self.steps.push(json!({ "inner": text(inner), "why": why }));
        Ok(())
    }

    /// B answers, so that A's next message begins a chain; B's state changes by sealing.
    fn turn(&mut self) -> Outcome<()> {
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

fn reason(why: NotOpened) -> &'static str {
    match why {
        NotOpened::Malformed => "malformed",
        NotOpened::UnknownSession => "unknown_session",
        NotOpened::RetiredSession => "retired_session",
        NotOpened::NoHeaderKey => "no_header_key",
        NotOpened::GapTooLarge => "gap_too_large",
        NotOpened::HeaderRefused => "header_refused",
        NotOpened::KeyEvicted => "key_evicted",
        NotOpened::Consumed { .. } => "consumed",
        NotOpened::BodyInvalid => "body_invalid",
        NotOpened::BaseNotHeld => "base_not_held",
        NotOpened::HandshakeInvalid => "handshake_invalid",
        NotOpened::OtherIdentity => "other_identity",
        NotOpened::LosesToOtherInit => "loses_to_other_init",
        NotOpened::EpochTooFarAhead => "epoch_too_far_ahead",
    }
}

fn in_order() -> Outcome<Value> {
    let mut story = Story::new("in order, each once, and nothing changed", 20)?;
    let first = story.seal("first")?;
    for (at, why) in [
        (0, "unknown_session"),
        (8, "malformed"),
        (9, "malformed"),
        (10, "no_header_key"),
        (34, "no_header_key"),
        (89, "no_header_key"),
        (90, "body_invalid"),
        (first.0.len() - 1, "body_invalid"),
    ] {
        story.refuses(&flipped(&first.0, at), why)?;
    }
    story.refuses(&first.0[..8 + 97], "malformed")?;
    story.refuses(&[], "malformed")?;
    story.opens(&first)?;
    story.refuses(&first.0, "consumed")?;
    let second = story.seal("second")?;
    story.opens(&second)?;
    Ok(story.finish())
}

fn out_of_order() -> Outcome<Value> {
    let mut story = Story::new("out of order, with one that never comes", 21)?;
    let sealed = (0..5)
        .map(|n| story.seal(&format!("message {n}")))
        .collect::<Outcome<Vec<_>>>()?;
    for at in [3, 0, 4, 1] {
        story.opens(&sealed[at])?;
    }
    story.refuses(&sealed[3].0, "consumed")?;
    Ok(story.finish())
}

fn both_ways() -> Outcome<Value> {
    let mut story = Story::new("three chains, the first one's late", 22)?;
    let (late, first) = (story.seal("late")?, story.seal("first chain")?);
    story.opens(&first)?;
    story.turn()?;
    let (later, second) = (story.seal("later")?, story.seal("second chain")?);
    story.opens(&second)?;
    story.turn()?;
    let third = story.seal("third chain")?;
    story.opens(&third)?;
    story.opens(&later)?;
    story.opens(&late)?;
    story.refuses(&first.0, "consumed")?;
    Ok(story.finish())
}

fn large_gap() -> Outcome<Value> {
    let mut story = Story::new("a gap of 1,001 and one of 1,000", 23)?;
    let sealed = (0..1_002)
        .map(|_| story.seal("x"))
        .collect::<Outcome<Vec<_>>>()?;
    story.refuses(&sealed[1_001].0, "gap_too_large")?;
    story.opens(&sealed[1_000])?;
    story.opens(&sealed[1_001])?;
    story.opens(&sealed[0])?;
    Ok(story.finish())
}
