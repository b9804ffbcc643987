//! Counts what a pprof message holds before it is decoded.
//!
//! An empty `Sample` is two bytes in the file and 72 in memory: without a look ahead, a small hostile file
//! would make a large allocation. The walk reads tags and lengths only.

use super::PprofError;
use super::decode::DecodeLimits;

/// Refuses a message that holds more than the limits allow, or that is cut off.
pub(super) fn check_counts(mut bytes: &[u8], limits: &DecodeLimits) -> Result<(), PprofError> {
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
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = (tag >> 3) as usize;
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => skip(&mut bytes, 8)?,
            2 => {
                let length = varint(&mut bytes)?;
                skip(&mut bytes, usize::try_from(length).map_err(|_| cut_off())?)?;
            }
            5 => skip(&mut bytes, 4)?,
            other => {
                return Err(PprofError::NotPprof(format!("wire type {other} is not used by protobuf 3")));
            }
        }
        if let Some(count) = counts.get_mut(field) {
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

fn cut_off() -> PprofError {
    PprofError::NotPprof("the message is cut off".into())
}

fn skip(bytes: &mut &[u8], length: usize) -> Result<(), PprofError> {
    *bytes = bytes.get(length..).ok_or_else(cut_off)?;
    Ok(())
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
