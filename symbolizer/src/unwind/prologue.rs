//! How far rbp lies above rsp, told by a function's instructions.
//!
//! Who looks at a thread from outside through `/proc` learns its stack pointer, not its rbp, from which the frames of
//! code with frame pointers are counted. Such a function begins with `push rbp; mov rbp,rsp; push …; sub rsp,n`, and from
//! then on rbp is rsp plus the pushed registers and n: a constant, if nothing else in the function moves rsp.
//!
//! That is decided by decoding the whole function, in the order of its addresses, and anything unusual is refused: a stack
//! that is realigned, probed in a loop, grown at run time or by pushed arguments; a branch into the middle of the
//! beginning or of an end; bytes that are no instruction. So there is either no answer or the right one. Matching the
//! first bytes was refused: compilers put other instructions between the pushes, and a function that pushes again later
//! looks the same.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

use super::functions::FunctionIndex;
use crate::object::{Architecture, ObjectFile};

/// Bytes of one function; larger ones are interpreters' loops, which no thread waits in directly.
const MAX_FUNCTION: u64 = 128 << 10;
/// Ends of one function; compilers share one or make a few.
const MAX_EPILOGUES: usize = 4 << 10;

/// Why the distance is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoDistance {
    /// Another processor's code.
    #[error("code is decoded for x86-64 only")]
    Architecture,
    /// No function is known at the address.
    #[error("no function is known there")]
    NoFunction,
    /// The function is large, or has many ends.
    #[error("the function is too large")]
    TooLarge,
    /// Something in the function is no instruction.
    #[error("the function holds something that is no instruction")]
    NotCode,
    /// The function doesn't begin by setting up rbp.
    #[error("the function doesn't set up rbp first")]
    NoPrologue,
    /// rsp or rbp is changed in a way whose sum is not plain.
    #[error("the function moves its stack")]
    Moves,
    /// Control enters the function's beginning or an end in the middle.
    #[error("the function jumps into its own beginning or end")]
    Entered,
    /// The frame isn't complete at the address: it is being built or taken down.
    #[error("the frame is not complete there")]
    NotInBody,
}

/// How far rbp lies above rsp while the instruction at `address` runs, in bytes; for a caller, an address within its call.
///
/// Only asks the function's instructions: the caller has a rule for the address that counts from rbp.
///
/// Errors: wherever the answer would not be sure.
pub fn frame_pointer_distance(object: &ObjectFile, address: u64) -> Result<u64, NoDistance> {
    if object.architecture() != Architecture::X86_64 {
        return Err(NoDistance::Architecture);
    }
    let index = FunctionIndex::of(object).ok_or(NoDistance::NoFunction)?;
    let function = index.find(address).ok_or(NoDistance::NoFunction)?;
    let code = index.code(&function, MAX_FUNCTION).ok_or(NoDistance::TooLarge)?;
    FixedFrame::decode(&code, function.start)?.distance_at(address)
}

/// A function whose rbp and rsp lie equally far apart wherever its frame is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedFrame {
    body: Range<u64>,
    distance: u64,
    /// By ascending address: after the first instruction that takes something down, to the end of the last.
    epilogues: Vec<Range<u64>>,
}

impl FixedFrame {
    /// Decodes a whole function that starts at the address `start`.
    ///
    /// Errors: wherever the distance would not be sure.
    pub fn decode(code: &[u8], start: u64) -> Result<FixedFrame, NoDistance> {
        let end = start.checked_add(code.len() as u64).ok_or(NoDistance::NotCode)?;
        if code.len() as u64 > MAX_FUNCTION {
            return Err(NoDistance::TooLarge);
        }
        let mut scan = Scan {
            state: State::Start,
            frame: FixedFrame { body: end..end, distance: 0, epilogues: Vec::new() },
            targets: Vec::new(),
            targets_outside: Vec::new(),
            register_uses: InstructionInfoFactory::new(),
        };
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                return Err(NoDistance::NotCode);
            }
            scan.follow(&instruction)?;
        }
        scan.finish(start)
    }

    /// By how much rbp lies above rsp, bytes, while the instruction that holds the address runs.
    ///
    /// Errors: the frame is not complete there.
    pub fn distance_at(&self, address: u64) -> Result<u64, NoDistance> {
        let is_complete = self.body.contains(&address) && !is_within(&self.epilogues, address);
        is_complete.then_some(self.distance).ok_or(NoDistance::NotInBody)
    }
}

fn is_within(ranges: &[Range<u64>], address: u64) -> bool {
    let next = ranges.partition_point(|range| range.end <= address);
    ranges.get(next).is_some_and(|range| range.start <= address)
}

