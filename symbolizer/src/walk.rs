//! Walks a stack by unwind rules: the reference for the program that does the same in the kernel.
//!
//! A pure function of registers, a rule lookup and a stack reader; it does no I/O. The kernel's unwinder must give
//! the same frames for the same input. Two forms: [`walk`] allocates its answer; [`walk_into`] fills a slice, and
//! may start without rbp, as for a thread that is looked at through `/proc`.
//!
//! **Where [`walk_into`] may run.** By itself it allocates nothing, takes no lock and cannot panic, so a signal
//! handler may call it if it may call the three functions that are passed.
//!
//! The stack pointer must grow from frame to frame, except across a signal frame, whose handler may have a
//! stack of its own. Code that runs functions on other stacks and returns to a lower one ends its walk as
//! stuck; without the check, one wrong rbp would turn in circles up to the full depth.

use crate::unwind::{Rule, RuleKind};

/// Where the saved registers lie in the context that a signal frame's stack pointer points at: Linux,
/// x86-64, `ucontext_t`, in bytes.
const SAVED_RBP: u64 = 120;
const SAVED_RSP: u64 = 160;
const SAVED_RIP: u64 = 168;

/// The registers that a walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Registers {
    /// rip.
    pub ip: u64,
    /// rsp.
    pub sp: u64,
    /// rbp.
    pub bp: u64,
}

/// Where a walk starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Start {
    /// rip.
    pub ip: u64,
    /// rsp.
    pub sp: u64,
    /// rbp, where it is known.
    pub bp: Option<u64>,
}

impl From<Registers> for Start {
    fn from(registers: Registers) -> Start {
        Start { ip: registers.ip, sp: registers.sp, bp: Some(registers.bp) }
    }
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WalkEnd {
    /// The outermost frame was reached: the stack is whole.
    Root,
    /// No rule at the last frame.
    NoRule,
    /// The stack could not be read where the last frame's rule points.
    Unreadable,
    /// The last frame's caller would lie below it.
    Stuck,
    /// As many frames as were asked for, and more to come.
    Depth,
    /// The last frame is counted from rbp, which nobody knows.
    NoFramePointer,
}

/// The frames of one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Instruction addresses, the leaf first. A caller's is one less than the address where it will go on,
    /// which may lie past its last instruction: these are the addresses to look up and to symbolize.
    pub frames: Vec<u64>,
    /// Why there are no more.
    pub end: WalkEnd,
}

/// Walks from `registers` outwards, for at most `max_depth` frames.
///
/// `rule_at` is asked for the addresses that the answer has. That of the leaf and of a frame that a signal
/// interrupted is exact. `read_stack` reads eight bytes.
pub fn walk(
    registers: Registers,
    rule_at: impl FnMut(u64) -> Rule,
    read_stack: impl FnMut(u64) -> Option<u64>,
    max_depth: usize,
) -> Walk {
    let mut frames = Vec::new();
    let end = follow(
        registers.into(),
        rule_at,
        |_| None,
        read_stack,
        |pc| {
            let has_room = frames.len() < max_depth;
            if has_room {
                frames.push(pc);
            }
            has_room
        },
    );
    Walk { frames, end }
}

/// As [`walk`], into `frames`; gives how many of them were filled. See the module's documentation for where it may run.
///
/// While rbp is not known, `distance_at` is asked by how much it lies above rsp at an address whose rule counts from it
/// (see `unwind::frame_pointer_distance`); without an answer the walk ends there.
pub fn walk_into(
    start: Start,
    rule_at: impl FnMut(u64) -> Rule,
    distance_at: impl FnMut(u64) -> Option<u64>,
    read_stack: impl FnMut(u64) -> Option<u64>,
    frames: &mut [u64],
) -> (usize, WalkEnd) {
    let mut room = frames.iter_mut();
    let mut filled = 0;
    let end = follow(start, rule_at, distance_at, read_stack, |pc| match room.next() {
        Some(frame) => {
            *frame = pc;
            filled += 1;
            true
        }
        None => false,
    });
    (filled, end)
}

/// The walk itself. `accept` says whether there was room for a frame.
fn follow(
    start: Start,
    mut rule_at: impl FnMut(u64) -> Rule,
    mut distance_at: impl FnMut(u64) -> Option<u64>,
    mut read_stack: impl FnMut(u64) -> Option<u64>,
    mut accept: impl FnMut(u64) -> bool,
) -> WalkEnd {
    let Start { mut ip, mut sp, mut bp } = start;
    let mut interrupted = true;
    loop {
        let pc = if interrupted { ip } else { ip.wrapping_sub(1) };
        if !accept(pc) {
            return WalkEnd::Depth;
        }
        let rule = rule_at(pc);
        match rule.kind() {
            RuleKind::None => return WalkEnd::NoRule,
            RuleKind::End => return WalkEnd::Root,
            RuleKind::Rbp | RuleKind::Deref if bp.is_none() => match distance_at(pc) {
                Some(distance) => bp = Some(sp.wrapping_add(distance)),
                None => return WalkEnd::NoFramePointer,
            },
            _ => {}
        }
        let Some(caller) = step(rule, pc, Registers { ip, sp, bp: bp.unwrap_or(0) }, &mut read_stack) else {
            return WalkEnd::Unreadable;
        };
        interrupted = rule.kind() == RuleKind::Signal;
        if !interrupted && caller.sp <= sp {
            return WalkEnd::Stuck;
        }
        if bp.is_some() || restores_rbp(rule) {
            bp = Some(caller.bp);
        }
        (ip, sp) = (caller.ip, caller.sp);
    }
}

