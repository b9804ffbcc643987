//! How far rbp lies above rsp, told by a function's instructions.
//!
//! Who looks at a thread from outside through `/proc` learns its stack pointer, not its rbp, from which the frames of
//! code with frame pointers are counted. Such a function begins with `push rbp; mov rbp,rsp; push …; sub rsp,n`, and from
//! then on rbp is rsp plus the pushed registers and n: a constant, if nothing else in the function moves rsp.
//!
//! That is decided by decoding the whole function, in the order of its addresses, and anything unusual is refused: a stack
//! that is realigned, probed in a loop or grown at run time; a branch into the middle of the beginning or of an end; bytes
//! that are no instruction. Arguments that are pushed for one call count for that call, if they are taken back right after
//! it; if they are not (the call doesn't return, or the compiler puts it off), nothing is told until a branch from where
//! the stack is known leads there. So there is either no answer or the right one.
//!
//! Matching the first bytes was refused: compilers put other instructions between the pushes, and a function that pushes
//! again later looks the same.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

use super::functions::FunctionIndex;
use crate::object::{Architecture, ObjectFile};

/// Bytes of one function; larger ones are interpreters' loops, which no thread waits in directly.
const MAX_FUNCTION: u64 = 128 << 10;
/// Ends and calls with pushed arguments of one function.
const MAX_PARTS: usize = 8 << 10;
/// What calls keep rsp a multiple of, and so the distance, as rbp is one too.
const ALIGNMENT: u64 = 16;
/// What large frames are grown by at a time, so that each page is touched.
const PAGE: u64 = 4096;

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
    /// No path through the function's code leads to the address.
    #[error("no path through the function leads there")]
    NotReached,
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
    /// What differs, by ascending address.
    parts: Vec<Part>,
}

/// A stretch of a function where rsp lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    range: Range<u64>,
    distance: Option<u64>,
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
        let mut targets = Vec::new();
        for_each_instruction(code, start, |instruction| {
            targets.extend(target(instruction));
            Ok(())
        })?;
        targets.sort_unstable();
        let mut scan = Scan {
            state: State::Start,
            frame: FixedFrame { body: end..end, distance: 0, parts: Vec::new() },
            targets,
            targets_without_frame: Vec::new(),
            register_uses: InstructionInfoFactory::new(),
        };
        for_each_instruction(code, start, |instruction| scan.follow(instruction))?;
        scan.finish(start)
    }

    /// By how much rbp lies above rsp, bytes, while the instruction that holds the address runs.
    ///
    /// Errors: the frame is not complete there, or rsp is not known.
    pub fn distance_at(&self, address: u64) -> Result<u64, NoDistance> {
        let distance = match part(&self.parts, address) {
            Some(part) => part.distance,
            None => self.body.contains(&address).then_some(self.distance),
        };
        distance.ok_or(NoDistance::NotInBody)
    }
}

fn part(parts: &[Part], address: u64) -> Option<&Part> {
    let next = parts.partition_point(|part| part.range.end <= address);
    parts.get(next).filter(|part| part.range.start <= address)
}

fn for_each_instruction(
    code: &[u8],
    start: u64,
    mut visit: impl FnMut(&Instruction) -> Result<(), NoDistance>,
) -> Result<(), NoDistance> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return Err(NoDistance::NotCode);
        }
        visit(&instruction)?;
    }
    Ok(())
}

/// Where a branch that is no call leads.
fn target(instruction: &Instruction) -> Option<u64> {
    let is_branch =
        instruction.flow_control() != FlowControl::Call && instruction.op0_kind() == OpKind::NearBranch64;
    is_branch.then(|| instruction.near_branch_target())
}

/// What the instructions so far have made of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As at the call.
    Start,
    /// The caller's rbp is pushed.
    Pushed,
    /// rbp is set; registers may be saved until room is made, in one step or by whole pages.
    Building { saved: Saved, room: u64 },
    /// The frame is complete.
    Body,
    /// Arguments are pushed.
    Passing { extra: u64, since: u64 },
    /// They were passed, and so many bytes are to be taken back.
    Passed { extra: u64, since: u64 },
    /// They were not taken back at once.
    Unsure { since: u64 },
    /// The frame is being taken down: what is left between rsp and rbp, and where that began.
    Leaving { left: u64, since: u64 },
    /// rbp is the caller's again; return or jump is to follow.
    Left { since: u64 },
}

/// Registers that a function must keep, and has saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Saved([bool; 5]);

impl Saved {
    const KEPT: [Register; 5] = [Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];

