//! The properties and headers of a message, as far as they can be read.

/// The header that tells what could not be read of a message, or is too large.
pub(in crate::broker) const UNREAD: &str = "eko-unread";

/// The header that tells that the body is not there, and its size; nobody else can set it.
pub(in crate::broker) const CUT: &str = "eko-cut";

/// The header that tells how many headers did not fit into a frame and were left out.
const LEFT_OUT: &str = "eko-left-out";

/// Class, weight and size of the body, before the flags.
const FIXED: usize = 12;

/// The properties and headers of a message together may have so many bytes.
const MOST: usize = 124 * 1024;

/// Of these, so many are passed on: with what a copy carries besides, and what the broker adds,
/// they fit into a frame of 16 KiB.
const MOST_PASSED: usize = 11 * 1024;

/// The headers that the worker needs of its own copies and of the broker: a publisher's others make
/// way for them.
const NEEDED: [&str; 12] = [
    "x-death",
    "eko-attempt",
    "eko-parked",
    "eko-age",
    "eko-first-received",
    "eko-reason",
    "eko-refused",
    "eko-refusals",
    "eko-replay-of",
    "eko-traceparent",
    "traceparent",
    "tracestate",
];

/// How deep headers may nest: lapin reads, copies and drops them by recursion.
const DEEPEST: usize = 16;

/// How a property is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Table,
    Bytes(usize),
}

/// All properties in their order, from the highest flag on.
const PROPERTIES: [(&str, Form); 14] = [
    ("content_type", Form::Text),
    ("content_encoding", Form::Text),
    ("headers", Form::Table),
    ("delivery_mode", Form::Bytes(1)),
    ("priority", Form::Bytes(1)),
    ("correlation_id", Form::Text),
    ("reply_to", Form::Text),
    ("expiration", Form::Text),
    ("message_id", Form::Text),
    ("timestamp", Form::Bytes(8)),
    ("type", Form::Text),
    ("user_id", Form::Text),
    ("app_id", Form::Text),
    ("cluster_id", Form::Text),
];

/// Where `headers` stands among them.
const HEADERS: usize = 2;

/// How large the body is, as the header of its message says.
pub(super) fn body_size(payload: &[u8]) -> u64 {
    let size = payload.get(4..FIXED).and_then(|size| size.first_chunk::<8>());
    size.map_or(0, |size| u64::from_be_bytes(*size))
}

/// What can be read of a content header of `whole` bytes, and told of the rest; `None` where it
/// can be read as it is.
pub(super) fn readable(payload: &[u8], whole: usize) -> Option<Vec<u8>> {
    let mut found = Found::of(payload);
    if whole > MOST {
        found.unread.push(format!("properties and headers have {whole} bytes, at most {MOST}"));
    }
    found.fit();
    let is_as_it_is = found.unread.is_empty() && found.left_out == 0 && !found.has_forged;
    (!is_as_it_is).then(|| found.written(payload.get(..FIXED).unwrap_or(&[0; FIXED])))
}

/// The header of a message whose body is too large, for one of so many bytes that stands for it.
pub(super) fn without_body(payload: &[u8], why: &str, size: u64) -> Vec<u8> {
    let mut found = Found::of(payload);
    found.unread.insert(0, why.to_owned());
    found.cut = Some(body_size(payload));
    found.fit();
    let class_and_weight = payload.get(..4).unwrap_or_default();
    found.written(&[class_and_weight, &size.to_be_bytes()].concat())
}

/// What was found.
#[derive(Default)]
struct Found<'a> {
    /// By their place among the properties; the headers are apart.
    properties: [Option<&'a [u8]>; PROPERTIES.len()],
    /// Name and value, as they are written.
    headers: Vec<&'a [u8]>,
    /// What can not be read, in words.
    unread: Vec<String>,
    /// How many headers did not fit.
    left_out: usize,
    /// The body is not there.
    cut: Option<u64>,
    /// The publisher says so, too.
    has_forged: bool,
}

impl<'a> Found<'a> {
    fn of(payload: &'a [u8]) -> Self {
        let mut found = Self::default();
        if found.read(payload).is_none() {
            found.unread.push("their lengths do not fit together".to_owned());
        }
        found
    }