/// What the instructions so far have made of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As at the call.
    Start,
    /// The caller's rbp is pushed.
    Pushed,
    /// rbp is set; more may be pushed.
    Building,
    /// The frame is complete.
    Body,
    /// The frame is being taken down: what is left between rsp and rbp, and where that began.
    Leaving { left: u64, since: u64 },
    /// rbp is the caller's again; return or jump is to follow.
    Left { since: u64 },
}

struct Scan {
    state: State,
    frame: FixedFrame,
    /// Where branches lead within a frame, and from where it is gone.
    targets: Vec<u64>,
    targets_outside: Vec<u64>,
    register_uses: InstructionInfoFactory,
}

impl Scan {
    fn follow(&mut self, instruction: &Instruction) -> Result<(), NoDistance> {
        match instruction.flow_control() {
            FlowControl::Next => self.plain(instruction),
            flow => self.branch(flow, instruction),
        }
    }

    /// An instruction after which another follows.
    fn plain(&mut self, instruction: &Instruction) -> Result<(), NoDistance> {
        let change = Change::of(instruction, &mut self.register_uses)?;
        self.state = match (self.state, change) {
            (state, Change::None) => state,
            (State::Start, Change::PushFrame) => State::Pushed,
            (State::Pushed, Change::SetFrame) => {
                self.frame.body.start = instruction.next_ip();
                State::Building
            }
            (State::Building, Change::Grow(bytes)) => {
                self.frame.body.start = instruction.next_ip();
                self.frame.distance = self.frame.distance.checked_add(bytes).ok_or(NoDistance::Moves)?;
                State::Building
            }
            (State::Start | State::Pushed, _) => return Err(NoDistance::NoPrologue),
            // A function without calls or branches, or one that ends at once.
            (State::Building | State::Body, change) => {
                self.leave(self.frame.distance, instruction.next_ip(), change)?
            }
            (State::Leaving { left, since }, change) => self.leave(left, since, change)?,
            (State::Left { .. }, _) => return Err(NoDistance::Moves),
        };
        Ok(())
    }

    fn leave(&self, left: u64, since: u64, change: Change) -> Result<State, NoDistance> {
        let left = match change {
            Change::Shrink(bytes) => left.checked_sub(bytes).ok_or(NoDistance::Moves)?,
            Change::SetStack(above) if above <= self.frame.distance => above,
            Change::PopFrame if left == 0 => return Ok(State::Left { since }),
            Change::Leave => return Ok(State::Left { since }),
            _ => return Err(NoDistance::Moves),
        };
        Ok(State::Leaving { left, since })
    }

    fn branch(&mut self, flow: FlowControl, instruction: &Instruction) -> Result<(), NoDistance> {
        if matches!(instruction.op0_kind(), OpKind::NearBranch64) && flow != FlowControl::Call {
            let is_outside = matches!(self.state, State::Left { .. });
            let targets = if is_outside { &mut self.targets_outside } else { &mut self.targets };
            targets.push(instruction.near_branch_target());
        }
        self.state = match (self.state, flow) {
            (State::Start | State::Pushed, _) => return Err(NoDistance::NoPrologue),
            (State::Building | State::Body, FlowControl::Return) => return Err(NoDistance::Moves),
            (State::Building | State::Body, FlowControl::XbeginXabortXend) => return Err(NoDistance::Moves),
            (State::Building | State::Body, _) => State::Body,
            // What cannot be passed may stand anywhere.
            (state, FlowControl::Exception) => state,
            (State::Leaving { .. }, _) => return Err(NoDistance::Moves),
            (
                State::Left { since },
                FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch,
            ) => {
                let epilogues = &mut self.frame.epilogues;
                if epilogues.len() == MAX_EPILOGUES {
                    return Err(NoDistance::TooLarge);
                }
                epilogues.push(since..instruction.next_ip());
                State::Body
            }
            (State::Left { .. }, _) => return Err(NoDistance::Moves),
        };
        Ok(())
    }

    fn finish(self, start: u64) -> Result<FixedFrame, NoDistance> {
        match self.state {
            State::Start | State::Pushed => return Err(NoDistance::NoPrologue),
            State::Building | State::Body => {}
            State::Leaving { .. } | State::Left { .. } => return Err(NoDistance::Moves),
        }
        let frame = self.frame;
        let enters_part =
            |target: &u64| (start..frame.body.start).contains(target) || is_within(&frame.epilogues, *target);
        // A call of itself as the last thing starts over; anything else would be code without the frame.
        let enters_without_frame = |target: &u64| (start + 1..frame.body.end).contains(target);
        if self.targets.iter().any(enters_part) || self.targets_outside.iter().any(enters_without_frame) {
            return Err(NoDistance::Entered);
        }
        Ok(frame)
    }
}

