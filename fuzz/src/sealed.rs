//! Sealed payloads, opened as the engine and the client open them.

use crate::fixtures::{Counter, Numbers, altered};
use decores_keys::XWingKey;
use decores_keys::payload::{
    CHUNK_BYTES, Head, PayloadKind, SectionKey, SectionKind, StreamOpener, StreamSealer, TAG_BYTES, expect_end,
    seal_job, seal_single, sealed_len,
};
use decores_secrets::Secret;
use decores_types::{CommitmentKey, Digest};
use std::io::{Cursor, Read, Write};
use std::sync::OnceLock;

/// Most plaintext of an input: three chunks and a little.
const MOST: usize = 3 * CHUNK_BYTES + 100;

struct Recipient {
    key: XWingKey,
    binding: Digest,
}

impl Recipient {
    fn get() -> &'static Self {
        static RECIPIENT: OnceLock<Recipient> = OnceLock::new();
        RECIPIENT.get_or_init(|| Self {
            key: XWingKey::from_seed(Secret::from_slice(&[0x11; 32]).unwrap(), 7).unwrap(),
            binding: Digest::of(b"binding"),
        })
    }

    /// Opens a whole payload; the plaintexts of its sections.
    fn open(&self, payload: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut reader = Cursor::new(payload);
        let head = Head::read(&mut reader).ok()?;
        let (header, bytes) = (head.header().to_bytes(), head.as_bytes());
        assert!(payload.starts_with(bytes) && bytes.starts_with(&header) && bytes.len() <= Head::MAX_BYTES);
        let keys = match head.header().kind {
            PayloadKind::Job => {
                let keys = head.open_job(&self.key, &self.binding).ok()?;
                assert!(head.open_single(SectionKind::Output, &self.key, &self.binding).is_err());
                vec![keys.program, keys.input]
            }
            PayloadKind::Output => vec![head.open_single(SectionKind::Output, &self.key, &self.binding).ok()?],
            PayloadKind::Logs => vec![head.open_single(SectionKind::Logs, &self.key, &self.binding).ok()?],
        };
        let mut plain = Vec::new();
        for (key, section) in keys.iter().zip(&head.header().sections) {
            let mut opener = StreamOpener::new(key, section.length, &mut reader).unwrap();
            let mut bytes = Vec::new();
            opener.read_to_end(&mut bytes).ok()?;
            opener.finish().expect("what was read to its end is complete");
            assert!(section.length.is_none_or(|length| length == bytes.len() as u64));
            plain.push(bytes);
        }
        expect_end(&mut reader).ok()?;
        Some(plain)
    }

    /// A job with these sections; the input's length is announced or not.
    fn job(&self, program: &[u8], input: &[u8], announced: bool) -> Vec<u8> {
        let (length, commitment) = (announced.then_some(input.len() as u64), CommitmentKey::from_bytes([3; 32]));
        let recipient = self.key.recipient();
        let sealed =
            seal_job(recipient, &self.binding, program.len() as u64, length, &commitment, &Counter::default()).unwrap();
        let mut out = sealed.head;
        append(&mut out, &sealed.program, Some(program.len() as u64), program);
        append(&mut out, &sealed.input, length, input);
        out
    }

    fn single(&self, kind: SectionKind, plain: &[u8], announced: bool) -> Vec<u8> {
        let length = announced.then_some(plain.len() as u64);
        let sealed = seal_single(kind, self.key.recipient(), length, &self.binding, &Counter::default()).unwrap();
        let mut out = sealed.head;
        append(&mut out, &sealed.key, length, plain);
        out
    }
}

fn append(out: &mut Vec<u8>, key: &SectionKey, length: Option<u64>, plain: &[u8]) {
    let start = out.len();
    let mut sealer = StreamSealer::new(key, length, &mut *out).unwrap();
    // In uneven pieces, as they come from a file or a pipe.
    for piece in plain.chunks(40_009) {
        sealer.write_all(piece).unwrap();
    }
    sealer.finish().unwrap();
    assert_eq!((out.len() - start) as u64, sealed_len(plain.len() as u64));
}

/// Good payloads: small ones of every kind, and one whose input takes two chunks.
pub(crate) fn vectors() -> &'static [Vec<u8>] {
    static VECTORS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    VECTORS.get_or_init(|| {
        let r = Recipient::get();
        vec![
            r.job(b"\0asm", b"input", true),
            r.job(b"", b"", true),
            r.job(b"\0asm", b"input", false),
            r.single(SectionKind::Output, b"output", true),
            r.single(SectionKind::Logs, b"", false),
            r.single(SectionKind::Logs, &[7; CHUNK_BYTES + 1], false),
        ]
    })
}

/// First byte `0`: a good payload, altered. `1`: a plaintext, sealed here. Else a payload as it came.
pub(crate) fn sealed_payload(data: &[u8]) {
    let recipient = Recipient::get();
    match data.split_first() {
        Some((0, how)) => {
            let mut how = Numbers(how);
            let vectors = vectors();
            let good = &vectors[usize::from(how.byte()) % vectors.len()];
            let payload = altered(good, &mut how);
            assert_eq!(recipient.open(&payload).is_some(), payload == *good, "whatever is altered is refused");
        }
        Some((1, what)) => sealed_here(recipient, Numbers(what)),
        _ => {
            if recipient.open(data).is_some() {
                assert!(vectors().iter().any(|good| good == data), "nobody sealed this");
            }
        }
    }
}

fn sealed_here(recipient: &Recipient, mut what: Numbers<'_>) {
    let (shape, times) = (what.byte(), what.short() + 1);
    let plain: Vec<u8> = what.0.iter().copied().cycle().take((what.0.len() * times).min(MOST)).collect();
    let announced = shape & 4 == 0;
    let (payload, wanted) = match shape & 3 {
        0 => {
            let (program, input) = plain.split_at(plain.len() * usize::from(shape >> 3) / 32);
            (recipient.job(program, input, announced), vec![program.to_vec(), input.to_vec()])
        }
        1 => (recipient.single(SectionKind::Output, &plain, announced), vec![plain]),
        _ => (recipient.single(SectionKind::Logs, &plain, announced), vec![plain]),
    };
    assert!(recipient.open(&payload) == Some(wanted), "what was sealed opens as it was");
    let (_, cut) = payload.split_last().unwrap();
    assert!(recipient.open(cut).is_none(), "cut by its last byte");
    assert!(recipient.open(&payload[..payload.len() - TAG_BYTES]).is_none(), "cut by a tag");
}