    /// With one more; `None` where its being pushed doesn't mean that it is saved.
    fn and(mut self, register: Register) -> Option<Saved> {
        let number = Saved::KEPT.iter().position(|kept| *kept == register)?;
        (!std::mem::replace(&mut self.0[number], true)).then_some(self)
    }
}

struct Scan {
    state: State,
    frame: FixedFrame,
    /// Where branches lead, by ascending address.
    targets: Vec<u64>,
    /// Where they lead after the frame is gone.
    targets_without_frame: Vec<u64>,
    register_uses: InstructionInfoFactory,
}

impl Scan {
    fn follow(&mut self, instruction: &Instruction) -> Result<(), NoDistance> {
        if let State::Passed { since, .. } | State::Unsure { since } = self.state
            && self.targets.binary_search(&instruction.ip()).is_ok()
        {
            // Branches start where the frame is complete. So it is complete here too.
            self.differs(since..instruction.ip(), None)?;
            self.state = State::Body;
        }
        let next = instruction.next_ip();
        self.state = match instruction.flow_control() {
            FlowControl::Next => {
                let change = Change::of(instruction, &mut self.register_uses)?;
                if change == Change::None { self.state } else { self.change(change, instruction.ip(), next)? }
            }
            FlowControl::Call | FlowControl::IndirectCall => self.call(instruction)?,
            // What cannot be passed may stand anywhere, and ends whatever was before.
            FlowControl::Exception => match self.state {
                State::Passing { since, .. } | State::Passed { since, .. } | State::Unsure { since } => {
                    self.differs(since..next, None)?;
                    State::Body
                }
                state => state,
            },
            flow => self.branch(flow, instruction)?,
        };
        Ok(())
    }

    /// An instruction that moves rsp or rbp, and after which another follows.
    fn change(&mut self, change: Change, here: u64, next: u64) -> Result<State, NoDistance> {
        match self.state {
            State::Start if change == Change::PushFrame => Ok(State::Pushed),
            State::Pushed if change == Change::SetFrame => {
                self.frame.body.start = next;
                Ok(State::Building { saved: Saved::default(), room: 0 })
            }
            State::Start | State::Pushed => Err(NoDistance::NoPrologue),
            State::Building { saved, room } => {
                match build(change, saved, room, here == self.frame.body.start) {
                    Some((state, bytes)) => {
                        self.frame.body.start = next;
                        self.frame.distance =
                            self.frame.distance.checked_add(bytes).ok_or(NoDistance::Moves)?;
                        Ok(state)
                    }
                    None => self.in_body(change, next),
                }
            }
            State::Body => self.in_body(change, next),
            // `push 1; pop rdi` is the shortest way to say 1.
            State::Passing { extra, since } if change == Change::Shrink(extra) => {
                self.differs(since..next, None)?;
                Ok(State::Body)
            }
            State::Passing { extra, since } => {
                let extra = extra.checked_add(change.grows().ok_or(NoDistance::Moves)?);
                Ok(State::Passing { extra: extra.ok_or(NoDistance::Moves)?, since })
            }
            State::Passed { extra, since } => match change {
                Change::Shrink(bytes) if bytes == extra => {
                    self.differs(since..next, None)?;
                    Ok(State::Body)
                }
                Change::Shrink(bytes) => {
                    Ok(State::Passed { extra: extra.checked_sub(bytes).ok_or(NoDistance::Moves)?, since })
                }
                Change::SetStack(_) | Change::Leave => self.leave(0, since, change),
                _ if change.grows().is_some() => Ok(State::Unsure { since }),
                _ => Err(NoDistance::Moves),
            },
            State::Unsure { since } if change.grows().is_some() => Ok(State::Unsure { since }),
            State::Unsure { .. } => Err(NoDistance::Moves),
            State::Leaving { left, since } => self.leave(left, since, change),
            State::Left { .. } => Err(NoDistance::Moves),
        }
    }