/// What an instruction does to rsp and rbp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// `push rbp`
    PushFrame,
    /// `mov rbp, rsp`
    SetFrame,
    /// `push` of another register, `sub rsp, n`
    Grow(u64),
    /// `pop` to another register, `add rsp, n`
    Shrink(u64),
    /// `lea rsp, [rbp - n]`, `mov rsp, rbp`
    SetStack(u64),
    /// `pop rbp`
    PopFrame,
    /// `leave`
    Leave,
}

impl Change {
    fn of(
        instruction: &Instruction,
        register_uses: &mut InstructionInfoFactory,
    ) -> Result<Change, NoDistance> {
        if let Some(change) = Change::known(instruction) {
            return Ok(change);
        }
        let changes = register_uses.info(instruction).used_registers().iter().any(|used| {
            matches!(used.register().full_register(), Register::RSP | Register::RBP)
                && !matches!(
                    used.access(),
                    OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
                )
        });
        if changes { Err(NoDistance::Moves) } else { Ok(Change::None) }
    }

    fn known(instruction: &Instruction) -> Option<Change> {
        let [first, second] = [instruction.op0_register(), instruction.op1_register()];
        match (instruction.code(), first) {
            (Code::Push_r64, Register::RBP) => Some(Change::PushFrame),
            (Code::Push_r64, Register::RSP) => None,
            (Code::Push_r64, _) => Some(Change::Grow(8)),
            (Code::Pop_r64, Register::RBP) => Some(Change::PopFrame),
            (Code::Pop_r64, Register::RSP) => None,
            (Code::Pop_r64, _) => Some(Change::Shrink(8)),
            (Code::Leaveq, _) => Some(Change::Leave),
            (Code::Mov_rm64_r64 | Code::Mov_r64_rm64, Register::RBP) if second == Register::RSP => {
                Some(Change::SetFrame)
            }
            (Code::Mov_rm64_r64 | Code::Mov_r64_rm64, Register::RSP) if second == Register::RBP => {
                Some(Change::SetStack(0))
            }
            (Code::Lea_r64_m, Register::RSP) => Change::by_address(instruction),
            (Code::Add_rm64_imm8 | Code::Add_rm64_imm32, Register::RSP) => {
                Change::by(instruction.immediate(1) as i64)
            }
            (Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32, Register::RSP) => {
                Change::by((instruction.immediate(1) as i64).checked_neg()?)
            }
            _ => None,
        }
    }

    fn by_address(instruction: &Instruction) -> Option<Change> {
        let has_index = instruction.memory_index() != Register::None;
        let displacement = instruction.memory_displacement64() as i64;
        match instruction.memory_base() {
            Register::RSP if !has_index => Change::by(displacement),
            Register::RBP if !has_index && displacement <= 0 => {
                Some(Change::SetStack(displacement.unsigned_abs()))
            }
            _ => None,
        }
    }

