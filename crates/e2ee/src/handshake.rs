//! PQXDH: how a session begins. Symbols are those of `docs/e2ee.md#handshake`: A sends the INIT, B owns the base.

use crate::card::SignedCard;
use crate::keys::{ConnId, Fingerprint, Identity, Incarnation, PeerIdentity, SessionId};
use crate::payload::Resume;
use crate::prekeys::{BaseRef, PrekeySecrets};
use crate::primitive::{
    Key, TAG_BYTES, ZERO_NONCE, ZERO_SALT, agree, hash, hmac, kdf, kdf_key, label, open,
    random_secret, seal,
};
use crate::record::{Malformed, Reader, len_u32, push_lp};
use crate::sessions::{InitiateArgs, InitiateError, Reason};
use ml_kem::kem::{Decapsulate as _, Encapsulate as _};
use rand_core::CryptoRng;
use sealpost_proto::limits::RESUME_BYTES_MAX;
use subtle::ConstantTimeEq as _;
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

/// `01 01`: version and frame type of an INIT.
const INIT_FRAME: [u8; 2] = [1, 1];
const SUITE: u16 = 1;
const FLAGS: u8 = 0;
/// An ML-KEM-768 ciphertext.
const CT_BYTES: usize = 1_088;
/// `AD`: two keys with a type byte each, and TH.
pub(crate) const AD_BYTES: usize = 33 + 33 + 32;

/// A session that both sides remember beyond its end, to prove continuity with it.
#[derive(Clone)]
pub(crate) struct Previous {
    pub(crate) id: SessionId,
    pub(crate) exp: Key,
}

/// What both sides hold when the handshake is done.
pub(crate) struct Agreed {
    pub(crate) root: Key,
    /// HKA: the header key of A's first chain.
    pub(crate) header_a: Key,
    /// NHKB: the header key of B's first chain.
    pub(crate) header_b: Key,
    pub(crate) exp: Key,
    pub(crate) ad: [u8; AD_BYTES],
    pub(crate) session_id: SessionId,
    transcript: [u8; 32],
}

/// What is hashed into TH.
struct Transcript<'a> {
    conn_id: &'a ConnId,
    initiator: &'a PeerIdentity,
    responder: &'a PeerIdentity,
    session_epoch: u64,
    ek: &'a [u8; 32],
    base: &'a [u8],
    ct: &'a [u8; CT_BYTES],
}

/// DH1, DH2, DH3 and SS.
struct Secrets<'a> {
    dh1: &'a Key,
    dh2: &'a Key,
    dh3: &'a Key,
    ss: &'a Key,
}

impl Agreed {
    fn derive(secrets: &Secrets<'_>, transcript: &Transcript<'_>) -> Self {
        let mut ikm = Zeroizing::new([0xff; 32 * 5]);
        for (part, secret) in ikm.chunks_exact_mut(32).skip(1).zip([
            secrets.dh1,
            secrets.dh2,
            secrets.dh3,
            secrets.ss,
        ]) {
            part.copy_from_slice(&secret.0);
        }
        let okm = kdf::<128>(
            &ZERO_SALT,
            ikm.as_ref(),
            &[b"Sealpost-1_CURVE25519_SHA-256_ML-KEM-768"],
        );
        let th = transcript.hash();
        let part = |at: usize| Key(std::array::from_fn(|i| okm[32 * at + i]));
        let id = hash(&[label!("sid"), &th]);
        Self {
            root: part(0),
            header_a: part(1),
            header_b: part(2),
            exp: part(3),
            ad: transcript.associated(&th),
            session_id: SessionId(std::array::from_fn(|i| id[i])),
            transcript: th,
        }
    }

    /// Keys that no handshake made.
    #[cfg(test)]
    pub(crate) fn for_tests(okm: [[u8; 32]; 4], session_id: SessionId) -> Self {
        let [root, header_a, header_b, exp] = okm.map(Key);
        Self {
            root,
            header_a,
            header_b,
            exp,
            ad: [5; AD_BYTES],
            session_id,
            transcript: [0; 32],
        }
    }

    /// The key of `hello`.
    fn hello_key(&self) -> Key {
        kdf_key(&self.exp.0, &[label!("hello")])
    }

