use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use proptest::prelude::*;

use super::*;

/// A content header with these flags and these bytes behind them.
fn header(flags: u16, rest: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &flags.to_be_bytes(), rest].concat()
}

/// What lapin reads of the properties, if it can.
fn read(payload: &[u8]) -> Option<BasicProperties> {
    let (rest, properties) = parse_properties(payload.get(12..)?).ok()?;
    rest.is_empty().then_some(properties)
}

/// What lapin reads of what the scanner makes of a header.
fn passed(payload: &[u8]) -> BasicProperties {
    let made = properties::readable(payload, payload.len());
    let made = made.unwrap_or_else(|| payload.to_vec());
    assert!(made.len() < 14 * 1024, "{} bytes", made.len());
    read(&made).expect("lapin can read it")
}

fn header_of(properties: &BasicProperties, name: &str) -> Option<String> {
    let value = properties.headers().as_ref()?.inner().get(name)?;
    value.as_long_string().map(ToString::to_string)
}

fn table(entries: &[u8]) -> Vec<u8> {
    [&u32::try_from(entries.len()).unwrap().to_be_bytes()[..], entries].concat()
}

fn nested(kind: u8, name: &[u8], levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..levels {
        value = [&[kind][..], &table(&value)].concat();
    }
    [&[u8::try_from(name.len()).unwrap()][..], name, &value].concat()
}

/// All frames that come out of what comes in, however it is cut into pieces.
fn relayed(scanner: &mut Scanner, bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut pending, mut out) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        pending.extend_from_slice(piece);
        loop {
            let count = match scanner.next(&pending) {
                Part::Incomplete => break,
                Part::Skip(count) => count,
                Part::Raw(count) => {
                    out.extend_from_slice(&pending[..count]);
                    count
                }
                Part::Made(count, frame) | Part::Message(count, frame, _) => {
                    out.extend(frame);
                    count
                }
            };
            pending.drain(..count);
        }
    }
    assert!(pending.is_empty(), "{} bytes are left", pending.len());
    out
}

#[test]
fn what_can_be_read_passes_as_it_is() {
    let payload = header(0x2400, &[&table(b"\x01aS\x00\x00\x00\x01b")[..], b"\x03abc"].concat());
    assert_eq!(properties::readable(&payload, payload.len()), None);
    let method = b"\x00\x3c\x00\x3c\x01t\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01e\x01k".to_vec();
    let bytes = [frame_of(METHOD, 1, &method), frame_of(HEADER, 1, &payload)].concat();
    let bytes = [bytes, frame_of(BODY, 1, b"1234567"), HEARTBEAT.to_vec()].concat();
    for piece in [1, 3, 8, 1_000] {
        assert_eq!(relayed(&mut Scanner::new(100), &bytes, piece), bytes);
    }
}

#[test]
fn a_property_that_is_not_utf_8_is_left_out_and_named() {
    let payload = header(0x0480, &b"\x02\xff\xfe\x03m-1"[..]);
    assert_eq!(read(&payload), None, "lapin reads it by itself");
    let properties = passed(&payload);
    assert_eq!(properties.correlation_id(), &None);
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m-1");
    assert_eq!(header_of(&properties, UNREAD).as_deref(), Some("correlation_id is not UTF-8"));
}

#[test]
fn headers_that_cannot_be_read_are_left_out_alone() {
    for bad in [
        &b"\x02\xff\xfeI\x00\x00\x00\x01"[..],
        &nested(b'A', b"deep", 5_000),
        &nested(b'F', b"deep", 17)[..],
        b"\x01xZ\x00",
        b"\x01xS\x00\x00\x00\xff",
    ] {
        let entries = [b"\x0beko-attemptS\x00\x00\x00\x012", bad].concat();
        let properties = passed(&header(0x2000, &table(&entries)));
        assert_eq!(header_of(&properties, "eko-attempt").as_deref(), Some("2"));
        let unread = header_of(&properties, UNREAD).expect("it is told");
        assert!(unread.starts_with("1 of the headers"), "{unread}");
    }
    let fine = header(0x2000, &table(&nested(b'A', b"deep", DEEP)));
    assert_eq!(properties::readable(&fine, fine.len()), None);
    assert!(read(&fine).is_some());
}

/// As deep as headers may nest.
const DEEP: usize = 16;

