//! A publisher that writes its frames by hand: no library sends what these tests need to send.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use url::Url;

use super::broker::Broker;

/// The flags of single properties.
pub(crate) const HEADERS: u16 = 0x2000;
pub(crate) const CORRELATION_ID: u16 = 0x0400;

/// A connection with one channel.
pub(crate) struct RawPublisher(TcpStream);

impl RawPublisher {
    /// Logs in to the tests' broker, as guest.
    pub(crate) fn connect() -> Self {
        let url = Url::parse(&Broker::url()).unwrap();
        let host = url.host_str().unwrap();
        let stream = TcpStream::connect((host, url.port().unwrap_or(5672))).unwrap();
        let mut raw = Self(stream);
        raw.login(&url).unwrap();
        raw
    }

    fn login(&mut self, url: &Url) -> io::Result<()> {
        let raw = self;
        raw.0.write_all(b"AMQP\x00\x00\x09\x01")?;
        raw.until([10, 10])?;
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let login = long(format!("\0{user}\0{password}").as_bytes());
        raw.method(0, [10, 11], &[&long(b"")[..], b"\x05PLAIN", &login, b"\x05en_US"].concat())?;
        raw.until([10, 30])?;
        raw.method(0, [10, 31], &[0, 16, 0, 2, 0, 0, 0, 0])?;
        raw.method(0, [10, 40], b"\x01/\x00\x00")?;
        raw.until([10, 41])?;
        raw.method(1, [20, 10], b"\x00")?;
        raw.until([20, 11])?;
        raw.method(1, [85, 10], b"\x00")?;
        raw.until([85, 11])
    }

    /// Publishes a body with these flags and properties, byte for byte, and waits until the broker
    /// has taken it.
    pub(crate) fn publish(&mut self, to: (&str, &str), properties: (u16, &[u8]), body: &[u8]) {
        self.try_publish(to, properties, body).unwrap();
    }

    /// As [`Self::publish`]; an error where the broker closes the channel or the connection.
    pub(crate) fn try_publish(
        &mut self,
        to: (&str, &str),
        properties: (u16, &[u8]),
        body: &[u8],
    ) -> io::Result<()> {
        let (exchange, key) = to;
        let to = [b"\x00\x00", &short(exchange)[..], &short(key), b"\x00"].concat();
        self.method(1, [60, 40], &to)?;
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let flags = properties.0.to_be_bytes();
        self.frame(2, 1, &[b"\x00\x3c\x00\x00", &size[..], &flags, properties.1].concat())?;
        for chunk in body.chunks(100_000) {
            self.frame(3, 1, chunk)?;
        }
        self.until([60, 80])
    }

    fn method(
        &mut self,
        channel: u16,
        [class, method]: [u8; 2],
        arguments: &[u8],
    ) -> io::Result<()> {
        self.frame(1, channel, &[&[0, class, 0, method][..], arguments].concat())
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size, payload, b"\xce"].concat();
        self.0.write_all(&frame)
    }

    /// Reads until this method.
    fn until(&mut self, [class, method]: [u8; 2]) -> io::Result<()> {
        loop {
            let mut header = [0; 7];
            self.0.read_exact(&mut header)?;
            let size = u32::from_be_bytes(header[3..].try_into().unwrap());
            let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
            self.0.read_exact(&mut payload)?;
            if header[0] != 1 {
                continue;
            }
            let is_close = payload[..4] == [0, 20, 0, 40] || payload[..4] == [0, 10, 0, 50];
            if is_close {
                return Err(io::Error::other(String::from_utf8_lossy(&payload[6..])));
            }
            if payload[..4] == [0, class, 0, method] {
                return Ok(());
            }
        }
    }
}

/// A short string.
pub(crate) fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

/// A long string, or a table of these entries.
pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A header of text.
pub(crate) fn header(name: &str, text: &[u8]) -> Vec<u8> {
    [&short(name)[..], b"S", &long(text)].concat()
}

/// A header of an array of one array of one array, so many levels deep.
pub(crate) fn nested(levels: usize) -> Vec<u8> {
    let value = (0..levels).fold(Vec::new(), |inner, _| [b"A", &long(&inner)[..]].concat());
    [&short("deep")[..], &value].concat()
}
