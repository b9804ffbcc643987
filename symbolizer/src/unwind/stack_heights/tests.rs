//! Functions made by hand, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

const START: u64 = 0x1000;

const PUSH_RBP: &[u8] = &[0x55];
const MOV_RBP_RSP: &[u8] = &[0x48, 0x89, 0xe5];
const PUSH_RBX: &[u8] = &[0x53];
const PUSH_0: &[u8] = &[0x6a, 0];
const MOV_EAX_EDI: &[u8] = &[0x89, 0xf8];
const SUB_RSP_40: &[u8] = &[0x48, 0x83, 0xec, 0x28];
const ADD_RSP_8: &[u8] = &[0x48, 0x83, 0xc4, 0x08];
const LEA_RSP_RBP_8: &[u8] = &[0x48, 0x8d, 0x65, 0xf8];
const CALL: &[u8] = &[0xe8, 0, 0, 1, 0];
const SYSCALL: &[u8] = &[0x0f, 0x05];
const POP_RBX: &[u8] = &[0x5b];
const POP_RBP: &[u8] = &[0x5d];
const RET: &[u8] = &[0xc3];
const UD2: &[u8] = &[0x0f, 0x0b];
const JMP_RAX: &[u8] = &[0xff, 0xe0];
const NOP: &[u8] = &[0x90];
const SUB_RSP_RAX: &[u8] = &[0x48, 0x29, 0xc4];
const AND_RSP_32: &[u8] = &[0x48, 0x83, 0xe4, 0xe0];

fn rsp(words: u64) -> Rule {
    Rule::rsp(words, 0).unwrap()
}

const FRAME: Rule = Rule::FRAME_POINTER;

/// The code and the rules of a function, each instruction with the rule before it.
fn distances(parts: &[(&[u8], Rule)]) -> Vec<Result<u64, NoDistance>> {
    let code: Vec<u8> = parts.iter().flat_map(|(bytes, _)| *bytes).copied().collect();
    let ends: Vec<u64> = parts
        .iter()
        .scan(START, |end, (bytes, _)| {
            *end += bytes.len() as u64;
            Some(*end)
        })
        .collect();
    let rule_at = |address| parts[ends.partition_point(|end| *end <= address)].1;
    ends.iter().map(|end| distance_in(&code, START, end - 1, rule_at)).collect()
}

/// The beginning that compilers make: registers and room of 48 bytes.
const BEGIN: [(&[u8], Rule); 5] = [
    (PUSH_RBP, Rule::CALL),
    (MOV_RBP_RSP, Rule::CALL),
    (PUSH_RBX, FRAME),
    (MOV_EAX_EDI, FRAME),
    (SUB_RSP_40, FRAME),
];

/// With `rest` behind the beginning, the distances there.
fn after_begin(rest: &[(&[u8], Rule)]) -> Vec<Result<u64, NoDistance>> {
    let mut parts = BEGIN.to_vec();
    parts[1].1 = rsp(2);
    parts.extend_from_slice(rest);
    distances(&parts).split_off(BEGIN.len())
}

#[test]
fn a_frame_is_followed_from_its_beginning_to_its_end() {
    let parts = [
        (PUSH_RBP, Rule::CALL),
        (MOV_RBP_RSP, rsp(2)),
        (PUSH_RBX, FRAME),
        (SUB_RSP_40, FRAME),
        (SYSCALL, FRAME),
        (CALL, FRAME),
        (LEA_RSP_RBP_8, FRAME),
        (POP_RBX, FRAME),
        (POP_RBP, FRAME),
        (RET, Rule::CALL),
    ];
    let told = distances(&parts);
    assert_eq!(told[2..9], [Ok(0), Ok(8), Ok(48), Ok(48), Ok(48), Ok(8), Ok(0)]);
    for without_frame in [told[0], told[1], told[9]] {
        assert_eq!(without_frame, Err(NoDistance::Moves));
    }
}

#[test]
fn pushed_arguments_count_while_they_are_there() {
    let told = after_begin(&[
        (CALL, FRAME),
        (CALL, FRAME),
        (PUSH_0, FRAME),
        (CALL, FRAME),
        (ADD_RSP_8, FRAME),
        (CALL, FRAME),
    ]);
    // Behind a call with arguments on the stack nothing is sure until they are gone.
    assert_eq!(told, [Ok(48), Ok(48), Ok(48), Ok(56), Err(NoDistance::Moves), Ok(48)]);
}

#[test]
fn what_follows_a_call_that_may_not_return_is_believed_only_at_the_usual_height() {
    // The piece behind is another path's, and nothing else leads there.
    let told = after_begin(&[
        (CALL, FRAME),
        (CALL, FRAME),
        (PUSH_0, FRAME),
        (CALL, FRAME),
        (MOV_EAX_EDI, FRAME),
        (CALL, FRAME),
    ]);
    assert_eq!(told[3..], [Ok(56), Err(NoDistance::Moves), Err(NoDistance::Moves)]);
}