#[test]
fn headers_that_do_not_fit_are_left_out_and_only_the_largest_messages_are_unread() {
    let long = |size: usize| {
        let text = [b"\x07baggageS", &table(&vec![b'x'; size])[..]].concat();
        header(0x2000, &table(&[b"\x0beko-attemptS\x00\x00\x00\x012", &text[..]].concat()))
    };
    for (size, is_unread) in [(12_000, false), (120_000, false), (130_700, true)] {
        let properties = passed(&long(size));
        assert_eq!(header_of(&properties, "eko-left-out").as_deref(), Some("1"), "{size}");
        assert_eq!(header_of(&properties, "eko-attempt").as_deref(), Some("2"), "{size}");
        assert_eq!(header_of(&properties, UNREAD).is_some(), is_unread, "{size}");
    }
}

#[test]
fn a_routing_key_that_is_not_utf_8_gets_question_marks() {
    let method = b"\x00\x3c\x00\x3c\x01t\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01e\x03k\xff\xfe";
    let made = readable_method(method).expect("it is made readable");
    assert!(made.ends_with(b"\x01e\x03k??"), "{made:?}");
}

#[test]
fn a_body_that_is_too_large_goes_by() {
    let mut payload = header(0x8000, b"\x04text");
    payload[4..12].copy_from_slice(&300_u64.to_be_bytes());
    let chunks = [vec![1; 200], vec![2; 100]];
    let mut bytes = frame_of(HEADER, 1, &payload);
    for chunk in &chunks {
        bytes.extend(frame_of(BODY, 1, chunk));
        bytes.extend(HEARTBEAT);
    }
    let out = relayed(&mut Scanner::new(299), &bytes, 50);
    let body: String =
        Sha256::digest(chunks.concat()).iter().map(|byte| format!("{byte:02x}")).collect();
    let body = frame_of(BODY, 1, format!("300 bytes, SHA-256 {body}").as_bytes());
    assert!(out.windows(body.len()).any(|part| part == body), "{out:?}");
    let whole = frame_of(HEADER, 1, &payload).len() + body.len() + 200;
    assert!(out.len() < whole, "{} bytes", out.len());
    assert_eq!(relayed(&mut Scanner::new(300), &bytes, 50), bytes);
}

#[test]
fn nobody_else_says_that_a_body_is_not_there() {
    let properties = passed(&header(0x2000, &table(b"\x07eko-cutS\x00\x00\x00\x01b")));
    assert_eq!(header_of(&properties, CUT), None);
    assert_eq!(header_of(&properties, UNREAD), None);
}

/// Values of all types that the broker takes, and of others, nested, and mutilated.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just(b"\x01a".to_vec()), Just(b"\x02\xff\xfe".to_vec())];
    let kind = prop::sample::select(b"VtbBsUuIifDLldTSxAFZ".to_vec());
    let value = (kind, prop::collection::vec(any::<u8>(), 0..12), any::<bool>());
    let entry = (name, value).prop_map(|(name, (kind, bytes, is_counted))| {
        let bytes = if is_counted { table(&bytes) } else { bytes };
        [&name[..], &[kind], &bytes].concat()
    });
    prop::collection::vec(entry, 0..5).prop_map(|entries| entries.concat())
}

proptest! {
    /// Whatever a publisher sends, lapin reads what comes of it; and what comes of that again is the
    /// same, so that a copy that is parked does not change.
    #[test]
    fn lapin_reads_whatever_passes(
        flags in any::<u16>(),
        entries in entries(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let plain = header(flags, &rest);
        let with_table = header(flags & 0x1fff | 0x2000, &[table(&entries), rest].concat());
        for payload in [plain, with_table] {
            let made = properties::readable(&payload, payload.len());
            let made = made.unwrap_or(payload);
            prop_assert!(read(&made).is_some(), "{made:?}");
            prop_assert_eq!(properties::readable(&made, made.len()), None);
        }
    }

    #[test]
    fn nothing_makes_the_scanner_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut scanner = Scanner::new(10);
        let mut rest = &bytes[..];
        loop {
            let count = match scanner.next(rest) {
                Part::Incomplete => break,
                Part::Skip(count) | Part::Raw(count) | Part::Made(count, _) | Part::Message(count, ..) => count,
            };
            prop_assert!(count > 0 && count <= rest.len());
            rest = &rest[count..];
        }
    }
}