    /// rsp moves by so many bytes.
    fn by(bytes: i64) -> Option<Change> {
        Some(if bytes < 0 { Change::Grow(bytes.unsigned_abs()) } else { Change::Shrink(bytes as u64) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x1000;

    fn decode(parts: &[&[u8]]) -> Result<FixedFrame, NoDistance> {
        FixedFrame::decode(&parts.concat(), START)
    }

    const ENDBR: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    const PUSH_RBP: &[u8] = &[0x55];
    const MOV_RBP_RSP: &[u8] = &[0x48, 0x89, 0xe5];
    const MOV_EAX_EDI: &[u8] = &[0x89, 0xf8];
    const PUSH_R15: &[u8] = &[0x41, 0x57];
    const PUSH_RBX: &[u8] = &[0x53];
    const SUB_RSP_40: &[u8] = &[0x48, 0x83, 0xec, 0x28];
    const ADD_RSP_40: &[u8] = &[0x48, 0x83, 0xc4, 0x28];
    const CALL: &[u8] = &[0xe8, 0, 0, 1, 0];
    const POP_RBX: &[u8] = &[0x5b];
    const POP_R15: &[u8] = &[0x41, 0x5f];
    const POP_RBP: &[u8] = &[0x5d];
    const RET: &[u8] = &[0xc3];
    const LEAVE: &[u8] = &[0xc9];
    const AND_RSP: &[u8] = &[0x48, 0x83, 0xe4, 0xe0];
    const SUB_RSP_RAX: &[u8] = &[0x48, 0x29, 0xc4];
    const MOV_EBP_EAX: &[u8] = &[0x89, 0xc5];
    const LEA_RSP_RBP_16: &[u8] = &[0x48, 0x8d, 0x65, 0xf0];
    const LEA_RSP_RSP_MINUS_128: &[u8] = &[0x48, 0x8d, 0x64, 0x24, 0x80];
    const SYSCALL: &[u8] = &[0x0f, 0x05];

    /// A whole frame of 16 + 40 bytes; its call lies at byte 15.
    const WHOLE: [&[u8]; 13] = [
        ENDBR,
        PUSH_RBP,
        MOV_EAX_EDI,
        MOV_RBP_RSP,
        PUSH_R15,
        MOV_EAX_EDI,
        PUSH_RBX,
        SUB_RSP_40,
        CALL,
        ADD_RSP_40,
        POP_RBX,
        POP_R15,
        POP_RBP,
    ];

    fn whole_and(rest: &[&[u8]]) -> Result<FixedFrame, NoDistance> {
        decode(&[&WHOLE[..], rest].concat())
    }

    #[test]
    fn the_distance_holds_where_the_frame_is_complete_and_nowhere_else() {
        // A second part without return, as compilers put it behind.
        let frame = whole_and(&[RET, CALL]).unwrap();
        let call = START + 19;
        let told: Vec<u64> =
            (START..START + 43).filter(|address| frame.distance_at(*address).is_ok()).collect();
        let body: Vec<u64> = (call..call + 5 + 4).chain(call + 14..call + 19).collect();
        assert_eq!(told, body);
        assert_eq!(frame.distance_at(call + 4), Ok(16 + 40));
        assert_eq!(frame.distance_at(START), Err(NoDistance::NotInBody));
    }

    #[test]
    fn every_usual_form_is_understood() {
        let body = |parts: &[&[u8]]| decode(parts).map(|frame| frame.distance);
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, RET]), Ok(0));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, SYSCALL, POP_RBP, RET]), Ok(0));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, SUB_RSP_40, CALL, LEAVE, RET]), Ok(40));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, LEA_RSP_RSP_MINUS_128, CALL]), Ok(128));
        let pops =
            [PUSH_RBP, MOV_RBP_RSP, PUSH_R15, PUSH_RBX, SUB_RSP_40, CALL, LEA_RSP_RBP_16, POP_RBX, POP_R15];
        assert_eq!(body(&[&pops[..], &[POP_RBP, RET]].concat()), Ok(56));
        // The last thing is a jump: to another function, or to the own beginning.
        let to_start = [0xe9, 0xf1, 0xff, 0xff, 0xff];
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, &to_start]), Ok(0));
    }

    #[test]
    fn what_is_not_sure_has_no_distance() {
        use NoDistance::{Entered, Moves, NoPrologue, NotCode};
        let refused = |parts: &[&[u8]]| decode(parts).unwrap_err();
        assert_eq!(refused(&[]), NoPrologue);
        assert_eq!(refused(&[PUSH_RBP, CALL]), NoPrologue);
        assert_eq!(refused(&[PUSH_RBX, PUSH_RBP, MOV_RBP_RSP, CALL]), NoPrologue);
        assert_eq!(refused(&[PUSH_RBP, PUSH_RBX, MOV_RBP_RSP, CALL]), NoPrologue);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, AND_RSP, CALL]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, SUB_RSP_RAX, CALL]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, MOV_EBP_EAX, CALL]), Moves);
        // Arguments pushed for a call, before the first branch and later.
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, CALL, POP_R15, CALL]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, PUSH_RBX, CALL]), Moves);
        // Ends that don't fit the beginning.
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, CALL, POP_RBP, RET]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBX, POP_RBP, RET]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, RET]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, CALL]), Moves);
        // Half an instruction, and none.
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, &CALL[..3]]), NotCode);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, &[0x06]]), NotCode);
        // Into the beginning, into an end, and into the body without a frame.
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, CALL, &[0xeb, 0xf8]]), Entered);
        assert_eq!(
            refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, &[0x74, 0x06], CALL, POP_RBX, POP_RBP, RET]),
            Entered
        );
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, &[0xeb, 0xf8]]), Entered);
        assert!(whole_and(&[RET]).is_ok());
        assert_eq!(whole_and(&[POP_RBP, RET]).unwrap_err(), Moves);
        assert_eq!(FixedFrame::decode(&[0x55], u64::MAX).unwrap_err(), NotCode);
        assert_eq!(FixedFrame::decode(&vec![0x90; 129 << 10], 0).unwrap_err(), NoDistance::TooLarge);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_do_harm(code in prop::collection::vec(any::<u8>(), 0..400), start: u64, has_frame: bool) {
            let begin = if has_frame { [PUSH_RBP, MOV_RBP_RSP].concat() } else { Vec::new() };
            let code = [begin, code].concat();
            if let Ok(frame) = FixedFrame::decode(&code, start) {
                prop_assert!(frame.body.end - start == code.len() as u64);
                prop_assert!(frame.epilogues.is_sorted_by(|left, right| left.end <= right.start));
                prop_assert!(frame.distance_at(start).is_err());
            }
        }
    }
}
