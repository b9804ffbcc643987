//! One unwind rule in 24 bits: how to get from a frame to its caller.
//!
//! The format is shared with a program that runs in the kernel. Bits 0..3 hold the kind; what the other
//! bits mean depends on it:
//!
//! | kind | value | bits 3..10 | bits 10..24 |
//! | --- | --- | --- | --- |
//! | none | 0 | 0 | 0 |
//! | rsp | 1 | k | n |
//! | rbp | 2 | k | n |
//! | end | 3 | 0 | 0 |
//! | signal | 4 | 0 | 0 |
//! | plt | 5 | 0 | threshold |
//! | deref | 6 | 0 | n |
//! | big | 7 | k in bits 3..6, n from bit 6 on | n |
//!
//! Equations, with `[x]` the eight bytes at address x:
//!
//! ```text
//! rsp:    cfa = rsp + 8n                                   rbp' = k == 0 ? rbp : [cfa - 8k]
//! rbp:    cfa = rbp + 8n                                   rbp' = k == 0 ? rbp : [cfa - 8k]
//! plt:    cfa = rsp + 8 + ((rip & 15) >= threshold ? 8 : 0)  rbp' = rbp
//! deref:  cfa = [rbp - 8n]                                 rbp' = [rbp]
//! big:    cfa = rsp + 8n                                   rbp' = k == 0 ? rbp : [cfa - 8k]
//! then:   rip' = [cfa - 8]    rsp' = cfa
//! signal: rip' = [rsp + 168]  rsp' = [rsp + 160]           rbp' = [rsp + 120]
//! end:    the outermost frame; none: unknown, stop
//! ```
//!
//! `big` exists because a frame of 158 kB in a compiler lost every stack through it: frames up to 2 MB, with
//! rbp among the six registers pushed first, which is where compilers save it.

/// How to get from a frame to its caller. See the module's documentation for the format.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Rule(u32);

/// What sort of rule a [`Rule`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RuleKind {
    /// Nothing is known here: stop.
    None = 0,
    /// The frame's address is counted from rsp.
    Rsp = 1,
    /// The frame's address is counted from rbp.
    Rbp = 2,
    /// The outermost frame: a thread starts here.
    End = 3,
    /// The frame a signal handler returns to; rsp points at the saved context.
    Signal = 4,
    /// An entry of the procedure linkage table.
    Plt = 5,
    /// The frame's address is stored below rbp: GCC's realigned frames.
    Deref = 6,
    /// As `Rsp`, for frames too large for it.
    Big = 7,
}

const KIND_BITS: u32 = 3;
const KIND_MASK: u32 = (1 << KIND_BITS) - 1;
const SAVED_MASK: u32 = (1 << 7) - 1;
const OFFSET_SHIFT: u32 = 10;
const OFFSET_MASK: u32 = (1 << 14) - 1;
const BIG_SAVED_MASK: u32 = (1 << 3) - 1;
const BIG_OFFSET_SHIFT: u32 = 6;
const BIG_OFFSET_MASK: u32 = (1 << 18) - 1;

impl Rule {
    /// Nothing is known: stop.
    pub const NONE: Rule = Rule(RuleKind::None as u32);
    /// The outermost frame.
    pub const END: Rule = Rule(RuleKind::End as u32);
    /// A signal frame: rsp points at the saved context.
    pub const SIGNAL: Rule = Rule(RuleKind::Signal as u32);
    /// A function that keeps a frame pointer, past its prologue: `cfa = rbp + 16`, rbp saved at `cfa - 16`.
    pub const FRAME_POINTER: Rule = Rule::with_offset(RuleKind::Rbp, 2, 2);
    /// Just after a call: `cfa = rsp + 8`.
    pub const CALL: Rule = Rule::with_offset(RuleKind::Rsp, 1, 0);

    const fn with_offset(kind: RuleKind, words: u32, saved: u32) -> Rule {
        Rule(kind as u32 | saved << KIND_BITS | words << OFFSET_SHIFT)
    }

    /// `cfa = rsp + 8 * words`, rbp saved at `cfa - 8 * saved_rbp` (0: unchanged).
    ///
    /// A frame past 2^14 words becomes `big`, which has room for `saved_rbp` up to 7. `None` where a number
    /// does not fit.
    pub const fn rsp(words: u64, saved_rbp: u64) -> Option<Rule> {
        if saved_rbp > SAVED_MASK as u64 || words > BIG_OFFSET_MASK as u64 {
            None
        } else if words > OFFSET_MASK as u64 {
            if saved_rbp > BIG_SAVED_MASK as u64 {
                return None;
            }
            let (saved, words) = (saved_rbp as u32, words as u32);
            Some(Rule(RuleKind::Big as u32 | saved << KIND_BITS | words << BIG_OFFSET_SHIFT))
        } else {
            Some(Rule::with_offset(RuleKind::Rsp, words as u32, saved_rbp as u32))
        }
    }

    /// `cfa = rbp + 8 * words`, rbp saved at `cfa - 8 * saved_rbp` (0: unchanged).
    pub const fn rbp(words: u64, saved_rbp: u64) -> Option<Rule> {
        if saved_rbp > SAVED_MASK as u64 || words > OFFSET_MASK as u64 {
            return None;
        }
        Some(Rule::with_offset(RuleKind::Rbp, words as u32, saved_rbp as u32))
    }

