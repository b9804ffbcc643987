//! How far rbp lies above rsp at one place of a function, by following its instructions and its unwind rules.
//!
//! Who looks at a thread from outside through `/proc` learns its stack pointer, not its rbp, from which the frames of code
//! with frame pointers are counted. The function is followed from its start along every path, and what is known of rsp
//! and rbp is kept per instruction as a *height*: so many bytes above the stack pointer at the function's entry, or above
//! the unknown address that a realignment or an allocation of variable size left (its *base*). Two heights over one base
//! have a distance. Where paths meet with different heights, nothing is known from there on.
//!
//! The unwind rules are the authority, the instructions fill in what they leave open: a rule that counts from rsp says
//! where rsp is, one that counts from rbp where rbp is. What the instructions add is rsp within a frame that is counted
//! from rbp, which no rule tells.
//!
//! Three things are not told by following branches, and each is handled so that there is no answer rather than a wrong one:
//!
//! - **Calls that never return.** What stands behind one may belong to another path. So a height other than the one at
//!   which most of the function's calls are made counts only if the last call before it was made at that height.
//! - **Targets of jump tables and of exceptions.** Code that no path has reached is taken to start at the height of most
//!   calls, if every jump through a register is made at that height.
//! - **Stack probes in a loop** end where rsp equals a register, whose height is kept for that.
//!
//! Refused: matching the first bytes (compilers put other instructions between the pushes, and a function that pushes
//! arguments looks the same); one distance per function, in the order of its addresses, which gives up a function for one
//! realignment or jump in it (the `frame_pointer_distance` benchmark counts places: 90 % of a large C++ program's against
//! 99 %, of the Rust standard library's 96 % against all; the two never differed, over 90,000 places).

use std::collections::HashMap;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::functions::FunctionIndex;
use super::rule::{Rule, RuleKind};
use crate::object::{Architecture, ObjectFile};

mod known;

use known::{Height, Known, LastCall};

/// Bytes of one function; larger ones are interpreters' loops, which no thread waits in directly. Following one of this size
/// takes 2 MB for a moment.
const MAX_FUNCTION: u64 = 64 << 10;
/// Times that an instruction may be followed, on average, before the function is given up: what is known of a place
/// changes at most a handful of times.
const MAX_ROUNDS: usize = 8;
/// Pieces of code that no branch leads to, of one function.
const MAX_PIECES: usize = 4 << 10;

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
    /// The function is too large to be followed.
    #[error("the function is too large")]
    TooLarge,
    /// What stands there is no instruction, or two paths read it differently.
    #[error("the function holds something that is no instruction")]
    NotCode,
    /// rsp or rbp is moved in a way whose sum is not known: by a variable, or differently on two paths.
    #[error("the function moves its stack")]
    Moves,
    /// No path through the function's code leads to the address.
    #[error("no path through the function leads there")]
    NotReached,
}

/// How far rbp lies above rsp while the instruction at `address` runs, in bytes; for a caller, an address within its call.
///
/// `rule_at` gives the object's unwind rules. Reads the function's code and follows it all: some 50 microseconds.
///
/// Errors: wherever the answer would not be sure.
pub fn frame_pointer_distance(
    object: &ObjectFile,
    address: u64,
    rule_at: impl Fn(u64) -> Rule,
) -> Result<u64, NoDistance> {
    if object.architecture() != Architecture::X86_64 {
        return Err(NoDistance::Architecture);
    }
    let index = FunctionIndex::of(object).ok_or(NoDistance::NoFunction)?;
    let function = index.find(address).ok_or(NoDistance::NoFunction)?;
    let code = index.code(&function, MAX_FUNCTION).ok_or(NoDistance::TooLarge)?;
    distance_in(&code, function.start, address, rule_at)
}

/// As [`frame_pointer_distance`], in the function whose code starts at the address `start`.
///
/// Errors: wherever the answer would not be sure.
pub fn distance_in(
    code: &[u8],
    start: u64,
    address: u64,
    rule_at: impl Fn(u64) -> Rule,
) -> Result<u64, NoDistance> {
    if code.len() as u64 > MAX_FUNCTION {
        return Err(NoDistance::TooLarge);
    }
    if start.checked_add(code.len() as u64).is_none() {
        return Err(NoDistance::NotCode);
    }
    let mut paths = Paths {
        code,
        start,
        rule_at,
        seen: HashMap::new(),
        open: Vec::new(),
        steps: code.len().saturating_mul(MAX_ROUNDS),
        uses: InstructionInfoFactory::new(),
    };
    paths.enter(start, Known::NOTHING);
    paths.follow()?;
    paths.distance_at(address)
}

/// An instruction that a path leads to.
struct Place {
    before: Known,
    length: u8,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Call,
    /// A jump through a register or memory.
    Jump,
}

struct Paths<'a, R> {
    code: &'a [u8],
    start: u64,
    rule_at: R,
    seen: HashMap<u64, Place>,
    /// Places to follow from.
    open: Vec<u64>,
    /// How many more instructions may be followed.
    steps: usize,
    uses: InstructionInfoFactory,
}