    fn in_body(&self, change: Change, since: u64) -> Result<State, NoDistance> {
        match change.grows() {
            Some(extra) => Ok(State::Passing { extra, since }),
            None => self.leave(self.frame.distance, since, change),
        }
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

    fn call(&mut self, instruction: &Instruction) -> Result<State, NoDistance> {
        let range = instruction.ip()..instruction.next_ip();
        let is_aligned =
            |distance: u64| distance.is_multiple_of(ALIGNMENT) || instruction.code() == Code::Syscall;
        match self.state {
            State::Start | State::Pushed => Err(NoDistance::NoPrologue),
            State::Building { .. } | State::Body if is_aligned(self.frame.distance) => Ok(State::Body),
            State::Passing { extra, since } => {
                let distance =
                    self.frame.distance.checked_add(extra).filter(|distance| is_aligned(*distance));
                self.differs(since..range.start, None)?;
                self.differs(range.clone(), Some(distance.ok_or(NoDistance::Moves)?))?;
                Ok(State::Passed { extra, since: range.end })
            }
            State::Passed { since, .. } | State::Unsure { since } => Ok(State::Unsure { since }),
            _ => Err(NoDistance::Moves),
        }
    }

    fn branch(&mut self, flow: FlowControl, instruction: &Instruction) -> Result<State, NoDistance> {
        use FlowControl::{IndirectBranch, Return, UnconditionalBranch, XbeginXabortXend};
        match (self.state, flow) {
            (State::Start | State::Pushed, _) => Err(NoDistance::NoPrologue),
            (_, XbeginXabortXend) => Err(NoDistance::Moves),
            (State::Left { since }, Return | UnconditionalBranch | IndirectBranch) => {
                self.targets_without_frame.extend(target(instruction));
                self.differs(since..instruction.next_ip(), None)?;
                Ok(State::Body)
            }
            (_, Return) => Err(NoDistance::Moves),
            (State::Building { .. } | State::Body, _) => Ok(State::Body),
            _ => Err(NoDistance::Moves),
        }
    }

    fn differs(&mut self, range: Range<u64>, distance: Option<u64>) -> Result<(), NoDistance> {
        if self.frame.parts.len() == MAX_PARTS {
            return Err(NoDistance::TooLarge);
        }
        if !range.is_empty() {
            self.frame.parts.push(Part { range, distance });
        }
        Ok(())
    }

    fn finish(mut self, start: u64) -> Result<FixedFrame, NoDistance> {
        match self.state {
            State::Start | State::Pushed => return Err(NoDistance::NoPrologue),
            State::Building { .. } | State::Body => {}
            State::Passed { since, .. } | State::Unsure { since } => {
                self.differs(since..self.frame.body.end, None)?;
            }
            State::Passing { .. } | State::Leaving { .. } | State::Left { .. } => {
                return Err(NoDistance::Moves);
            }
        }
        let frame = self.frame;
        let without_frame = |target: &u64| self.targets_without_frame.contains(target);
        let enters = |target: &u64| {
            // A call of itself as the last thing starts over.
            let is_in_beginning = (start..frame.body.start).contains(target);
            is_in_beginning && !(*target == start && without_frame(target))
                || part(&frame.parts, *target).is_some()
        };
        let is_body_without_frame = |target: &u64| frame.body.contains(target);
        if self.targets.iter().any(enters) || self.targets_without_frame.iter().any(is_body_without_frame) {
            return Err(NoDistance::Entered);
        }
        Ok(frame)
    }
}

/// One more step of a prologue, and what it adds; `None` where the prologue is over.
fn build(change: Change, saved: Saved, room: u64, is_adjacent: bool) -> Option<(State, u64)> {
    match change {
        Change::Push(register) if room == 0 => match saved.and(register) {
            Some(saved) => Some((State::Building { saved, room: 0 }, 8)),
            // Shorter than `sub rsp, 8`.
            None if register == Register::RAX && is_adjacent => Some((State::Building { saved, room: 8 }, 8)),
            None => None,
        },
        Change::Grow(bytes) if room.is_multiple_of(PAGE) => {
            Some((State::Building { saved, room: bytes }, bytes))
        }
        _ => None,
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
    /// `push` of another register, or of something else that is then no register.
    Push(Register),
    /// `sub rsp, n`
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
    /// By how much the stack grows, for what only grows it.
    fn grows(self) -> Option<u64> {
        match self {
            // Also rbp may be passed.
            Change::PushFrame | Change::Push(_) => Some(8),
            Change::Grow(bytes) => Some(bytes),
            _ => None,
        }
    }

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
            (Code::Push_r64, register) => Some(Change::Push(register)),
            (Code::Pushq_imm8 | Code::Pushq_imm32 | Code::Push_rm64, _) => Some(Change::Push(Register::None)),
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
    const SUB_RSP_48: &[u8] = &[0x48, 0x83, 0xec, 0x30];
    const ADD_RSP_48: &[u8] = &[0x48, 0x83, 0xc4, 0x30];
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
    const PUSH_1: &[u8] = &[0x6a, 1];
    const PUSH_RAX: &[u8] = &[0x50];
    const ADD_RSP_16: &[u8] = &[0x48, 0x83, 0xc4, 0x10];
    /// To the instruction after next, if that has one byte.
    const JUMP: &[u8] = &[0xeb, 1];
    const SYSCALL: &[u8] = &[0x0f, 0x05];

    /// A whole frame of 16 + 48 bytes; its call lies at byte 15.
    const WHOLE: [&[u8]; 13] = [
        ENDBR,
        PUSH_RBP,
        MOV_EAX_EDI,
        MOV_RBP_RSP,
        PUSH_R15,
        MOV_EAX_EDI,
        PUSH_RBX,
        SUB_RSP_48,
        CALL,
        ADD_RSP_48,
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
        assert_eq!(frame.distance_at(call + 4), Ok(16 + 48));
        assert_eq!(frame.distance_at(START), Err(NoDistance::NotInBody));
    }

    #[test]
    fn every_usual_form_is_understood() {
        let body = |parts: &[&[u8]]| decode(parts).map(|frame| frame.distance);
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, RET]), Ok(0));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, SYSCALL, POP_RBP, RET]), Ok(0));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, SUB_RSP_48, CALL, LEAVE, RET]), Ok(48));
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, LEA_RSP_RSP_MINUS_128, CALL]), Ok(128));
        let pops =
            [PUSH_RBP, MOV_RBP_RSP, PUSH_R15, PUSH_RBX, SUB_RSP_48, CALL, LEA_RSP_RBP_16, POP_RBX, POP_R15];
        assert_eq!(body(&[&pops[..], &[POP_RBP, RET]].concat()), Ok(64));
        // The last thing is a jump: to another function, or to the own beginning.
        let to_start = [0xe9, 0xf1, 0xff, 0xff, 0xff];
        assert_eq!(body(&[PUSH_RBP, MOV_RBP_RSP, CALL, POP_RBP, &to_start]), Ok(0));
    }

    #[test]
    fn pushed_arguments_count_for_their_call_alone() {
        let told = |parts: &[&[u8]]| {
            let frame = decode(parts).unwrap();
            let mut starts =
                parts.iter().scan(START, |at, part| Some(std::mem::replace(at, *at + part.len() as u64)));
            let calls = parts.iter().filter_map(|part| starts.next().filter(|_| *part == CALL));
            calls.map(|call| frame.distance_at(call + 4).ok()).collect::<Vec<_>>()
        };
        let begin = [PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, PUSH_RAX];
        let and = |rest: &[&'static [u8]]| told(&[&begin[..], rest].concat());
        let end = [ADD_RSP_16, POP_RBP, RET];
        assert_eq!(and(&[&[CALL][..], &end].concat()), [Some(16)]);
        assert_eq!(
            and(&[&[PUSH_1, PUSH_1, CALL, ADD_RSP_16, CALL][..], &end].concat()),
            [Some(32), Some(16)]
        );
        assert_eq!(
            and(&[&[CALL, PUSH_RBX, PUSH_1, CALL, POP_RBX, POP_RBX, CALL][..], &end].concat()).len(),
            3
        );
        assert_eq!(and(&[&[PUSH_1, POP_RBX, CALL][..], &end].concat()), [Some(16)]);
        // It may not return, or they may be taken back later: nothing is known until a branch leads there.
        assert_eq!(and(&[PUSH_1, PUSH_1, CALL, CALL, CALL]), [Some(32), None, None]);
        let jump_over: &[u8] = &[0xeb, 9];
        assert_eq!(and(&[jump_over, PUSH_1, PUSH_1, CALL, CALL]), [Some(32), Some(16)]);
        assert_eq!(and(&[PUSH_1, PUSH_1, CALL, LEAVE, RET, CALL]), [Some(32), Some(16)]);
        // Taken back by an end that takes the frame's own for it.
        assert_eq!(
            decode(&[&begin[..], &[PUSH_1, PUSH_1, CALL], &end].concat()).unwrap_err(),
            NoDistance::Moves
        );
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
        // Calls with a stack that is not aligned, and branches with a stack that is not the body's.
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_RBX, CALL]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, PUSH_RBX, CALL]), Moves);
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, CALL, PUSH_1, PUSH_1, JUMP, CALL]), Moves);
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
        assert_eq!(refused(&[PUSH_RBP, MOV_RBP_RSP, PUSH_R15, PUSH_RBX, CALL, &[0xeb, 0xf8]]), Entered);
        assert_eq!(
            refused(&[
                PUSH_RBP,
                MOV_RBP_RSP,
                PUSH_R15,
                PUSH_RBX,
                &[0x74, 0x06],
                CALL,
                POP_RBX,
                POP_R15,
                POP_RBP,
                RET
            ]),
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
                prop_assert!(frame.parts.is_sorted_by(|left, right| left.range.end <= right.range.start));
                prop_assert!(frame.distance_at(start).is_err());
            }
        }
    }
}