    /// The tag that proves that its maker holds the EXP of an earlier session.
    fn continuity_tag(&self, previous: &Key) -> [u8; 32] {
        hmac(&kdf_key(&previous.0, &[label!("cont")]), &self.transcript)
    }
}

impl Transcript<'_> {
    fn hash(&self) -> [u8; 32] {
        hash(&[
            label!("th"),
            &SUITE.to_be_bytes(),
            self.conn_id.as_bytes(),
            self.initiator.fingerprint().as_bytes(),
            self.responder.fingerprint().as_bytes(),
            &self.session_epoch.to_be_bytes(),
            self.ek,
            &len_u32(self.base.len()).to_be_bytes(),
            self.base,
            self.ct,
        ])
    }

    /// `05 || IK_xA || 05 || IK_xB || TH`.
    fn associated(&self, th: &[u8; 32]) -> [u8; AD_BYTES] {
        let mut ad = [5; AD_BYTES];
        ad[1..33].copy_from_slice(self.initiator.ik_x());
        ad[34..66].copy_from_slice(self.responder.ik_x());
        ad[66..].copy_from_slice(th);
        ad
    }
}

/// The key of `sealed`, which is needed before A is known.
fn static_key(dh3: &Key, ss: &Key) -> Key {
    let mut ikm = Zeroizing::new([0; 64]);
    ikm[..32].copy_from_slice(&dh3.0);
    ikm[32..].copy_from_slice(&ss.0);
    kdf_key(ikm.as_ref(), &[label!("static")])
}

/// What `hello` says.
pub(crate) struct Hello {
    pub(crate) incarnation: Incarnation,
    pub(crate) reason: Reason,
    pub(crate) resume: Option<Resume>,
    previous: [u8; 16],
    tag: [u8; 32],
}

impl Hello {
    fn encode(
        args: &InitiateArgs<'_>,
        previous: Option<&Previous>,
        agreed: &Agreed,
    ) -> Result<Vec<u8>, InitiateError> {
        let resume = args.resume.map(Resume::encode).unwrap_or_default();
        if resume.len() > RESUME_BYTES_MAX {
            return Err(InitiateError::ResumeTooLarge);
        }
        let mut hello = args.incarnation.as_bytes().to_vec();
        hello.push(args.reason.byte());
        push_lp(&mut hello, &resume);
        hello.extend_from_slice(&previous.map_or([0; 16], |previous| previous.id.0));
        hello.extend_from_slice(
            &previous.map_or([0; 32], |previous| agreed.continuity_tag(&previous.exp)),
        );
        Ok(hello)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let incarnation = Incarnation::from_bytes(reader.array()?);
        let reason = Reason::parse(reader.u8()?)?;
        let resume = reader.lp()?;
        let hello = Self {
            incarnation,
            reason,
            resume: Resume::parse(resume).ok(),
            previous: reader.array()?,
            tag: reader.array()?,
        };
        reader.end()?;
        Ok(hello)
    }

    /// Whether it claims nothing about an earlier session.
    pub(crate) fn has_no_previous(&self) -> bool {
        self.previous == [0; 16] && self.tag == [0; 32]
    }

    /// Whether its tag was made with the EXP of one of these sessions.
    pub(crate) fn proves<'p>(
        &self,
        agreed: &Agreed,
        candidates: impl IntoIterator<Item = &'p Previous>,
    ) -> bool {
        let mut named = candidates
            .into_iter()
            .filter(|candidate| candidate.id.0 == self.previous);
        named.any(|candidate| {
            agreed
                .continuity_tag(&candidate.exp)
                .ct_eq(&self.tag)
                .into()
        })
    }
}

impl Reason {
    const fn byte(self) -> u8 {
        match self {
            Self::Pairing => 0,
            Self::Restore => 1,
            Self::Desync => 2,
            Self::Rotate => 3,
        }
    }

    const fn parse(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0 => Ok(Self::Pairing),
            1 => Ok(Self::Restore),
            2 => Ok(Self::Desync),
            3 => Ok(Self::Rotate),
            _ => Err(Malformed),
        }
    }
}

