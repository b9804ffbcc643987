//! Unwind tables against gimli's own executor, row by row, over real objects.

#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection as _,
};
use object::{Object as _, ObjectSection as _};
use spanprof_symbolizer::object::Segment;
use spanprof_symbolizer::unwind::{EhFrameSection, Rule, RuleKind, UnwindError};
use spanprof_symbolizer::{ObjectFile, UnwindTable};

const RBP: Register = Register(6);
const RSP: Register = Register(7);
const RETURN_ADDRESS: Register = Register(16);

fn mapped(part: &str) -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(part));
    PathBuf::from(line.expect("it is mapped").split_whitespace().last().unwrap())
}

fn open(path: &Path) -> ObjectFile {
    ObjectFile::open(path, &path.display().to_string()).unwrap()
}

/// What a row of gimli's means in our equations; `None` where only our table decides.
fn expected(row: &gimli::UnwindTableRow<usize>, signal: bool) -> Option<Rule> {
    if signal {
        return Some(Rule::SIGNAL);
    }
    let return_address = row.register(RETURN_ADDRESS);
    if return_address == Some(RegisterRule::Undefined) {
        return Some(Rule::END);
    }
    if return_address != Some(RegisterRule::Offset(-8)) {
        return Some(Rule::NONE);
    }
    let saved = match row.register(RBP) {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => 0,
        Some(RegisterRule::Offset(offset)) if offset % 8 == 0 => (-offset / 8) as u64,
        _ => return None,
    };
    match row.cfa() {
        CfaRule::RegisterAndOffset { register: RSP, offset } if offset % 8 == 0 => {
            Rule::rsp(*offset as u64 / 8, saved)
        }
        CfaRule::RegisterAndOffset { register: RBP, offset } if offset % 8 == 0 => {
            Rule::rbp(*offset as u64 / 8, saved)
        }
        CfaRule::RegisterAndOffset { .. } => Some(Rule::NONE),
        CfaRule::Expression(_) => None,
    }
}

/// Compares every row; returns how many were compared and how many our table alone decides.
fn compare(path: &Path) -> (usize, usize) {
    let table = UnwindTable::build(&open(path)).unwrap();
    assert!(!table.assumes_frame_pointers());
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let section = file.section_by_name(".eh_frame").unwrap();
    let eh_frame = EhFrame::new(section.data().unwrap(), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut context = UnwindContext::new();
    let (mut compared, mut own, mut functions) = (0, 0, 0);
    let mut entries = eh_frame.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(entry) = entry else { continue };
        let entry = entry.parse(|section, bases, at| section.cie_from_offset(bases, at)).unwrap();
        functions += 1;
        let signal = entry.is_signal_trampoline();
        let mut rows = entry.rows(&eh_frame, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            if row.start_address() >= row.end_address() {
                continue;
            }
            match expected(row, signal) {
                Some(rule) => {
                    for address in [row.start_address(), row.end_address() - 1] {
                        assert_eq!(table.rule_at(address), rule, "{} {address:#x}", path.display());
                    }
                    compared += 1;
                }
                None => own += 1,
            }
        }
    }
    assert_eq!(table.statistics().functions, functions);
    assert_eq!(table.statistics().broken_functions, 0);
    (compared, own)
}

#[test]
fn the_c_library_s_table_says_what_its_eh_frame_says() {
    let (compared, own) = compare(&mapped("libc.so"));
    assert!(compared > 10_000, "{compared} rows");
    assert!(own * 100 < compared, "{own} of {compared} rows have no counterpart");
}

#[test]
fn a_rust_program_s_table_says_what_its_eh_frame_says() {
    let (compared, own) = compare(&std::env::current_exe().unwrap());
    assert!(compared > 10_000, "{compared} rows");
    assert!(own * 100 < compared, "{own} of {compared} rows have no counterpart");
}

#[test]
fn the_c_library_has_every_kind_of_landmark() {
    let path = mapped("libc.so");
    let table = UnwindTable::build(&open(&path)).unwrap();
    let kinds: Vec<RuleKind> = table
        .segments()
        .iter()
        .flat_map(|segment| {
            let single = segment.pages.iter().filter(|entry| **entry & 0xff == 0);
            segment.rows.iter().chain(single).map(|row| Rule::from_bits(row >> 8).kind())
        })
        .collect();
    // Where threads start, where handlers return, and the linkage table.
    for kind in [RuleKind::End, RuleKind::Signal, RuleKind::Plt, RuleKind::Rsp, RuleKind::Rbp] {
        assert!(kinds.contains(&kind), "no {kind:?}");
    }
}

