//! What a node sends, frame by frame, made into what lapin can read.
//!
//! lapin 4.12 ends the connection over a frame that it cannot parse, and overflows its stack over
//! headers that nest deep. The broker takes such messages from anybody and delivers them again and
//! again. So each frame with text of a publisher is read here first: what lapin could not read is
//! left out, and a header tells so. lapin's own parser has no place for that, and its frames can
//! not be seen before it parses them.

mod properties;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

pub(super) use properties::{CUT, UNREAD};

/// Type, channel and size of a frame.
const FRAME_HEADER: usize = 7;

/// A frame's type.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// Ends each frame.
const END: u8 = 0xce;

/// A heartbeat.
pub(super) const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, END];

/// How much of a frame is kept to look at. A publisher's frame has 128 KiB at most, unless the
/// broker is set up otherwise or the publisher speaks AMQP 1.0; the broker adds some of its own.
const MOST_KEPT: usize = 256 * 1024;

/// What comes next of what a node sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// So many bytes as they are.
    Raw(usize),
    /// A frame in place of so many bytes.
    Made(usize, Vec<u8>),
    /// The beginning of a message, in place of so many bytes: its header's frame, and how many bytes
    /// of body follow.
    Message(usize, Vec<u8>, u64),
    /// So many bytes are left out.
    Skip(usize),
    /// More has to come first.
    Incomplete,
}

/// A message whose body is too large: it is passed on without it once that has gone by.
struct Cut {
    header: Vec<u8>,
    size: u64,
    left: u64,
    digest: Sha256,
}

/// Reads the frames of one connection.
pub(super) struct Scanner {
    /// The largest body that is passed on whole.
    most: u64,
    /// Bytes of the frame under way that are passed on, or left out.
    pass: usize,
    skip: usize,
    /// It is no AMQP any more.
    is_foreign: bool,
    /// By channel.
    cuts: BTreeMap<u16, Cut>,
}

impl Scanner {
    /// Bodies larger than `most` are cut.
    pub(super) const fn new(most: u64) -> Self {
        Self { most, pass: 0, skip: 0, is_foreign: false, cuts: BTreeMap::new() }
    }

    /// What comes next of these bytes, the first of which are those after the last part.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Part {
        if bytes.is_empty() {
            return Part::Incomplete;
        }
        if self.is_foreign {
            return Part::Raw(bytes.len());
        }
        for (left, is_passed) in [(&mut self.pass, true), (&mut self.skip, false)] {
            if *left > 0 {
                let count = bytes.len().min(*left);
                *left -= count;
                return if is_passed { Part::Raw(count) } else { Part::Skip(count) };
            }
        }
        let Some(&[kind, high, low, ref size @ ..]) = bytes.first_chunk::<FRAME_HEADER>() else {
            // A node that speaks another version answers with eight bytes: AMQP, and its version.
            self.is_foreign = bytes.first() == Some(&b'A');
            return if self.is_foreign { Part::Raw(bytes.len()) } else { Part::Incomplete };
        };
        if kind == b'A' {
            self.is_foreign = true;
            return Part::Raw(bytes.len());
        }
        let channel = u16::from_be_bytes([high, low]);
        let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        let whole = size.saturating_add(FRAME_HEADER + 1);
        match kind {
            METHOD | HEADER => self.text(kind, channel, whole, bytes),
            BODY if self.cuts.contains_key(&channel) => self.cut(channel, whole, bytes),
            _ => {
                self.pass = whole;
                self.next(bytes)
            }
        }
    }

    /// A frame that may hold text of a publisher.
    fn text(&mut self, kind: u8, channel: u16, whole: usize, bytes: &[u8]) -> Part {
        let kept = whole.min(MOST_KEPT);
        let Some(frame) = bytes.get(..kept) else { return Part::Incomplete };
        let payload = if whole <= MOST_KEPT {
            frame.get(FRAME_HEADER..kept - 1)
        } else {
            frame.get(FRAME_HEADER..)
        };
        let payload = payload.unwrap_or_default();
        if kind == METHOD && whole > MOST_KEPT {
            self.pass = whole;
            return self.next(bytes);
        }
        self.skip = whole - kept;
        if kind == METHOD {
            return match readable_method(payload) {
                None => Part::Raw(kept),
                Some(made) => Part::Made(kept, frame_of(METHOD, channel, &made)),
            };
        }
        let size = properties::body_size(payload);
        if size > self.most {
            let (header, left, digest) = (payload.to_vec(), size, Sha256::new());
            self.cuts.insert(channel, Cut { header, size, left, digest });
            return Part::Skip(kept);
        }
        let made = properties::readable(payload, whole - FRAME_HEADER - 1);
        let made = made.unwrap_or_else(|| payload.to_vec());
        Part::Message(kept, frame_of(HEADER, channel, &made), size)
    }

    /// A frame of a body that is cut; with the last one the message is passed on.
    fn cut(&mut self, channel: u16, whole: usize, bytes: &[u8]) -> Part {
        // Frames of a body are no larger than what was agreed on.
        let (Some(frame), Some(cut)) = (bytes.get(..whole), self.cuts.get_mut(&channel)) else {
            return Part::Incomplete;
        };
        let payload = frame.get(FRAME_HEADER..whole - 1).unwrap_or_default();
        cut.digest.update(payload);
        cut.left = cut.left.saturating_sub(payload.len() as u64);
        if cut.left > 0 {
            return Part::Skip(whole);
        }
        let Some(cut) = self.cuts.remove(&channel) else { return Part::Skip(whole) };
        let digest = cut.digest.finalize();
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = format!("{} bytes, SHA-256 {digest}", cut.size);
        let why = format!("the body has {} bytes, at most {} are taken", cut.size, self.most);
        let header = properties::without_body(&cut.header, &why, body.len() as u64);
        let mut made = frame_of(HEADER, channel, &header);
        made.extend(frame_of(BODY, channel, body.as_bytes()));
        Part::Message(whole, made, body.len() as u64)
    }
}

fn frame_of(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + FRAME_HEADER + 1);
    frame.push(kind);
    frame.extend(channel.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

/// A method whose text is not UTF-8, such as a routing key, with question marks in place of those
/// bytes; `None` where it can be read as it is.
fn readable_method(payload: &[u8]) -> Option<Vec<u8>> {
    /// Bytes before a short string.
    type Gaps = &'static [usize];
    let gaps: Gaps = match payload.first_chunk::<4>()? {
        // basic.deliver: consumer tag; delivery tag and redelivered, exchange; routing key
        [0, 60, 0, 60] => &[0, 9, 0],
        // basic.return: code, text; exchange; routing key
        [0, 60, 0, 50] => &[2, 0, 0],
        // basic.get-ok: delivery tag and redelivered, exchange; routing key
        [0, 60, 0, 71] => &[9, 0],
        // connection.close and channel.close: code, text
        [0, 10, 0, 50] | [0, 20, 0, 40] => &[2],
        _ => return None,
    };
    let (mut at, mut made) = (4, None);
    for gap in gaps {
        let start = at + gap + 1;
        let end = start + usize::from(*payload.get(start - 1)?);
        let text = payload.get(start..end)?;
        if std::str::from_utf8(text).is_err() {
            let made = made.get_or_insert_with(|| payload.to_vec());
            let not_ascii = made.get_mut(start..end)?.iter_mut().filter(|byte| !byte.is_ascii());
            not_ascii.for_each(|byte| *byte = b'?');
        }
        at = end;
    }
    made
}

#[cfg(test)]
mod tests;