/// A's side: the prefix, made once, and what was agreed.
pub(crate) struct Begun {
    pub(crate) prefix: Vec<u8>,
    pub(crate) agreed: Agreed,
}

/// Begins a session as A.
pub(crate) fn begin(
    args: &InitiateArgs<'_>,
    session_epoch: u64,
    previous: Option<&Previous>,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Begun, InitiateError> {
    let ephemeral = random_secret(rng);
    let ek = PublicKey::from(&ephemeral).to_bytes();
    let (ct, ss) = args.base.pqspk().encapsulate_with_rng(rng);
    let (ct, ss) = (<[u8; CT_BYTES]>::from(ct), Key(ss.into()));
    let weak = InitiateError::WeakKey;
    let dh1 = agree(args.me.agreement(), args.base.spk()).ok_or(weak)?;
    let dh2 = agree(&ephemeral, args.peer.ik_x()).ok_or(weak)?;
    let dh3 = agree(&ephemeral, args.base.spk()).ok_or(weak)?;
    let transcript = Transcript {
        conn_id: &args.conn_id,
        initiator: args.me.public(),
        responder: args.peer,
        session_epoch,
        ek: &ek,
        base: args.base.as_bytes(),
        ct: &ct,
    };
    let agreed = Agreed::derive(
        &Secrets {
            dh1: &dh1,
            dh2: &dh2,
            dh3: &dh3,
            ss: &ss,
        },
        &transcript,
    );
    let mut prefix = fixed_prefix(args, session_epoch, &ek, &ct);
    match args.sealed_card {
        Some(card) => push_sealed(&mut prefix, &static_key(&dh3, &ss), card.as_bytes()),
        None => push_lp(&mut prefix, b""),
    }
    push_sealed(
        &mut prefix,
        &agreed.hello_key(),
        &Hello::encode(args, previous, &agreed)?,
    );
    Ok(Begun { prefix, agreed })
}

/// Everything before `sealed`.
fn fixed_prefix(
    args: &InitiateArgs<'_>,
    session_epoch: u64,
    ek: &[u8; 32],
    ct: &[u8; CT_BYTES],
) -> Vec<u8> {
    let base = args.base.base_ref();
    let initiator = if args.sealed_card.is_some() {
        [0; 8]
    } else {
        args.me.fingerprint().short()
    };
    let mut prefix = Vec::with_capacity(1_600);
    prefix.extend_from_slice(&INIT_FRAME);
    prefix.extend_from_slice(&SUITE.to_be_bytes());
    prefix.push(FLAGS);
    prefix.extend_from_slice(ek);
    prefix.extend_from_slice(&session_epoch.to_be_bytes());
    prefix.extend_from_slice(&base.epoch.to_be_bytes());
    prefix.extend_from_slice(&base.spk_id.to_be_bytes());
    prefix.extend_from_slice(&initiator);
    prefix.extend_from_slice(&args.peer.fingerprint().short());
    prefix.extend_from_slice(ct);
    prefix
}

/// Appends `LP(X(key, 0^24, plaintext, all preceding bytes))`, the length being one of those bytes.
fn push_sealed(prefix: &mut Vec<u8>, key: &Key, plaintext: &[u8]) {
    prefix.extend_from_slice(&len_u32(plaintext.len() + TAG_BYTES).to_be_bytes());
    let sealed = seal(key, &ZERO_NONCE, plaintext, prefix);
    prefix.extend_from_slice(&sealed);
}

/// The prefix of an INIT as it came; nothing in it is authentic yet.
pub(crate) struct Prefix<'a> {
    raw: &'a [u8],
    ek: [u8; 32],
    session_epoch: u64,
    base: BaseRef,
    initiator: [u8; 8],
    responder: [u8; 8],
    ct: &'a [u8; CT_BYTES],
    sealed: SealedField<'a>,
    hello: SealedField<'a>,
}

/// A sealed field with all bytes before it, which are its associated data.
struct SealedField<'a> {
    before: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> SealedField<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = reader.lp_len()?;
        Ok(Self {
            before: reader.consumed(),
            sealed: reader.take(len)?,
        })
    }

    fn open(&self, key: &Key) -> Option<Zeroizing<Vec<u8>>> {
        open(key, &ZERO_NONCE, self.sealed, self.before)
    }
}