impl<'a, R: Fn(u64) -> Rule> Paths<'a, R> {
    /// A path leads to an address.
    fn enter(&mut self, address: u64, known: Known) {
        if self.code_at(address).is_none() {
            return;
        }
        let rule = (self.rule_at)(address);
        match self.seen.get_mut(&address) {
            None => {
                let before = known.by_rule(rule);
                self.seen.insert(address, Place { before, length: 0, kind: Kind::Plain });
            }
            Some(place) => {
                let met = place.before.meet(known).by_rule(rule);
                if met == place.before {
                    return;
                }
                place.before = met;
            }
        }
        self.open.push(address);
    }

    /// The function's code from an address on; `None` outside of it.
    fn code_at(&self, address: u64) -> Option<&'a [u8]> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.code.get(offset..).filter(|bytes| !bytes.is_empty())
    }

    /// Follows all paths to their ends.
    fn follow(&mut self) -> Result<(), NoDistance> {
        let mut instruction = Instruction::default();
        while let Some(address) = self.open.pop() {
            self.steps = self.steps.checked_sub(1).ok_or(NoDistance::TooLarge)?;
            let Some(bytes) = self.code_at(address) else { continue };
            let Some(place) = self.seen.get_mut(&address) else { continue };
            let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                continue;
            }
            place.length = instruction.len() as u8;
            let mut known = place.before;
            let flow = instruction.flow_control();
            place.kind = match flow {
                FlowControl::Call | FlowControl::IndirectCall => Kind::Call,
                FlowControl::IndirectBranch => Kind::Jump,
                _ => Kind::Plain,
            };
            match flow {
                FlowControl::Next => known = self.after(known, &instruction),
                FlowControl::Call | FlowControl::IndirectCall => known.called(),
                FlowControl::Return
                | FlowControl::IndirectBranch
                | FlowControl::Exception
                | FlowControl::Interrupt => continue,
                FlowControl::UnconditionalBranch => {
                    self.branch(known, &instruction);
                    continue;
                }
                FlowControl::ConditionalBranch => {
                    let (taken, passed) = by_comparison(known, &instruction);
                    self.branch(taken, &instruction);
                    known = passed;
                }
                FlowControl::XbeginXabortXend => known = Known::NOTHING,
            }
            self.enter(instruction.next_ip(), known);
        }
        Ok(())
    }

    fn branch(&mut self, known: Known, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::NearBranch64 {
            self.enter(instruction.near_branch_target(), Known { is_compared: false, ..known });
        }
    }

    /// What is known after an instruction that the next one follows.
    fn after(&mut self, before: Known, instruction: &Instruction) -> Known {
        let mut known = Known { is_compared: false, ..before };
        let [first, second] = [instruction.op0_register(), instruction.op1_register()];
        match instruction.code() {
            Code::Push_r64 | Code::Push_rm64 | Code::Pushq_imm8 | Code::Pushq_imm32 => known.move_rsp(-8),
            Code::Pop_r64 | Code::Pop_rm64 => {
                known.move_rsp(8);
                // Into rsp: nothing is known of it then.
                known.set(first, None);
            }
            Code::Leaveq => {
                known.rsp = known.rbp.and_then(|height| height.moved(8));
                known.rbp = None;
            }
            Code::Mov_rm64_r64 | Code::Mov_r64_rm64 if is_register(instruction) => {
                known.set(first, known.height_of(second));
            }
            Code::Lea_r64_m => {
                let is_plain = instruction.memory_index() == Register::None;
                let base = known.height_of(instruction.memory_base()).filter(|_| is_plain);
                known.set(
                    first,
                    base.and_then(|height| height.moved(instruction.memory_displacement64() as i64)),
                );
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 if instruction.op0_kind() == OpKind::Register => {
                let by = instruction.immediate(1) as i64;
                known.set(first, known.height_of(first).and_then(|height| height.moved(by)));
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if instruction.op0_kind() == OpKind::Register => {
                let by = (instruction.immediate(1) as i64).checked_neg();
                known.set(first, known.height_of(first).and_then(|height| height.moved(by?)));
            }
            Code::And_rm64_imm8 | Code::And_rm64_imm32 | Code::Sub_rm64_r64 | Code::Sub_r64_rm64
                if first == Register::RSP =>
            {
                known.rebase((instruction.ip() - self.start) as u32 + 1);
            }
            _ => {
                self.forget_written(&mut known, instruction);
                let compared = [first, second];
                known.is_compared = instruction.mnemonic() == Mnemonic::Cmp
                    && known.other.is_some_and(|(register, _)| {
                        compared == [Register::RSP, register] || compared == [register, Register::RSP]
                    });
            }
        }
        known
    }

    /// Nothing is known of registers that an instruction writes.
    fn forget_written(&mut self, known: &mut Known, instruction: &Instruction) {
        for used in self.uses.info(instruction).used_registers() {
            let reads = [OpAccess::None, OpAccess::Read, OpAccess::CondRead, OpAccess::NoMemAccess]
                .contains(&used.access());
            if !reads {
                known.set(used.register().full_register(), None);
            }
        }
    }

    /// The answer, once all paths were followed.
    fn distance_at(&mut self, address: u64) -> Result<u64, NoDistance> {
        let usual = self.usual();
        let mut pieces = 0;
        let known = loop {
            if let Some(known) = self.at(address)? {
                break known;
            }
            pieces += 1;
            if pieces > MAX_PIECES {
                return Err(NoDistance::TooLarge);
            }
            self.enter_unreached(address, usual.ok_or(NoDistance::NotReached)?)?;
        };
        let (rsp, rbp) = known.rsp.zip(known.rbp).ok_or(NoDistance::Moves)?;
        if rsp.base != rbp.base {
            return Err(NoDistance::Moves);
        }
        let is_usual = usual.is_some_and(|usual| usual.rsp == rsp);
        let is_certain = match known.last_call {
            LastCall::None => true,
            LastCall::At(height) => usual.is_some_and(|usual| usual.rsp == height),
            LastCall::Unknown => false,
        };
        if !is_usual && !is_certain {
            return Err(NoDistance::Moves);
        }
        u64::try_from(i64::from(rbp.bytes) - i64::from(rsp.bytes)).map_err(|_| NoDistance::Moves)
    }

    /// What is known before the instruction that holds an address; `None` where no path leads.
    fn at(&self, address: u64) -> Result<Option<Known>, NoDistance> {
        const LONGEST: u64 = 15;
        let mut holders = (0..LONGEST).filter_map(|back| {
            let place = self.seen.get(&address.checked_sub(back)?)?;
            (u64::from(place.length) > back).then_some(place.before)
        });
        let found = holders.next();
        // Two instructions over one another: one of the paths isn't real.
        if holders.next().is_some() { Err(NoDistance::NotCode) } else { Ok(found) }
    }

    /// What holds at most of the frame's calls and jumps.
    fn usual(&self) -> Option<Usual> {
        let mut counts: HashMap<Usual, usize> = HashMap::new();
        for (address, place) in &self.seen {
            let has_frame = matches!((self.rule_at)(*address).kind(), RuleKind::Rbp | RuleKind::Deref);
            let usual = Usual::of(&place.before)
                .filter(|usual| has_frame && place.kind != Kind::Plain && usual.rsp.base == usual.rbp.base);
            if let Some(usual) = usual {
                *counts.entry(usual).or_default() += 1;
            }
        }
        // Of two that are as frequent it is the higher: arguments that are pushed for a call make it lower.
        counts
            .into_iter()
            .max_by_key(|(usual, count)| (*count, usual.rsp.bytes, usual.rsp.base))
            .map(|(usual, _)| usual)
    }

    /// Enters the code before `address` that no path has reached.
    fn enter_unreached(&mut self, address: u64, usual: Usual) -> Result<(), NoDistance> {
        let jumps = self.seen.iter().filter(|(_, place)| place.kind == Kind::Jump);
        let mut in_frame = jumps.filter(|(address, _)| {
            matches!((self.rule_at)(**address).kind(), RuleKind::Rbp | RuleKind::Deref)
        });
        if !in_frame.all(|(_, place)| Usual::of(&place.before) == Some(usual)) {
            return Err(NoDistance::NotReached);
        }
        let before = self.seen.iter().filter(|(start, place)| **start < address && place.length > 0);
        let end = before.map(|(start, place)| start + u64::from(place.length)).max();
        let piece = end.and_then(|end| self.skip_padding(end)).filter(|piece| *piece <= address);
        let piece = piece.ok_or(NoDistance::NotReached)?;
        if self.seen.contains_key(&piece) {
            // It is no instruction.
            return Err(NoDistance::NotCode);
        }
        let has_frame = matches!((self.rule_at)(piece).kind(), RuleKind::Rbp | RuleKind::Deref);
        let known = Known {
            rsp: has_frame.then_some(usual.rsp),
            rbp: has_frame.then_some(usual.rbp),
            last_call: LastCall::At(usual.rsp),
            ..Known::NOTHING
        };
        self.enter(piece, known);
        self.follow()
    }

    /// Past what only aligns the next piece, and may stand under any rule.
    fn skip_padding(&self, mut address: u64) -> Option<u64> {
        loop {
            let bytes = self.code_at(address)?;
            let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
            if !matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
                return Some(address);
            }
            address = instruction.next_ip();
        }
    }
}

/// What holds at calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Usual {
    rsp: Height,
    rbp: Height,
}

impl Usual {
    fn of(known: &Known) -> Option<Usual> {
        Some(Usual { rsp: known.rsp?, rbp: known.rbp? })
    }
}

fn is_register(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register
}

/// What is known where a branch is taken, and where it isn't. A loop that ends when rsp equals a register ends there.
fn by_comparison(known: Known, instruction: &Instruction) -> (Known, Known) {
    let plain = Known { is_compared: false, ..known };
    let Some((_, height)) = known.other.filter(|_| known.is_compared) else { return (plain, plain) };
    let equal = Known { rsp: Some(height), ..plain };
    match instruction.mnemonic() {
        Mnemonic::Jne => (plain, equal),
        Mnemonic::Je => (equal, plain),
        _ => (plain, plain),
    }
}

#[cfg(test)]
mod tests;
