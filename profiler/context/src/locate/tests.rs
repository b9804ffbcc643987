//! Offsets, vectors and bounds, on memory made up for the purpose.

use super::*;

/// Memory that begins at an address.
struct Made {
    start: u64,
    bytes: Vec<u8>,
}

impl Made {
    fn of_words(start: u64, words: &[u64]) -> Self {
        Self { start, bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect() }
    }
}

impl Memory for Made {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let unmapped = || io::Error::from_raw_os_error(libc::EFAULT);
        let offset =
            usize::try_from(address.checked_sub(self.start).ok_or_else(unmapped)?).map_err(|_| unmapped())?;
        let bytes =
            self.bytes.get(offset..).and_then(|rest| rest.get(..buffer.len())).ok_or_else(unmapped)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_programs_offset_keeps_the_congruence_of_its_segment() {
    let offset =
        |address, size, alignment, value| local_exec_offset(TlsSegment { address, size, alignment }, value);
    assert_eq!(offset(0x1000, 0x58, 8, 0x10), Some(-0x48));
    assert_eq!(offset(0x1000, 0x58, 64, 0x10), Some(-0x70), "the size is rounded up");
    assert_eq!(offset(0x1008, 0x58, 64, 0x10), Some(-0x68), "the block begins 8 past a multiple of 64");
    assert_eq!(offset(0x1000, 0x58, 1, 0), Some(-0x58));
    assert_eq!(offset(0x1000, 0x58, 3, 0), None);
    assert_eq!(offset(0x1000, u64::MAX / 2, 8, 0), None);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn a_programs_offset_keeps_the_congruence_of_its_segment() {
    let offset =
        |address, size, alignment, value| local_exec_offset(TlsSegment { address, size, alignment }, value);
    assert_eq!(offset(0x1000, 0x58, 8, 0x10), Some(0x20));
    assert_eq!(offset(0x1000, 0x58, 64, 0x10), Some(0x50), "the two words are rounded up");
    assert_eq!(offset(0x1000, 0x58, 3, 0), None);
}

#[test]
fn a_slot_is_found_by_the_vector() {
    let vector = Vector { pointer_offset: 8, entry_size: 16 };
    // Thread pointer 0x1000: the vector at 0x1020, whose entry 2 leads to the block at 0x5000; entry 1 is not allocated.
    let memory = Made::of_words(0x1000, &[0x1000, 0x1020, 0, 0, 7, 0, u64::MAX, 0, 0x5000, 0, 0, 0]);
    let find = |module| slot_address(&memory, 0x1000, &Access::Dynamic { module, offset: 0x30, vector });
    assert_eq!(find(2).unwrap(), Some(0x5030));
    assert_eq!(find(1).unwrap(), None);
    assert_eq!(find(3).unwrap(), None);
    assert!(find(4).is_err(), "beyond what is mapped");
}

#[test]
fn a_record_that_ends_with_its_mapping_is_read() {
    let slot = ThreadSlot { access: Access::Static { offset: 0 }, has_sequence: false };
    let mut memory = Made::of_words(0x1000, &[0x1008]);
    memory.bytes.extend([5; 24]);
    memory.bytes.extend([1, 0, 3, 0]);
    memory.bytes.extend(*b"\x01\x01x");
    let mut buffer: RecordBuffer = [0xff; 640];
    let record = read_thread(&memory, 0x1000, &slot, &mut buffer).unwrap().unwrap();
    assert_eq!(record.attribute(1), Some("x"));
    memory.bytes.pop();
    assert!(read_thread(&memory, 0x1000, &slot, &mut buffer).is_err());
}

#[test]
fn what_a_context_claims_is_believed_within_bounds() {
    let slot = |attributes: &[(&str, i64)]| {
        let mut context = ProcessContext::default();
        context.set_attribute(process::SCHEMA_ATTRIBUTE, "tls_v1".into());
        for (name, value) in attributes {
            context.set_attribute(name, (*value).into());
        }
        from_context(&context, &[]).map(|slot| slot.access)
    };
    assert_eq!(slot(&[(process::OFFSET_ATTRIBUTE, -80)]), Some(Access::Static { offset: -80 }));
    assert_eq!(slot(&[(process::OFFSET_ATTRIBUTE, i64::MIN)]), None);
    let module = |module, offset| {
        slot(&[(process::MODULE_ATTRIBUTE, module), (process::MODULE_OFFSET_ATTRIBUTE, offset)])
    };
    assert_eq!(module(3, 32), Some(Access::Dynamic { module: 3, offset: 32, vector: Vector::GLIBC }));
    assert_eq!(module(0, 32), None);
    assert_eq!(module(-1, 32), None);
    assert_eq!(module(3, -1), None);
    assert_eq!(slot(&[]), None);
    let mut other = ProcessContext::default();
    other.set_attribute(process::SCHEMA_ATTRIBUTE, "go_pprof_labels_v1".into());
    other.set_attribute(process::OFFSET_ATTRIBUTE, (-80).into());
    assert_eq!(from_context(&other, &[]), None, "another schema's records are not ours to read");
}

#[test]
fn a_file_that_is_no_module_is_passed_over() {
    let mapping = |start, executable, name: &str| Mapping {
        start,
        end: start + 0x1000,
        executable,
        file_offset: 0,
        device: (8, 1),
        inode: start,
        name: name.to_owned(),
    };
    let memory = Made { start: 0x1000, bytes: b"\x7fELF".repeat(0x400) };
    let mappings = [mapping(0x1000, true, "/opt/odd"), mapping(0x9000, true, "/opt/gone")];
    assert_eq!(from_symbols(&memory, &mappings, 0).unwrap(), None);
}
