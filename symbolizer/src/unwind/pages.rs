//! Lays rules out in the pages and rows that the kernel program searches.
//!
//! A segment's text is cut into pages of 256 bytes. A page under one rule costs its entry in the page
//! index and nothing more; that is three pages of four in real programs. Other pages have rows, sorted by
//! the low byte of the address; the first row repeats the rule that was in force where the page starts, so
//! a search never leaves its page. Rows of one page never cross a block of 1,024 rows (4 KiB, one element
//! of the kernel's array): where they would, zero rows fill the block.
//!
//! ```text
//! page entry, rows == 0:  rule << 8               the whole page has this rule
//! page entry, rows != 0:  first row << 8 | rows   counted from the segment's first row
//! row:                    rule << 8 | low byte of the address from which it holds
//! ```

use super::UnwindError;
use super::rule::Rule;

/// Bytes of text per entry of the page index.
pub const PAGE_BYTES: u64 = 256;
/// Rows per block; a page's rows lie in one block.
pub const BLOCK_ROWS: usize = 1024;
/// The most rows of one segment: half of what 24 bits can count, five times what a large browser needs.
const MAX_ROWS: usize = 1 << 23;
/// More rows than a page entry can count.
const TOO_MANY_IN_PAGE: usize = 256;

/// The unwind table of one executable segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTable {
    /// The segment's address, rounded down to a page of 256 bytes.
    pub vaddr: u64,
    /// The first address past the segment.
    pub end: u64,
    /// One entry per 256 bytes from `vaddr` on.
    pub pages: Vec<u32>,
    /// The rows of the pages that have any. Put its start at a multiple of [`BLOCK_ROWS`].
    pub rows: Vec<u32>,
}

impl SegmentTable {
    /// The rule at `address`, found as the kernel program finds it.
    pub fn rule_at(&self, address: u64) -> Rule {
        if !(self.vaddr..self.end).contains(&address) {
            return Rule::NONE;
        }
        let relative = address - self.vaddr;
        let Some(entry) = self.pages.get((relative / PAGE_BYTES) as usize) else {
            return Rule::NONE;
        };
        let count = (entry & 0xff) as usize;
        if count == 0 {
            return Rule::from_bits(entry >> 8);
        }
        let first = (entry >> 8) as usize;
        let Some(rows) = self.rows.get(first..first + count) else {
            return Rule::NONE;
        };
        let low = (relative % PAGE_BYTES) as u32;
        let behind = rows.partition_point(|row| row & 0xff <= low);
        match behind.checked_sub(1) {
            Some(index) => Rule::from_bits(rows[index] >> 8),
            None => Rule::NONE,
        }
    }

    /// What the table takes in the kernel, in bytes.
    pub fn size(&self) -> usize {
        size_of_val(self.pages.as_slice()) + size_of_val(self.rows.as_slice())
    }
}

/// Takes rules by ascending address and writes one segment's table.
pub(super) struct PageWriter {
    table: SegmentTable,
    rule: Rule,
    /// The page being written; its rows so far, the inherited one first.
    page: u64,
    pending: Vec<u32>,
}

impl PageWriter {
    /// A writer for the addresses `start..end`, which begin with no rule.
    pub(super) fn new(start: u64, end: u64) -> PageWriter {
        let vaddr = start & !(PAGE_BYTES - 1);
        let pages = (end - vaddr).div_ceil(PAGE_BYTES) as usize;
        PageWriter {
            table: SegmentTable { vaddr, end, pages: Vec::with_capacity(pages), rows: Vec::new() },
            rule: Rule::NONE,
            page: 0,
            pending: vec![row(0, Rule::NONE)],
        }
    }

    /// From `address` on, `rule` holds. Addresses must not descend; those outside the segment are ignored.
    pub(super) fn set(&mut self, address: u64, rule: Rule) -> Result<(), UnwindError> {
        if rule == self.rule || address < self.table.vaddr || address >= self.table.end {
            return Ok(());
        }
        let relative = address - self.table.vaddr;
        let page = relative / PAGE_BYTES;
        debug_assert!(page >= self.page, "addresses descend");
        if page > self.page {
            self.flush()?;
            let single = self.rule.bits() << 8;
            self.table.pages.resize(page as usize, single);
            self.page = page;
            self.pending.push(row(0, self.rule));
        }
        let new = row((relative % PAGE_BYTES) as u32, rule);
        let last = self.pending.len() - 1;
        if self.pending[last] & 0xff == new & 0xff {
            self.pending[last] = new;
        } else {
            self.pending.push(new);
        }
        self.rule = rule;
        Ok(())
    }