/// Whether the caller's rbp is read from the stack, so that it is known whatever this frame's is.
fn restores_rbp(rule: Rule) -> bool {
    rule.saved_rbp() != 0 || matches!(rule.kind(), RuleKind::Signal | RuleKind::Deref)
}

/// One frame outwards; the equations are those of [`crate::unwind::Rule`]. `None` where the stack can't be
/// read, and for rules that lead nowhere.
pub fn step(
    rule: Rule,
    pc: u64,
    registers: Registers,
    read_stack: &mut impl FnMut(u64) -> Option<u64>,
) -> Option<Registers> {
    let Registers { sp, bp, .. } = registers;
    let offset = rule.offset().wrapping_mul(8);
    let cfa = match rule.kind() {
        RuleKind::None | RuleKind::End => return None,
        RuleKind::Signal => {
            return Some(Registers {
                ip: read_stack(sp.wrapping_add(SAVED_RIP))?,
                sp: read_stack(sp.wrapping_add(SAVED_RSP))?,
                bp: read_stack(sp.wrapping_add(SAVED_RBP))?,
            });
        }
        RuleKind::Rsp | RuleKind::Big => sp.wrapping_add(offset),
        RuleKind::Rbp => bp.wrapping_add(offset),
        RuleKind::Plt => sp.wrapping_add(if pc & 15 >= rule.offset() { 16 } else { 8 }),
        RuleKind::Deref => read_stack(bp.wrapping_sub(offset))?,
    };
    let caller_bp = match (rule.kind(), rule.saved_rbp()) {
        (RuleKind::Deref, _) => read_stack(bp)?,
        (_, 0) => bp,
        (_, words) => read_stack(cfa.wrapping_sub(words * 8))?,
    };
    Some(Registers { ip: read_stack(cfa.wrapping_sub(8))?, sp: cfa, bp: caller_bp })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn stack(words: &[(u64, u64)]) -> impl FnMut(u64) -> Option<u64> {
        let words: HashMap<u64, u64> = words.iter().copied().collect();
        move |address| words.get(&address).copied()
    }

    const START: Registers = Registers { ip: 0x400, sp: 0x7000, bp: 0x7100 };

    #[test]
    fn each_rule_follows_its_equation() {
        let next = |rule: Rule, pc, words: &[(u64, u64)]| step(rule, pc, START, &mut stack(words));
        let caller = |sp, bp| Some(Registers { ip: 0x500, sp, bp });
        let rsp = Rule::rsp(4, 2).unwrap();
        assert_eq!(next(rsp, 0, &[(0x7018, 0x500), (0x7010, 9)]), caller(0x7020, 9));
        let rbp = Rule::rbp(2, 0).unwrap();
        assert_eq!(next(rbp, 0, &[(0x7108, 0x500)]), caller(0x7110, 0x7100));
        let plt = Rule::plt(11).unwrap();
        assert_eq!(next(plt, 0x3a, &[(0x7000, 0x500)]), caller(0x7008, 0x7100));
        assert_eq!(next(plt, 0x3b, &[(0x7008, 0x500)]), caller(0x7010, 0x7100));
        let deref = Rule::deref(1).unwrap();
        assert_eq!(next(deref, 0, &[(0x70f8, 0x7200), (0x71f8, 0x500), (0x7100, 9)]), caller(0x7200, 9));
        let big = Rule::rsp(20_000, 2).unwrap();
        let end = 0x7000 + 160_000;
        assert_eq!(next(big, 0, &[(end - 8, 0x500), (end - 16, 9)]), caller(end, 9));
        assert_eq!(
            next(Rule::SIGNAL, 0, &[(0x7078, 9), (0x70a0, 0x9000), (0x70a8, 0x500)]),
            caller(0x9000, 9)
        );
        assert_eq!(next(Rule::END, 0, &[]), None);
        assert_eq!(next(rsp, 0, &[]), None);
    }

    #[test]
    fn callers_are_looked_up_before_their_return_address_and_interrupted_frames_at_it() {
        let mut asked = Vec::new();
        let walked = walk(
            START,
            |pc| {
                asked.push(pc);
                match pc {
                    0x400 => Rule::CALL,
                    0x4ff => Rule::SIGNAL,
                    _ => Rule::END,
                }
            },
            stack(&[(0x7000, 0x500), (0x7080, 9), (0x70a8, 0x7300), (0x70b0, 0x600)]),
            10,
        );
        assert_eq!(walked, Walk { frames: vec![0x400, 0x4ff, 0x600], end: WalkEnd::Root });
        assert_eq!(asked, [0x400, 0x4ff, 0x600]);
    }

    #[test]
    fn every_end_has_its_name() {
        let end = |rule, words: &[(u64, u64)], depth| walk(START, |_| rule, stack(words), depth).end;
        assert_eq!(end(Rule::NONE, &[], 9), WalkEnd::NoRule);
        assert_eq!(end(Rule::END, &[], 9), WalkEnd::Root);
        assert_eq!(end(Rule::CALL, &[], 9), WalkEnd::Unreadable);
        assert_eq!(end(Rule::rbp(2, 2).unwrap(), &[(0x7100, 0x7100), (0x7108, 9)], 9), WalkEnd::Stuck);
        // A stack without an end ends at the depth.
        let walked = walk(START, |_| Rule::CALL, |_| Some(1), 1000);
        assert_eq!((walked.frames.len(), walked.end), (1000, WalkEnd::Depth));
        assert_eq!(end(Rule::END, &[], 0), WalkEnd::Depth);
    }

    /// Three frames: the leaf saves nothing of rbp, the second counts from it, the third is the root.
    fn rules(pc: u64) -> Rule {
        match pc {
            0x400 => Rule::CALL,
            0x4ff => Rule::FRAME_POINTER,
            _ => Rule::END,
        }
    }

    const WORDS: [(u64, u64); 3] = [(0x7000, 0x500), (0x7028, 0x600), (0x7020, 0x9999)];

    #[test]
    fn rbp_is_asked_for_only_where_a_rule_counts_from_it() {
        let mut asked = Vec::new();
        let mut frames = [0; 8];
        let start = Start { bp: None, ..START.into() };
        let distance = |pc| {
            asked.push(pc);
            Some(0x18)
        };
        let walked = walk_into(start, rules, distance, stack(&WORDS), &mut frames);
        assert_eq!((walked, &frames[..4]), ((3, WalkEnd::Root), &[0x400, 0x4ff, 0x5ff, 0][..]));
        assert_eq!(asked, [0x4ff]);
    }

    #[test]
    fn a_known_rbp_is_never_asked_for() {
        let mut frames = [0; 8];
        let never = |_| -> Option<u64> { panic!("rbp is known") };
        let start = Start { bp: Some(0x7020), ..START.into() };
        assert_eq!(walk_into(start, rules, never, stack(&WORDS), &mut frames), (3, WalkEnd::Root));
        // Restored by the first frame: what was unknown before does not matter.
        let saves = |pc| if pc == 0x400 { Rule::rsp(4, 2).unwrap() } else { rules(pc) };
        let words = [(0x7018, 0x500), (0x7010, 0x7100), (0x7108, 0x600), (0x7100, 0x9999)];
        let start = Start { bp: None, ..START.into() };
        assert_eq!(walk_into(start, saves, never, stack(&words), &mut frames), (3, WalkEnd::Root));
    }

    #[test]
    fn an_rbp_that_nobody_knows_ends_the_walk_by_name() {
        let mut frames = [0; 8];
        let start = Start { bp: None, ..START.into() };
        let walked = walk_into(start, rules, |_| None, stack(&WORDS), &mut frames);
        assert_eq!((walked, &frames[..3]), ((2, WalkEnd::NoFramePointer), &[0x400, 0x4ff, 0][..]));
        assert_eq!(walk_into(start, rules, |_| None, stack(&WORDS), &mut []), (0, WalkEnd::Depth));
        assert_eq!(walk_into(start, rules, |_| None, stack(&WORDS), &mut frames[..1]), (1, WalkEnd::Depth));
    }

    proptest::proptest! {
        /// Both forms are one walk.
        #[test]
        fn both_forms_agree(
            rules in proptest::collection::vec(0u32..1 << 24, 1..16),
            words in proptest::collection::vec(0u64..600, 64),
            depth in 0usize..40,
        ) {
            let rule_at = |pc: u64| Rule::from_bits(rules[pc as usize % rules.len()]);
            let read = |address: u64| {
                let index = (address / 8).checked_sub(32)? as usize;
                address.is_multiple_of(8).then(|| words.get(index).copied()).flatten()
            };
            let registers = Registers { ip: 7, sp: 256, bp: 300 & !7 };
            let walked = walk(registers, rule_at, read, depth);
            let mut frames = vec![0; depth];
            let (filled, end) = walk_into(registers.into(), rule_at, |_| None, read, &mut frames);
            proptest::prop_assert_eq!(end, walked.end);
            proptest::prop_assert_eq!(&frames[..filled], &walked.frames[..]);
        }
    }
}