impl<'a> Prefix<'a> {
    /// Splits an INIT into its prefix and the MSG behind it.
    pub(crate) fn parse(init: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let mut reader = Reader::new(init);
        let head = (reader.array()?, reader.u16()?, reader.u8()?);
        if head != (INIT_FRAME, SUITE, FLAGS) {
            return Err(Malformed);
        }
        let ek = reader.array()?;
        let session_epoch = reader.u64()?;
        let base = BaseRef {
            epoch: reader.u64()?,
            spk_id: reader.u32()?,
        };
        let (initiator, responder) = (reader.array()?, reader.array()?);
        let ct = reader.take(CT_BYTES)?.try_into().map_err(|_| Malformed)?;
        let (sealed, hello) = (
            SealedField::read(&mut reader)?,
            SealedField::read(&mut reader)?,
        );
        let raw = reader.consumed();
        Ok((
            Self {
                raw,
                ek,
                session_epoch,
                base,
                initiator,
                responder,
                ct,
                sealed,
                hello,
            },
            reader.rest(),
        ))
    }

    /// `H(prefix)`.
    pub(crate) fn hash(&self) -> [u8; 32] {
        hash(&[self.raw])
    }

    pub(crate) const fn session_epoch(&self) -> u64 {
        self.session_epoch
    }

    pub(crate) const fn base(&self) -> BaseRef {
        self.base
    }

    /// Whether it names us, and either the peer or, with a sealed card, nobody.
    pub(crate) fn names(&self, me: &Fingerprint, peer: Option<&Fingerprint>) -> bool {
        let expected = if self.has_card() {
            Some([0; 8])
        } else {
            peer.map(Fingerprint::short)
        };
        self.responder == me.short() && expected == Some(self.initiator)
    }

    pub(crate) const fn has_card(&self) -> bool {
        !self.sealed.sealed.is_empty()
    }
}

/// B's side before A is known: DH3 and SS.
pub(crate) struct Answering<'a> {
    prefix: &'a Prefix<'a>,
    me: &'a Identity,
    secrets: &'a PrekeySecrets,
    dh3: Key,
    ss: Key,
}

impl<'a> Answering<'a> {
    /// Begins to answer; `None` when EK_A is of low order.
    pub(crate) fn new(
        prefix: &'a Prefix<'a>,
        me: &'a Identity,
        secrets: &'a PrekeySecrets,
    ) -> Option<Self> {
        let dh3 = agree(secrets.spk(), &prefix.ek)?;
        let ss = Key(secrets.pq().decapsulate(&(*prefix.ct).into()).into());
        Some(Self {
            prefix,
            me,
            secrets,
            dh3,
            ss,
        })
    }

    /// The card in `sealed`; `None` when it does not open or hold.
    pub(crate) fn card(&self) -> Option<SignedCard> {
        let bytes = self.prefix.sealed.open(&static_key(&self.dh3, &self.ss))?;
        SignedCard::parse_verified(&bytes).ok()
    }

    /// Agrees with A and opens `hello`; `None` when either fails.
    pub(crate) fn finish(&self, peer: &PeerIdentity, conn_id: &ConnId) -> Option<(Agreed, Hello)> {
        let dh1 = agree(self.secrets.spk(), peer.ik_x())?;
        let dh2 = agree(self.me.agreement(), &self.prefix.ek)?;
        let transcript = Transcript {
            conn_id,
            initiator: peer,
            responder: self.me.public(),
            session_epoch: self.prefix.session_epoch,
            ek: &self.prefix.ek,
            base: self.secrets.base(),
            ct: self.prefix.ct,
        };
        let secrets = Secrets {
            dh1: &dh1,
            dh2: &dh2,
            dh3: &self.dh3,
            ss: &self.ss,
        };
        let agreed = Agreed::derive(&secrets, &transcript);
        let hello = self.prefix.hello.open(&agreed.hello_key())?;
        Some((agreed, Hello::parse(&hello).ok()?))
    }
}