#[test]
fn targets_of_jump_tables_start_at_the_height_of_the_jump() {
    let told = after_begin(&[
        (JMP_RAX, FRAME),
        (NOP, Rule::CALL),
        (CALL, FRAME),
        (UD2, FRAME),
        (NOP, FRAME),
        (PUSH_0, FRAME),
        (CALL, FRAME),
    ]);
    assert_eq!(told[0], Ok(48));
    assert_eq!((told[2], told[6]), (Ok(48), Ok(56)));
    // A jump with something pushed: its targets may have it too.
    let told = after_begin(&[(CALL, FRAME), (CALL, FRAME), (PUSH_0, FRAME), (JMP_RAX, FRAME), (CALL, FRAME)]);
    assert_eq!(told[4], Err(NoDistance::NotReached));
}

#[test]
fn paths_that_meet_at_different_heights_know_nothing() {
    // je over the push
    let told = after_begin(&[(&[0x74, 0x02], FRAME), (PUSH_0, FRAME), (CALL, FRAME), (CALL, FRAME)]);
    assert_eq!(told[2..], [Err(NoDistance::Moves), Err(NoDistance::Moves)]);
}

#[test]
fn stacks_of_variable_size_have_no_distance_until_rsp_is_set_again() {
    let lea_rsp_rbp_48: &[u8] = &[0x48, 0x8d, 0x65, 0xd0];
    let told = after_begin(&[
        (CALL, FRAME),
        (SUB_RSP_RAX, FRAME),
        (CALL, FRAME),
        (lea_rsp_rbp_48, FRAME),
        (CALL, FRAME),
    ]);
    let moves = Err(NoDistance::Moves);
    assert_eq!(told, [Ok(48), Ok(48), moves, moves, Ok(48)]);
    let realigned = [(PUSH_RBP, Rule::CALL), (MOV_RBP_RSP, rsp(2)), (AND_RSP_32, FRAME), (CALL, FRAME)];
    assert_eq!(distances(&realigned)[3], Err(NoDistance::Moves));
}

#[test]
fn a_frame_above_a_realigned_address_has_a_distance() {
    let deref = Rule::deref(1).unwrap();
    let told = distances(&[
        (&[0x4c, 0x8d, 0x54, 0x24, 0x08], Rule::CALL),
        (AND_RSP_32, Rule::NONE),
        (&[0x41, 0xff, 0x72, 0xf8], Rule::NONE),
        (PUSH_RBP, Rule::NONE),
        (MOV_RBP_RSP, Rule::NONE),
        (&[0x41, 0x52], Rule::NONE),
        (SUB_RSP_40, deref),
        (CALL, deref),
    ]);
    assert_eq!(told[7], Ok(48));
}

#[test]
fn a_loop_that_probes_the_stack_ends_where_it_says() {
    let told = distances(&[
        (PUSH_RBP, Rule::CALL),
        (MOV_RBP_RSP, rsp(2)),
        // lea r11, [rsp - 0x3000]; sub rsp, 0x1000; mov qword [rsp], 0; cmp rsp, r11; jne to the sub
        (&[0x4c, 0x8d, 0x9c, 0x24, 0x00, 0xd0, 0xff, 0xff], FRAME),
        (&[0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00], FRAME),
        (&[0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0], FRAME),
        (&[0x4c, 0x39, 0xdc], FRAME),
        (&[0x75, 0xec], FRAME),
        (SUB_RSP_40, FRAME),
        (CALL, FRAME),
    ]);
    assert_eq!(told[4], Err(NoDistance::Moves));
    assert_eq!(told[8], Ok(0x3028));
}

#[test]
fn a_piece_that_begins_within_a_frame_and_what_is_no_code_have_no_distance() {
    assert_eq!(distances(&[(CALL, FRAME)])[0], Err(NoDistance::Moves));
    let none = |_| Rule::NONE;
    assert_eq!(distance_in(&[], 0, 0, none), Err(NoDistance::NotReached));
    assert_eq!(distance_in(&[0x06], 0, 0, none), Err(NoDistance::NotReached));
    assert_eq!(distance_in(&[0x90], u64::MAX, 0, none), Err(NoDistance::NotCode));
    assert_eq!(distance_in(&vec![0x90; 65 << 10], 0, 0, none), Err(NoDistance::TooLarge));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither bytes nor rules do harm.
    #[test]
    fn any_bytes_and_rules_end_in_an_answer(
        code in prop::collection::vec(any::<u8>(), 0..300),
        rules in prop::collection::vec(0u32..1 << 24, 1..8),
        framed: bool,
        start: u64,
        address in 0u64..310,
    ) {
        let begin = if framed { [PUSH_RBP, MOV_RBP_RSP].concat() } else { Vec::new() };
        let code = [begin, code].concat();
        let rule_at = |address: u64| match framed {
            true => FRAME,
            false => Rule::from_bits(rules[(address / 16) as usize % rules.len()]),
        };
        let _ = distance_in(&code, start, start.wrapping_add(address), rule_at);
    }
}
