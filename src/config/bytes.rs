//! Settings that are a number of bytes.

use super::read::Reader;

/// Units, by what is written behind the number.
const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];

/// What each command must have room for, and others beside it.
const LEAST: u64 = 1 << 20;

impl Reader {
    /// A number of bytes, at least 1 MiB.
    pub(super) fn bytes(&mut self, name: &str, text: &str) -> Option<u64> {
        let bytes = bytes(text).filter(|bytes| *bytes >= LEAST);
        if bytes.is_none() {
            self.wrong(name, "must be a size such as 16MiB, at least 1MiB");
        }
        bytes
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let in_unit = |(unit, size): (&str, u64)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(size)
    };
    UNITS.into_iter().find_map(in_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        assert_eq!(bytes("16MiB"), Some(16 << 20));
        assert_eq!(bytes(" 2 GiB "), Some(2 << 30));
        assert_eq!(bytes("1048576"), Some(1 << 20));
        for wrong in ["", "MiB", "16MB", "-1MiB", "1.5GiB", "99999999999999GiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        let mut reader = Reader::default();
        assert_eq!(reader.bytes("WORKER_BUFFER", "1023KiB"), None);
        assert!(reader.finish().is_err());
    }
}