#[test]
fn a_program_s_entry_is_the_end_of_its_stack() {
    let path = std::env::current_exe().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let entry = object::File::parse(&*bytes).unwrap().entry();
    let table = UnwindTable::build(&open(&path)).unwrap();
    assert_eq!(table.rule_at(entry), Rule::END);
}

#[test]
fn the_section_is_found_without_section_headers() {
    let path = mapped("libc.so");
    let with = UnwindTable::build(&open(&path)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    let without = ObjectFile::from_bytes(bytes, "libc.so.6").unwrap();
    let without = UnwindTable::build(&without).unwrap();
    assert!(!without.assumes_frame_pointers());
    assert_eq!(without.statistics().functions, with.statistics().functions);
}

#[test]
fn no_eh_frame_means_frame_pointers() {
    let path = mapped("libc.so");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40..48].fill(0);
    // PT_GNU_EH_FRAME becomes PT_NULL.
    let count = usize::from(u16::from_le_bytes([bytes[56], bytes[57]]));
    for header in 0..count {
        let at = 64 + header * 56;
        if bytes[at..at + 4] == 0x6474_e550u32.to_le_bytes() {
            bytes[at..at + 4].fill(0);
        }
    }
    let object = ObjectFile::from_bytes(bytes, "libc.so.6").unwrap();
    let table = UnwindTable::build(&object).unwrap();
    assert!(table.assumes_frame_pointers());
    for segment in table.segments() {
        assert!(segment.rows.is_empty());
        assert_eq!(segment.rule_at(segment.vaddr), Rule::FRAME_POINTER);
        assert_eq!(segment.rule_at(segment.end - 1), Rule::FRAME_POINTER);
    }
}

#[test]
fn absurd_segments_are_refused() {
    let segment = |vaddr, size| Segment { vaddr, file_offset: 0, file_size: size, mem_size: size };
    for segments in [vec![segment(0, u64::MAX)], vec![segment(u64::MAX, 2)], vec![segment(0, 1); 65]] {
        let error = UnwindTable::frame_pointers(&segments).unwrap_err();
        assert!(matches!(error, UnwindError::TooLarge(..)), "{error}");
    }
}

mod written {
    //! Sections written by hand, instruction by instruction.

    use super::*;
    use proptest::prelude::*;

    const TEXT: Segment = Segment { vaddr: 0x1000, file_offset: 0, file_size: 0x1000, mem_size: 0 };
    const SECTION: u64 = 0x9000;

