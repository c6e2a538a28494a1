//! Protocol Buffers' wire format, as far as a trace needs it: messages are written, never read.

/// Kinds of fields on the wire (<https://protobuf.dev/programming-guides/encoding>).
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;

/// One message in the making. Fields stand in the order of the calls; zeros are written as well, so that a number
/// keeps its sign and every message of a channel has one length.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// An `int32`, `int64` or enum that is not negative.
    pub(super) fn integer(mut self, field: u32, value: u64) -> Self {
        self.tag(field, VARINT);
        self.varint(value);
        self
    }

    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.tag(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A `repeated float`, packed.
    pub(super) fn floats(self, field: u32, values: impl Iterator<Item = f32>) -> Self {
        let packed: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        self.bytes(field, &packed)
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_encoding_guide() {
        // Its own examples: 150, "testing", and a message around the first.
        let number = Message::default().integer(1, 150);
        assert_eq!(number.0, [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.0, [&[0x12, 0x07][..], b"testing"].concat());
        assert_eq!(Message::default().message(3, &number).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().double(1, -2.0).0, [0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        assert_eq!(Message::default().floats(1, [1.0].into_iter()).0, [0x0a, 4, 0, 0, 0x80, 0x3f]);
        // From field 16 on a tag takes two bytes.
        assert_eq!(Message::default().integer(16, 1).0, [0x80, 0x01, 0x01]);
        assert_eq!(Message::default().integer(1, u64::MAX).0.len(), 11);
    }
}