    /// `None` where the lengths do not fit together.
    fn read(&mut self, payload: &'a [u8]) -> Option<()> {
        let mut rest = payload.get(FIXED..)?;
        let flags = u16::from_be_bytes(*take(&mut rest, 2)?.first_chunk()?);
        for (place, (name, form)) in PROPERTIES.into_iter().enumerate() {
            if flags & (0x8000 >> place) == 0 {
                continue;
            }
            let value = match form {
                Form::Bytes(count) => take(&mut rest, count)?,
                Form::Text => {
                    let whole = rest;
                    let is_text = std::str::from_utf8(short_string(&mut rest)?).is_ok();
                    if !is_text {
                        self.unread.push(format!("{name} is not UTF-8"));
                        continue;
                    }
                    whole.get(..whole.len() - rest.len())?
                }
                Form::Table => {
                    let mut table = long_string(&mut rest)?;
                    self.read_headers(&mut table);
                    continue;
                }
            };
            *self.properties.get_mut(place)? = Some(value);
        }
        // Further flags are reserved, and nothing comes after the last property.
        (flags & 3 == 0 && rest.is_empty()).then_some(())
    }

    fn read_headers(&mut self, table: &mut &'a [u8]) {
        let mut unread = 0;
        while !table.is_empty() {
            let whole = *table;
            match entry(table, 0) {
                Some(_) if is_named(whole, CUT) => self.has_forged = true,
                Some(true) => self.headers.extend(whole.get(..whole.len() - table.len())),
                Some(false) => unread += 1,
                None => {
                    unread += 1;
                    break;
                }
            }
        }
        if unread > 0 {
            self.unread.push(format!(
                "{unread} of the headers (a name that is not UTF-8, an unknown type, or nested \
                 deeper than {DEEPEST})"
            ));
        }
    }

    /// Leaves out headers until the rest fits, the largest first, those that the worker reads last.
    fn fit(&mut self) {
        let properties: usize = self.properties.iter().flatten().map(|value| value.len()).sum();
        let headers: usize = self.headers.iter().map(|entry| entry.len()).sum();
        let mut size = properties + headers;
        if size <= MOST_PASSED {
            return;
        }
        let weight =
            |entry: &&[u8]| (!NEEDED.iter().any(|name| is_named(entry, name)), entry.len());
        self.headers.sort_by_key(weight);
        while size > MOST_PASSED
            && let Some(left_out) = self.headers.pop()
        {
            size -= left_out.len();
            self.left_out += 1;
        }
    }

    fn written(&mut self, fixed: &[u8]) -> Vec<u8> {
        let mut marks = Vec::new();
        for (is_set, name, text) in [
            (!self.unread.is_empty(), UNREAD, self.unread.join("; ")),
            (self.left_out > 0, LEFT_OUT, self.left_out.to_string()),
            (self.cut.is_some(), CUT, self.cut.unwrap_or_default().to_string()),
        ] {
            if !is_set {
                continue;
            }
            self.headers.retain(|entry| !is_named(entry, name));
            marks.push(u8::try_from(name.len()).unwrap_or_default());
            marks.extend(name.as_bytes());
            marks.push(b'S');
            marks.extend(length(text.len()));
            marks.extend(text.as_bytes());
        }
        let table = [self.headers.concat(), marks].concat();
        let (mut flags, mut values) = (0_u16, Vec::new());
        for (place, value) in self.properties.iter().enumerate() {
            if place == HEADERS {
                flags |= 0x8000 >> place;
                values.extend(length(table.len()));
                values.extend(&table);
            } else if let Some(value) = value {
                flags |= 0x8000 >> place;
                values.extend(*value);
            }
        }
        let mut made = fixed.to_vec();
        made.extend(flags.to_be_bytes());
        made.extend(values);
        made
    }
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}

/// Whether an entry of a table has this name.
fn is_named(entry: &[u8], name: &str) -> bool {
    let mut entry = entry;
    short_string(&mut entry) == Some(name.as_bytes())
}

/// Takes a name and its value; whether lapin can read them. `None` where it cannot be told where
/// they end.
fn entry(rest: &mut &[u8], depth: usize) -> Option<bool> {
    let is_text = std::str::from_utf8(short_string(rest)?).is_ok();
    Some(value(rest, depth)? && is_text)
}

fn value(rest: &mut &[u8], depth: usize) -> Option<bool> {
    let count = match take(rest, 1)?.first()? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'S' | b'x' => return long_string(rest).map(|_| true),
        b'A' => return long_string(rest).map(|inner| all(inner, depth, value)),
        b'F' => return long_string(rest).map(|inner| all(inner, depth, entry)),
        _ => return None,
    };
    take(rest, count).map(|_| true)
}

/// Whether all of a table or an array can be read.
fn all(inner: &[u8], depth: usize, one: fn(&mut &[u8], usize) -> Option<bool>) -> bool {
    let (mut rest, depth) = (inner, depth + 1);
    while depth <= DEEPEST && !rest.is_empty() {
        if one(&mut rest, depth) != Some(true) {
            return false;
        }
    }
    rest.is_empty()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn short_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = *take(rest, 1)?.first()?;
    take(rest, count.into())
}

fn long_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = u32::from_be_bytes(*take(rest, 4)?.first_chunk()?);
    take(rest, usize::try_from(count).ok()?)
}
