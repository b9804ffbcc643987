//! Call frame instructions, executed for the three columns that matter: cfa, rbp and the return address.
//!
//! `gimli` decodes the instructions; its own executor keeps every register of every row, which costs
//! several times what these three do, and starts each function by running its CIE's instructions, which a
//! hostile file can make as long as it likes. Here a CIE runs once, and every run is bounded.

use gimli::{
    CallFrameInstruction, CallFrameInstructionIter, EhFrame, EndianSlice, LittleEndian, Register,
    UnwindExpression,
};

use super::rule::Rule;

pub(super) type Bytes<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Cie<'a> = gimli::CommonInformationEntry<Bytes<'a>>;

const RBP: Register = Register(6);
const RSP: Register = Register(7);
const RETURN_ADDRESS: Register = Register(16);

/// Remembered states; compilers nest one or two.
const MAX_REMEMBERED: usize = 32;
/// Instructions of one CIE or function; the largest functions of a compiler have some thousands.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// Where the frame's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cfa {
    Register { register: Register, offset: i64 },
    Plt { threshold: u8 },
    Deref { offset: i64 },
    Other,
}

/// Where a register's value in the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Unchanged,
    AtCfa(i64),
    AtRbp,
    Undefined,
    Other,
}

/// What the instructions so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    cfa: Cfa,
    rbp: Saved,
    return_address: Saved,
}

/// What became of a state.
pub(super) struct Encoded {
    pub(super) rule: Rule,
    /// The state has no rule, and `rule` is none.
    pub(super) unsupported: bool,
}

impl State {
    const EMPTY: State = State { cfa: Cfa::Other, rbp: Saved::Unchanged, return_address: Saved::Unchanged };

    /// The rule for this state.
    pub(super) fn encode(&self) -> Encoded {
        if self.return_address == Saved::Undefined {
            return Encoded { rule: Rule::END, unsupported: false };
        }
        let rule = self.rule();
        Encoded { rule: rule.unwrap_or(Rule::NONE), unsupported: rule.is_none() }
    }

    fn rule(&self) -> Option<Rule> {
        if self.return_address != Saved::AtCfa(-8) {
            return None;
        }
        let saved = match self.rbp {
            // A caller that is promised nothing about rbp doesn't use it.
            Saved::Unchanged | Saved::Undefined => Some(0),
            Saved::AtCfa(offset) => words(offset.checked_neg()?).filter(|words| *words > 0),
            Saved::AtRbp | Saved::Other => None,
        };
        match self.cfa {
            Cfa::Register { register: RSP, offset } => Rule::rsp(words(offset)?, saved?),
            Cfa::Register { register: RBP, offset } => Rule::rbp(words(offset)?, saved?),
            Cfa::Plt { threshold } if saved == Some(0) => Rule::plt(threshold),
            Cfa::Deref { offset } if self.rbp == Saved::AtRbp => Rule::deref(words(offset.checked_neg()?)?),
            _ => None,
        }
    }

    fn column(&mut self, register: Register) -> Option<&mut Saved> {
        match register {
            RBP => Some(&mut self.rbp),
            RETURN_ADDRESS => Some(&mut self.return_address),
            _ => None,
        }
    }

    fn save(&mut self, register: Register, saved: Saved) {
        if let Some(column) = self.column(register) {
            *column = saved;
        }
    }
}

fn words(bytes: i64) -> Option<u64> {
    u64::try_from(bytes).ok().filter(|bytes| bytes % 8 == 0).map(|bytes| bytes / 8)
}

/// A common information entry that has run.
pub(super) struct Common<'a> {
    pub(super) cie: Cie<'a>,
    initial: State,
}

/// The instructions can't be followed to their end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl<'a> Common<'a> {
    /// Runs the entry's instructions.
    pub(super) fn new(
        cie: Cie<'a>,
        section: &EhFrame<Bytes<'a>>,
        bases: &gimli::BaseAddresses,
    ) -> Result<Common<'a>, Broken> {
        if cie.return_address_register() != RETURN_ADDRESS {
            return Err(Broken);
        }
        let mut machine = Machine::new(section, &cie, State::EMPTY);
        machine.run(cie.instructions(section, bases), 0, u64::MAX, &mut |_, _| {})?;
        let initial = machine.state;
        Ok(Common { cie, initial })
    }

    /// Runs a function's instructions and reports each state with the address from which it holds, by
    /// ascending address within `start..end`. What was reported before an error holds.
    pub(super) fn run(
        &self,
        section: &EhFrame<Bytes<'a>>,
        instructions: CallFrameInstructionIter<'_, Bytes<'a>>,
        (start, end): (u64, u64),
        report: &mut impl FnMut(u64, &State),
    ) -> Result<(), Broken> {
        let mut machine = Machine::new(section, &self.cie, self.initial);
        machine.run(instructions, start, end, report)
    }
}

struct Machine<'s, 'a> {
    section: &'s EhFrame<Bytes<'a>>,
    code_alignment: u64,
    data_alignment: i64,
    initial: State,
    state: State,
    remembered: Vec<State>,
}

impl<'s, 'a> Machine<'s, 'a> {
    fn new(section: &'s EhFrame<Bytes<'a>>, cie: &Cie<'a>, initial: State) -> Self {
        Machine {
            section,
            code_alignment: cie.code_alignment_factor(),
            data_alignment: cie.data_alignment_factor(),
            initial,
            state: initial,
            remembered: Vec::new(),
        }
    }