    /// One CIE (call rule: cfa = rsp + 8) and functions of absolute address.
    fn section(augmentation: &[u8], functions: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut entry = |body: &[u8], id: &dyn Fn(u32) -> u32| {
            let start = bytes.len() as u32;
            let length = (body.len() as u32 + 4).next_multiple_of(8) + 4;
            bytes.extend((length - 4 + 4).to_le_bytes());
            bytes.extend(id(start + 4).to_le_bytes());
            bytes.extend(body);
            bytes.resize((start + 4 + length) as usize, 0);
        };
        let mut cie = vec![1];
        cie.extend(augmentation);
        cie.extend([0, 1, 0x78, 16]);
        // def_cfa rsp+8; offset rip at cfa-8
        cie.extend([0x0c, 7, 8, 0x90, 1]);
        entry(&cie, &|_| 0);
        for (start, length, instructions) in functions {
            let mut body = Vec::new();
            body.extend(start.to_le_bytes());
            body.extend(length.to_le_bytes());
            body.extend(*instructions);
            entry(&body, &|at| at);
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn build(bytes: &[u8], stubs: &[std::ops::Range<u64>]) -> UnwindTable {
        UnwindTable::from_eh_frame(&[TEXT], EhFrameSection { vaddr: SECTION, bytes }, stubs).unwrap()
    }

    #[test]
    fn pushes_and_frames_become_rules() {
        let bytes = section(
            b"",
            &[(
                0x1010,
                0x40,
                &[
                    0x41, 0x0e, 16, 0x86, 2, // +1: cfa rsp+16, rbp at cfa-16
                    0x43, 0x0d, 6, // +3: cfa rbp+16
                    0x48, 0x0a, 0x0c, 7, 8, 0xc6, // +8: remember; leave: cfa rsp+8, rbp restored
                    0x42, 0x0b, // +2: back in the body
                ],
            )],
        );
        let table = build(&bytes, &[]);
        assert_eq!(table.statistics().functions, 1);
        assert_eq!(table.statistics().unsupported_states, 0);
        let rules: Vec<Rule> = [0x100f, 0x1010, 0x1011, 0x1014, 0x101b, 0x101c, 0x101e, 0x104f, 0x1050]
            .map(|address| table.rule_at(address))
            .into();
        let pushed = Rule::rsp(2, 2).unwrap();
        assert_eq!(
            rules,
            [
                Rule::NONE,
                Rule::CALL,
                pushed,
                Rule::FRAME_POINTER,
                Rule::FRAME_POINTER,
                Rule::CALL,
                Rule::FRAME_POINTER,
                Rule::FRAME_POINTER,
                Rule::NONE
            ]
        );
    }

    #[test]
    fn realigned_frames_linkage_tables_and_roots_are_recognised() {
        let bytes = section(
            b"",
            &[
                // cfa = [rbp - 8]; rbp at [rbp + 0]
                (0x1000, 0x10, &[0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0]),
                // cfa = [rbp - 136]
                (0x1010, 0x10, &[0x0f, 4, 0x76, 0xf8, 0x7e, 0x06, 0x10, 6, 2, 0x76, 0]),
                (0x1020, 0x10, &[0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22]),
                (0x1030, 0x10, &[0x07, 16]),
                // cfa = rbx + 8: no rule
                (0x1040, 0x10, &[0x0d, 3]),
                // cfa = rsp + 160,000, rbp saved
                (0x1050, 0x10, &[0x0e, 0x80, 0xe2, 9, 0x86, 2]),
            ],
        );
        let table = build(&bytes, std::slice::from_ref(&(0x1100..0x1140)));
        assert_eq!(table.rule_at(0x1000), Rule::deref(1).unwrap());
        assert_eq!(table.rule_at(0x1010), Rule::deref(17).unwrap());
        assert_eq!(table.rule_at(0x1020), Rule::plt(11).unwrap());
        assert_eq!(table.rule_at(0x1030), Rule::END);
        assert_eq!(table.rule_at(0x1040), Rule::NONE);
        assert_eq!(table.rule_at(0x1050), Rule::rsp(20_000, 2).unwrap());
        assert_eq!(table.rule_at(0x1050).kind(), RuleKind::Big);
        assert_eq!(table.rule_at(0x1060), Rule::NONE);
        assert_eq!(table.rule_at(0x1100), Rule::CALL);
        assert_eq!(table.rule_at(0x113f), Rule::CALL);
        assert_eq!(table.rule_at(0x1140), Rule::NONE);
        assert_eq!(table.statistics().unsupported_states, 1);
    }

    #[test]
    fn the_s_augmentation_marks_signal_frames() {
        let table = build(&section(b"S", &[(0x1000, 0x10, &[0x0f, 1, 0x77])]), &[]);
        assert_eq!(table.rule_at(0x1008), Rule::SIGNAL);
    }

    #[test]
    fn functions_out_of_order_and_overlapping_are_put_in_order() {
        let bytes = section(
            b"",
            &[(0x1080, 0x20, &[0x0e, 32]), (0x1000, 0x90, &[0x0e, 16]), (0, 0x10, &[]), (0x7000, 0x10, &[])],
        );
        let table = build(&bytes, &[]);
        assert_eq!(table.rule_at(0x107f), Rule::rsp(2, 0).unwrap());
        assert_eq!(table.rule_at(0x1080), Rule::rsp(4, 0).unwrap());
        assert_eq!(table.rule_at(0x109f), Rule::rsp(4, 0).unwrap());
        assert_eq!(table.statistics().functions, 2);
    }

    #[test]
    fn instructions_that_make_no_sense_end_in_no_rule() {
        // restore_state without remember_state, after a good row
        let table = build(&section(b"", &[(0x1000, 0x20, &[0x44, 0x0e, 16, 0x44, 0x0b])]), &[]);
        assert_eq!(table.rule_at(0x1000), Rule::CALL);
        assert_eq!(table.rule_at(0x1006), Rule::NONE);
        assert_eq!(table.statistics().broken_functions, 1);
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_builder(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            instructions in prop::collection::vec(any::<u8>(), 0..200),
            start in 0u64..0x3000,
            length in 0u64..0x3000,
        ) {
            build(&bytes, std::slice::from_ref(&(start..start + length)));
            let mut written = section(b"", &[(start, length, &instructions)]);
            written.truncate(written.len() - 4);
            written.extend(&bytes);
            build(&written, &[]);
        }
    }
}