    /// Ends the current page.
    fn flush(&mut self) -> Result<(), UnwindError> {
        let count = self.pending.len();
        let entry = match count {
            1 => self.pending[0] >> 8 << 8,
            // A rule for every single byte is no code that a compiler made: give the page up.
            TOO_MANY_IN_PAGE.. => Rule::NONE.bits(),
            _ => {
                let used = self.table.rows.len() % BLOCK_ROWS;
                if used + count > BLOCK_ROWS {
                    let padded = self.table.rows.len() + BLOCK_ROWS - used;
                    self.table.rows.resize(padded, 0);
                }
                let first = self.table.rows.len();
                if first + count > MAX_ROWS {
                    return Err(UnwindError::TooLarge("rows", MAX_ROWS as u64));
                }
                self.table.rows.extend_from_slice(&self.pending);
                (first as u32) << 8 | count as u32
            }
        };
        self.pending.clear();
        self.table.pages.push(entry);
        Ok(())
    }

    /// Ends the table.
    pub(super) fn finish(mut self) -> Result<SegmentTable, UnwindError> {
        let pages = (self.table.end - self.table.vaddr).div_ceil(PAGE_BYTES) as usize;
        if self.table.pages.len() < pages {
            self.flush()?;
        }
        self.table.pages.resize(pages, self.rule.bits() << 8);
        self.table.pages.shrink_to_fit();
        self.table.rows.shrink_to_fit();
        Ok(self.table)
    }
}

const fn row(low: u32, rule: Rule) -> u32 {
    rule.bits() << 8 | low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(start: u64, end: u64, changes: &[(u64, Rule)]) -> SegmentTable {
        let mut writer = PageWriter::new(start, end);
        for (address, rule) in changes {
            writer.set(*address, *rule).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn pages_under_one_rule_have_no_rows() {
        let rsp = Rule::rsp(3, 0).unwrap();
        let table = table(0x1000, 0x1400, &[(0x1100, rsp), (0x1300, Rule::NONE)]);
        assert_eq!(table.pages, [0, rsp.bits() << 8, rsp.bits() << 8, 0]);
        assert!(table.rows.is_empty());
    }

    #[test]
    fn rows_start_with_the_inherited_rule() {
        let call = Rule::CALL.bits() << 8;
        let table = table(0x1010, 0x1200, &[(0x1020, Rule::CALL), (0x1105, Rule::END), (0x1107, Rule::NONE)]);
        assert_eq!(table.vaddr, 0x1000);
        assert_eq!(table.pages, [2, 2 << 8 | 3]);
        assert_eq!(table.rows, [0, call | 0x20, call, Rule::END.bits() << 8 | 5, Rule::NONE.bits() << 8 | 7]);
        assert_eq!(table.rule_at(0x101f), Rule::NONE);
        assert_eq!(table.rule_at(0x1104), Rule::CALL);
        assert_eq!(table.rule_at(0x1105), Rule::END);
        assert_eq!(table.rule_at(0x11ff), Rule::NONE);
        assert_eq!(table.rule_at(0xfff), Rule::NONE);
        assert_eq!(table.rule_at(0x1200), Rule::NONE);
    }

    #[test]
    fn a_rule_for_every_byte_gives_the_page_up() {
        let changes: Vec<(u64, Rule)> =
            (0..256).map(|byte| (byte, Rule::rsp(byte + 1, 0).unwrap())).collect();
        let table = table(0, 0x200, &changes);
        assert_eq!(table.pages[0], 0);
        assert_eq!(table.rule_at(0x100), Rule::rsp(256, 0).unwrap());
    }

    #[test]
    fn every_row_fits_when_a_page_has_the_most() {
        let changes: Vec<(u64, Rule)> = (1..255).map(|byte| (byte, Rule::rsp(byte, 0).unwrap())).collect();
        let table = table(0, 0x100, &changes);
        assert_eq!(table.pages, [255]);
        assert_eq!(table.rule_at(254), Rule::rsp(254, 0).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_table_says_what_was_set(
            start in 0u64..600,
            length in 1u64..20_000,
            steps in prop::collection::vec((0u64..18, 0u64..6), 0..3000),
        ) {
            let end = start + length;
            let mut address = 0;
            let changes: Vec<(u64, Rule)> = steps
                .iter()
                .map(|(step, words)| {
                    address += step;
                    (address, Rule::rsp(*words, 0).unwrap())
                })
                .collect();
            let table = table(start, end, &changes);
            prop_assert_eq!(table.pages.len() as u64, (end - table.vaddr).div_ceil(256));
            for entry in &table.pages {
                let (first, count) = ((entry >> 8) as usize, (entry & 0xff) as usize);
                if count != 0 {
                    prop_assert!(first + count <= table.rows.len());
                    prop_assert_eq!(first / BLOCK_ROWS, (first + count - 1) / BLOCK_ROWS);
                    let rows = &table.rows[first..first + count];
                    prop_assert_eq!(rows[0] & 0xff, 0);
                    prop_assert!(rows.windows(2).all(|pair| pair[0] & 0xff < pair[1] & 0xff));
                }
            }
            for address in table.vaddr..end {
                let behind = changes.partition_point(|(from, _)| *from <= address);
                let expected = changes[..behind]
                    .iter()
                    .rev()
                    .find(|(from, _)| *from >= table.vaddr)
                    .map_or(Rule::NONE, |(_, rule)| *rule);
                prop_assert_eq!(table.rule_at(address), expected);
            }
        }
    }
}
