//! What is known of rsp and rbp before an instruction.

use iced_x86::Register;

use super::super::rule::{Rule, RuleKind};

/// A place on the stack, as bytes above a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Height {
    /// 0: the stack pointer at the entry, where the return address lies. Else the address of the instruction that moved rsp by
    /// an unknown amount, past the function's start.
    pub(super) base: u32,
    pub(super) bytes: i32,
}

impl Height {
    pub(super) const fn above_entry(bytes: i32) -> Height {
        Height { base: 0, bytes }
    }

    pub(super) fn moved(self, by: i64) -> Option<Height> {
        let bytes = i64::from(self.bytes).checked_add(by)?;
        Some(Height { bytes: bytes.try_into().ok()?, ..self })
    }
}

/// What is known before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) rsp: Option<Height>,
    pub(super) rbp: Option<Height>,
    /// One more register that holds a place on the stack.
    pub(super) other: Option<(Register, Height)>,
    /// Whether rsp and that register were just compared.
    pub(super) is_compared: bool,
    /// Where rsp was at the last call.
    pub(super) last_call: LastCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastCall {
    None,
    At(Height),
    /// It depends on the path.
    Unknown,
}

impl LastCall {
    pub(super) fn meet(self, other: LastCall) -> LastCall {
        match (self, other) {
            (LastCall::None, known) | (known, LastCall::None) => known,
            _ if self == other => self,
            _ => LastCall::Unknown,
        }
    }
}

impl Known {
    pub(super) const NOTHING: Known =
        Known { rsp: None, rbp: None, other: None, is_compared: false, last_call: LastCall::None };

    /// What holds on both of two paths.
    pub(super) fn meet(self, other: Known) -> Known {
        Known {
            rsp: self.rsp.filter(|_| self.rsp == other.rsp),
            rbp: self.rbp.filter(|_| self.rbp == other.rbp),
            other: self.other.filter(|_| self.other == other.other),
            is_compared: self.is_compared && other.is_compared,
            last_call: self.last_call.meet(other.last_call),
        }
    }

    /// What the unwind rule adds; it is counted from the address above the return address.
    pub(super) fn by_rule(mut self, rule: Rule) -> Known {
        let height = Height::above_entry(8 - 8 * rule.offset() as i32);
        match rule.kind() {
            RuleKind::Rsp | RuleKind::Big => self.rsp = Some(height),
            RuleKind::Rbp if self.rbp != Some(height) => {
                // Where the frame is complete, rbp was seen to be set. On this path it wasn't: either something was
                // not understood, or the path isn't real. What it says of rsp is worth nothing.
                self.rbp = Some(height);
                self.rsp = None;
            }
            _ => {}
        }
        self
    }

    pub(super) fn height_of(&self, register: Register) -> Option<Height> {
        match register {
            Register::RSP => self.rsp,
            Register::RBP => self.rbp,
            _ => self.other.filter(|(other, _)| *other == register).map(|(_, height)| height),
        }
    }

    pub(super) fn set(&mut self, register: Register, height: Option<Height>) {
        match register {
            Register::RSP => self.rsp = height,
            Register::RBP => self.rbp = height,
            _ => match height {
                Some(height) => self.other = Some((register, height)),
                None => self.other = self.other.filter(|(other, _)| *other != register),
            },
        }
    }

    pub(super) fn move_rsp(&mut self, by: i64) {
        self.rsp = self.rsp.and_then(|height| height.moved(by));
    }

    /// Rsp is somewhere else now, nobody knows how far away: heights are counted from there.
    pub(super) fn rebase(&mut self, base: u32) {
        let is_other = |height: &Height| height.base != base;
        self.rbp = self.rbp.filter(is_other);
        self.other = self.other.filter(|(_, height)| is_other(height));
        if matches!(self.last_call, LastCall::At(height) if height.base == base) {
            self.last_call = LastCall::Unknown;
        }
        self.rsp = Some(Height { base, bytes: 0 });
    }

    pub(super) fn called(&mut self) {
        self.is_compared = false;
        self.last_call = self.rsp.map_or(LastCall::Unknown, LastCall::At);
        let keeps = [Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];
        self.other = self.other.filter(|(register, _)| keeps.contains(register));
    }
}
