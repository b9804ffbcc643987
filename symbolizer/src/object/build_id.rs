//! The GNU build id: a note that the linker writes and that survives stripping.

use std::fmt::Write as _;

use super::ObjectError;
use super::headers::{Headers, u32_at};

/// A build id is 8 to 20 bytes; its notes are short.
const MAX_NOTES: u64 = 64 << 10;
const MAX_BUILD_ID: usize = 64;
const NT_GNU_BUILD_ID: u32 = 3;
const NOTE_HEADER: usize = 12;

/// The build id in hex: from the note segments, or the note section where there are none.
pub(super) fn find(
    headers: &Headers,
    read: &impl Fn(u64, u64) -> Result<Vec<u8>, ObjectError>,
) -> Option<String> {
    let sections = headers
        .sections
        .iter()
        .filter(|section| &*section.name == b".note.gnu.build-id" && section.has_bytes)
        .map(|section| (section.file_offset, section.size));
    headers
        .notes()
        .chain(sections)
        .filter(|(_, size)| *size <= MAX_NOTES)
        .filter_map(|(offset, size)| read(offset, size).ok())
        .find_map(|notes| find_in(&notes))
}

fn find_in(mut notes: &[u8]) -> Option<String> {
    while notes.len() >= NOTE_HEADER {
        let name_size = u32_at(notes, 0) as usize;
        let content_size = u32_at(notes, 4) as usize;
        let kind = u32_at(notes, 8);
        let content_start = NOTE_HEADER.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let content_end = content_start.checked_add(content_size)?;
        let name = notes.get(NOTE_HEADER..NOTE_HEADER.checked_add(name_size)?)?;
        let content = notes.get(content_start..content_end)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=MAX_BUILD_ID).contains(&content.len()) {
            return Some(content.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            }));
        }
        notes = notes.get(content_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::find_in;

    fn note(kind: u32, name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = note(1, b"GNU\0", &[0; 16]);
        notes.extend(note(3, b"stapsdt\0", &[9; 5]));
        notes.extend(note(3, b"GNU\0", &[0xab, 0x01, 0xff]));
        assert_eq!(find_in(&notes).as_deref(), Some("ab01ff"));
    }

    #[test]
    fn notes_that_lie_about_their_size_end_the_search() {
        let mut notes = note(3, b"GNU\0", &[1, 2, 3, 4]);
        notes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(find_in(&notes), None);
        assert_eq!(find_in(&[0xff; 40]), None);
        assert_eq!(find_in(&note(3, b"GNU\0", &[])), None);
    }
}
