//! Reading Protocol Buffers' wire format, without copying.

use super::Outcome;

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn bytes(self) -> Outcome<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong_type()),
        }
    }

    pub fn text(self) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a piece is not UTF-8".to_owned())
    }

    pub fn flag(self) -> Outcome<bool> {
        Ok(self.integer()? != 0)
    }

    /// An `int32` or an enumeration; negative numbers have ten bytes on the wire.
    pub fn integer(self) -> Outcome<i64> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            _ => Err(wrong_type()),
        }
    }

    pub fn float(self) -> Outcome<f32> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(wrong_type()),
        }
    }
}

fn wrong_type() -> String {
    "not a SentencePiece model: a field has another type".to_owned()
}

/// The fields of `message`, each with its number, in their order.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Outcome<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
            kind => return Err(format!("not a SentencePiece model: wire type {kind}")),
        };
        Ok((key >> 3, field))
    }

    fn varint(&mut self) -> Outcome<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("not a SentencePiece model: a number without an end".to_owned())
    }

    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| "the file is not a SentencePiece model, or is cut short".to_owned())?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Outcome<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