    fn run(
        &mut self,
        mut instructions: CallFrameInstructionIter<'_, Bytes<'a>>,
        start: u64,
        end: u64,
        report: &mut impl FnMut(u64, &State),
    ) -> Result<(), Broken> {
        let mut address = start;
        for _ in 0..MAX_INSTRUCTIONS {
            let Some(instruction) = instructions.next().map_err(|_| Broken)? else {
                report(address, &self.state);
                return Ok(());
            };
            let next = match instruction {
                CallFrameInstruction::SetLoc { address } => address,
                CallFrameInstruction::AdvanceLoc { delta } => u64::from(delta)
                    .checked_mul(self.code_alignment)
                    .and_then(|delta| address.checked_add(delta))
                    .ok_or(Broken)?,
                other => {
                    self.step(other)?;
                    continue;
                }
            };
            if next < address {
                return Err(Broken);
            }
            report(address, &self.state);
            if next >= end {
                return Ok(());
            }
            address = next;
        }
        Err(Broken)
    }

    fn step(&mut self, instruction: CallFrameInstruction<usize>) -> Result<(), Broken> {
        use CallFrameInstruction::*;
        let data_alignment = self.data_alignment;
        let factored = |offset: i64| offset.checked_mul(data_alignment).ok_or(Broken);
        let unsigned = |offset: u64| i64::try_from(offset).map_err(|_| Broken);
        let state = &mut self.state;
        match instruction {
            DefCfa { register, offset } => {
                state.cfa = Cfa::Register { register, offset: unsigned(offset)? };
            }
            DefCfaSf { register, factored_offset } => {
                state.cfa = Cfa::Register { register, offset: factored(factored_offset)? };
            }
            DefCfaRegister { register } => match &mut state.cfa {
                Cfa::Register { register: current, .. } => *current = register,
                _ => return Err(Broken),
            },
            DefCfaOffset { offset } => match &mut state.cfa {
                Cfa::Register { offset: current, .. } => *current = unsigned(offset)?,
                _ => return Err(Broken),
            },
            DefCfaOffsetSf { factored_offset } => match &mut state.cfa {
                Cfa::Register { offset: current, .. } => *current = factored(factored_offset)?,
                _ => return Err(Broken),
            },
            DefCfaExpression { expression } => {
                self.state.cfa = self.cfa_expression(expression)?;
            }
            Undefined { register } => state.save(register, Saved::Undefined),
            SameValue { register } => state.save(register, Saved::Unchanged),
            Offset { register, factored_offset } => {
                let saved = Saved::AtCfa(factored(unsigned(factored_offset)?)?);
                state.save(register, saved);
            }
            OffsetExtendedSf { register, factored_offset } => {
                let saved = Saved::AtCfa(factored(factored_offset)?);
                state.save(register, saved);
            }
            Expression { register, expression } => {
                if state.column(register).is_some() {
                    let saved = self.saved_expression(expression)?;
                    self.state.save(register, saved);
                }
            }
            ValOffset { register, .. }
            | ValOffsetSf { register, .. }
            | ValExpression { register, .. }
            | Register { dest_register: register, .. } => state.save(register, Saved::Other),
            Restore { register } => {
                let mut initial = self.initial;
                if let (Some(column), Some(value)) = (self.state.column(register), initial.column(register)) {
                    *column = *value;
                }
            }
            RememberState => {
                if self.remembered.len() == MAX_REMEMBERED {
                    return Err(Broken);
                }
                self.remembered.push(self.state);
            }
            RestoreState => self.state = self.remembered.pop().ok_or(Broken)?,
            // Says how much a call will push; the frame's address does not depend on it.
            ArgsSize { .. } | Nop => {}
            _ => return Err(Broken),
        }
        Ok(())
    }

    /// The two frame addresses that compilers and linkers write as expressions.
    fn cfa_expression(&self, expression: UnwindExpression<usize>) -> Result<Cfa, Broken> {
        const BREG6: u8 = 0x76;
        const DEREF: u8 = 0x06;
        let bytes = expression.get(self.section).map_err(|_| Broken)?.0.slice();
        Ok(match *bytes {
            // rsp + 8 + ((rip & 15) >= threshold) << 3; the threshold as DW_OP_lit0 + n.
            [0x77, 8, 0x80, 0, 0x3f, 0x1a, literal @ 0x30..=0x3f, 0x2a, 0x33, 0x24, 0x22] => {
                Cfa::Plt { threshold: literal - 0x30 }
            }
            // [rbp + offset]; the offset as signed LEB128 of one or two bytes.
            [BREG6, low @ 0..=0x7f, DEREF] => Cfa::Deref { offset: i64::from((low << 1) as i8 >> 1) },
            [BREG6, low @ 0x80..=0xff, high @ 0..=0x7f, DEREF] => {
                let value = i16::from(low & 0x7f) | i16::from(high) << 7;
                Cfa::Deref { offset: i64::from(value << 2 >> 2) }
            }
            _ => Cfa::Other,
        })
    }

    fn saved_expression(&self, expression: UnwindExpression<usize>) -> Result<Saved, Broken> {
        let bytes = expression.get(self.section).map_err(|_| Broken)?.0.slice();
        Ok(match bytes {
            // [rbp + 0]
            [0x76, 0] => Saved::AtRbp,
            _ => Saved::Other,
        })
    }
}