    /// An entry of the procedure linkage table that has pushed its index from byte `threshold` of 16 on.
    pub const fn plt(threshold: u8) -> Option<Rule> {
        if threshold > 15 {
            return None;
        }
        Some(Rule::with_offset(RuleKind::Plt, threshold as u32, 0))
    }

    /// `cfa` is stored at `rbp - 8 * words`, the caller's rbp at rbp.
    pub const fn deref(words: u64) -> Option<Rule> {
        if words > OFFSET_MASK as u64 {
            return None;
        }
        Some(Rule::with_offset(RuleKind::Deref, words as u32, 0))
    }

    /// The rule with these 24 bits; higher bits are dropped.
    pub const fn from_bits(bits: u32) -> Rule {
        Rule(bits & 0x00ff_ffff)
    }

    /// The 24 bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What sort of rule it is.
    pub const fn kind(self) -> RuleKind {
        match self.0 & KIND_MASK {
            1 => RuleKind::Rsp,
            2 => RuleKind::Rbp,
            3 => RuleKind::End,
            4 => RuleKind::Signal,
            5 => RuleKind::Plt,
            6 => RuleKind::Deref,
            7 => RuleKind::Big,
            _ => RuleKind::None,
        }
    }

    /// n: the offset in words of eight bytes, or a PLT entry's threshold in bytes.
    pub const fn offset(self) -> u64 {
        match self.kind() {
            RuleKind::Big => (self.0 >> BIG_OFFSET_SHIFT & BIG_OFFSET_MASK) as u64,
            _ => (self.0 >> OFFSET_SHIFT & OFFSET_MASK) as u64,
        }
    }

    /// k: rbp was saved at `cfa - 8k`; 0 where it is unchanged.
    pub const fn saved_rbp(self) -> u64 {
        match self.kind() {
            RuleKind::Rsp | RuleKind::Rbp => (self.0 >> KIND_BITS & SAVED_MASK) as u64,
            RuleKind::Big => (self.0 >> KIND_BITS & BIG_SAVED_MASK) as u64,
            _ => 0,
        }
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (offset, saved) = (self.offset(), self.saved_rbp());
        match self.kind() {
            RuleKind::None => write!(formatter, "none"),
            RuleKind::Rsp => write!(formatter, "cfa=rsp+{} rbp@{saved}", offset * 8),
            RuleKind::Rbp => write!(formatter, "cfa=rbp+{} rbp@{saved}", offset * 8),
            RuleKind::End => write!(formatter, "end"),
            RuleKind::Signal => write!(formatter, "signal"),
            RuleKind::Plt => write!(formatter, "plt {offset}"),
            RuleKind::Deref => write!(formatter, "cfa=[rbp-{}]", offset * 8),
            RuleKind::Big => write!(formatter, "cfa=rsp+{} (big) rbp@{saved}", offset * 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_the_kernel_program_reads() {
        assert_eq!(size_of::<Rule>(), 4);
        assert_eq!(Rule::NONE.bits(), 0);
        assert_eq!(Rule::END.bits(), 3);
        assert_eq!(Rule::SIGNAL.bits(), 4);
        assert_eq!(Rule::CALL.bits(), 1 | 1 << 10);
        assert_eq!(Rule::FRAME_POINTER.bits(), 2 | 2 << 3 | 2 << 10);
        assert_eq!(Rule::rsp(16383, 127).unwrap().bits(), 1 | 127 << 3 | 16383 << 10);
        assert_eq!(Rule::rsp(16384, 2).unwrap().bits(), 7 | 2 << 3 | 16384 << 6);
        assert_eq!(Rule::rsp((1 << 18) - 1, 7).unwrap().bits(), 0x00ff_ffff);
        assert_eq!(Rule::plt(11).unwrap().bits(), 5 | 11 << 10);
        assert_eq!(Rule::deref(1).unwrap().bits(), 6 | 1 << 10);
    }

    #[test]
    fn what_went_in_comes_out() {
        let rule = Rule::rsp(5, 3).unwrap();
        assert_eq!((rule.kind(), rule.offset(), rule.saved_rbp()), (RuleKind::Rsp, 5, 3));
        let rule = Rule::rbp(2, 2).unwrap();
        assert_eq!((rule.kind(), rule.offset(), rule.saved_rbp()), (RuleKind::Rbp, 2, 2));
        let rule = Rule::rsp(20_000, 2).unwrap();
        assert_eq!((rule.kind(), rule.offset(), rule.saved_rbp()), (RuleKind::Big, 20_000, 2));
        let rule = Rule::plt(10).unwrap();
        assert_eq!((rule.kind(), rule.offset(), rule.saved_rbp()), (RuleKind::Plt, 10, 0));
        let rule = Rule::deref(7).unwrap();
        assert_eq!((rule.kind(), rule.offset(), rule.saved_rbp()), (RuleKind::Deref, 7, 0));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(Rule::rsp(1 << 18, 0), None);
        assert_eq!(Rule::rsp(20_000, 8), None);
        assert_eq!(Rule::rsp(1, 128), None);
        assert_eq!(Rule::rbp(1 << 14, 0), None);
        assert_eq!(Rule::rbp(2, 128), None);
        assert_eq!(Rule::deref(1 << 14), None);
        assert_eq!(Rule::plt(16), None);
    }
}
