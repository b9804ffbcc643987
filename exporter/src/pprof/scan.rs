//! Counts what a pprof message holds before it is decoded.
//!
//! An empty `Sample` is two bytes in the file and 72 in memory: without a look ahead, a small hostile file
//! would make a large allocation. The walk reads tags and lengths only.

use super::PprofError;
use super::decode::DecodeLimits;

/// Refuses a message that holds more than the limits allow, or that is cut off.
pub(super) fn check_counts(bytes: &[u8], limits: &DecodeLimits) -> Result<(), PprofError> {
    let mut counts = [0_usize; 16];
    let bound = [
        (1, "sample types", limits.sample_types),
        (2, "samples", limits.samples),
        (3, "mappings", limits.mappings),
        (4, "locations", limits.locations),
        (5, "functions", limits.functions),
        (6, "strings", limits.strings),
        (13, "comments", limits.comments),
    ];
    for field in Fields(bytes) {
        let (field, _) = field?;
        if let Some(count) = usize::try_from(field).ok().and_then(|field| counts.get_mut(field)) {
            *count += 1;
            if let Some((_, what, limit)) =
                bound.iter().find(|(number, _, limit)| *number == field && *count > *limit)
            {
                return Err(PprofError::TooMany { what, limit: *limit });
            }
        }
    }
    Ok(())
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// 4 or 8 bytes, which nobody asks for.
    Fixed,
}

/// The fields of a message with their numbers; ends behind the first that is broken.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Content<'a>), PprofError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Content<'a>), PprofError> {
    let tag = varint(bytes)?;
    let content = match tag & 7 {
        0 => Content::Number(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Content::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Content::Bytes(take(bytes, usize::try_from(length).map_err(|_| cut_off())?)?)
        }
        5 => take(bytes, 4).map(|_| Content::Fixed)?,
        other => return Err(PprofError::NotPprof(format!("wire type {other} is not used by protobuf 3"))),
    };
    Ok((tag >> 3, content))
}

fn cut_off() -> PprofError {
    PprofError::NotPprof("the message is cut off".into())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], PprofError> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(cut_off)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, PprofError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(cut_off())
}
