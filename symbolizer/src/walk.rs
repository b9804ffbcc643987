//! Walks a stack by unwind rules: the reference for the program that does the same in the kernel.
//!
//! A pure function of registers, a rule lookup and a stack reader; it does no I/O and allocates only the
//! answer. The kernel's unwinder must give the same frames for the same input.
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
    mut rule_at: impl FnMut(u64) -> Rule,
    mut read_stack: impl FnMut(u64) -> Option<u64>,
    max_depth: usize,
) -> Walk {
    let mut frames = Vec::new();
    let mut current = registers;
    let mut interrupted = true;
    let end = loop {
        if frames.len() == max_depth {
            break WalkEnd::Depth;
        }
        let pc = if interrupted { current.ip } else { current.ip.wrapping_sub(1) };
        frames.push(pc);
        let rule = rule_at(pc);
        match rule.kind() {
            RuleKind::None => break WalkEnd::NoRule,
            RuleKind::End => break WalkEnd::Root,
            _ => {}
        }
        let Some(caller) = step(rule, pc, current, &mut read_stack) else {
            break WalkEnd::Unreadable;
        };
        interrupted = rule.kind() == RuleKind::Signal;
        if !interrupted && caller.sp <= current.sp {
            break WalkEnd::Stuck;
        }
        current = caller;
    };
    Walk { frames, end }
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
}
