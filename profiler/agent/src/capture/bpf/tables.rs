//! Where unwind tables and mappings live in the kernel's arrays.
//!
//! One flat array for pages, one for rows and one for mappings, each handed out in runs. Arrays per
//! object were refused: the walker would pay a second look-up per frame.

use std::sync::atomic::Ordering;

use spanprof_symbolizer::unwind::Rule;

use super::layout::{BLOCK_CELLS, Block, FRAME_POINTER_PAGES, Mapping};
use super::shared::SharedArray;

/// A run of free or used cells: first and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) length: u32,
}

/// Hands out runs of a range, first fit, and takes them back.
#[derive(Debug)]
pub(super) struct Runs {
    /// Sorted by first, never adjacent.
    free: Vec<Run>,
}

impl Runs {
    pub(super) fn new(length: u32) -> Runs {
        Runs { free: vec![Run { first: 0, length }] }
    }

    pub(super) fn take(&mut self, length: u32) -> Option<Run> {
        if length == 0 {
            return Some(Run { first: 0, length: 0 });
        }
        let position = self.free.iter().position(|run| run.length >= length)?;
        let run = &mut self.free[position];
        let taken = Run { first: run.first, length };
        run.first += length;
        run.length -= length;
        if run.length == 0 {
            self.free.remove(position);
        }
        Some(taken)
    }

    pub(super) fn give_back(&mut self, run: Run) {
        if run.length == 0 {
            return;
        }
        let position = self.free.partition_point(|free| free.first < run.first);
        self.free.insert(position, run);
        if position + 1 < self.free.len() && run.first + run.length == self.free[position + 1].first {
            self.free[position].length += self.free[position + 1].length;
            self.free.remove(position + 1);
        }
        if position > 0 && self.free[position - 1].first + self.free[position - 1].length == run.first {
            self.free[position - 1].length += self.free[position].length;
            self.free.remove(position);
        }
    }
}

/// One installed segment: what a mapping needs to point at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstalledSegment {
    page_base: u32,
    row_base: u32,
    pages: Run,
    row_blocks: Run,
}

/// Executable memory of a process and the table that unwinds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Where the table's first page (256 bytes of text) lies in the process.
    pub base: u64,
    /// The table; `None` where code has none and is taken to keep frame pointers.
    pub table: Option<InstalledSegment>,
}

impl CodeMapping {
    pub(super) fn encode(&self) -> Mapping {
        let (page_base, row_base) = match self.table {
            Some(table) => (table.page_base, table.row_base),
            None => (FRAME_POINTER_PAGES, 0),
        };
        Mapping { start: self.start, end: self.end, base: self.base, page_base, row_base }
    }
}

/// The kernel's arrays of pages, rows and mappings, and what is free in them.
pub(super) struct Tables {
    pages: SharedArray<Block>,
    rows: SharedArray<Block>,
    mappings: SharedArray<Mapping>,
    free_pages: Runs,
    free_row_blocks: Runs,
    free_mappings: Runs,
}

impl Tables {
    pub(super) fn new(
        pages: SharedArray<Block>,
        rows: SharedArray<Block>,
        mappings: SharedArray<Mapping>,
    ) -> Tables {
        Tables {
            free_pages: Runs::new((pages.len() * BLOCK_CELLS) as u32),
            free_row_blocks: Runs::new(rows.len() as u32),
            free_mappings: Runs::new(mappings.len() as u32),
            pages,
            rows,
            mappings,
        }
    }

    /// Copies one segment's table in; `None` if there is no room for it.
    pub(super) fn install(&mut self, pages: &[u32], rows: &[u32]) -> Option<InstalledSegment> {
        let page_run = self.free_pages.take(pages.len() as u32)?;
        let Some(row_run) = self.free_row_blocks.take(rows.len().div_ceil(BLOCK_CELLS) as u32) else {
            self.free_pages.give_back(page_run);
            return None;
        };
        let row_base = row_run.first * BLOCK_CELLS as u32;
        copy_cells(&self.rows, row_base, rows);
        copy_cells(&self.pages, page_run.first, pages);
        SharedArray::<Block>::publish();
        Some(InstalledSegment { page_base: page_run.first, row_base, pages: page_run, row_blocks: row_run })
    }

    /// Frees a segment's table. No mapping may point at it any more.
    pub(super) fn remove(&mut self, segment: InstalledSegment) {
        self.free_pages.give_back(segment.pages);
        self.free_row_blocks.give_back(segment.row_blocks);
    }

    /// The rule at `pc` within a mapping, found as the kernel side finds it.
    pub(super) fn rule_at(&self, mapping: &CodeMapping, pc: u64) -> Rule {
        let Some(table) = mapping.table else { return Rule::FRAME_POINTER };
        let page = self.cell(&self.pages, table.page_base + ((pc - mapping.base) >> 8) as u32);
        let (rows, rest) = (page & 255, page >> 8);
        if rows == 0 {
            return Rule::from_bits(rest);
        }
        let first = table.row_base + rest;
        let found = (0..rows)
            .map(|row| self.cell(&self.rows, first + row))
            .take_while(|row| u64::from(row & 255) <= pc & 255)
            .last();
        found.map_or(Rule::NONE, |row| Rule::from_bits(row >> 8))
    }

    fn cell(&self, blocks: &SharedArray<Block>, position: u32) -> u32 {
        let (block, cell) = (position as usize / BLOCK_CELLS, position as usize % BLOCK_CELLS);
        if block >= blocks.len() {
            return 0;
        }
        blocks.word(block, cell * 4).load(Ordering::Relaxed)
    }

    /// Writes a process's mappings, sorted by start; `None` if there is no room.
    pub(super) fn place_mappings(&mut self, mappings: &[CodeMapping]) -> Option<Run> {
        let run = self.free_mappings.take(mappings.len() as u32)?;
        for (index, mapping) in mappings.iter().enumerate() {
            self.mappings.write(run.first as usize + index, mapping.encode());
        }
        SharedArray::<Mapping>::publish();
        Some(run)
    }

    pub(super) fn free_mappings(&mut self, run: Run) {
        self.free_mappings.give_back(run);
    }
}

fn copy_cells(blocks: &SharedArray<Block>, first: u32, cells: &[u32]) {
    for (index, cell) in cells.iter().enumerate() {
        let position = first as usize + index;
        blocks.word(position / BLOCK_CELLS, position % BLOCK_CELLS * 4).store(*cell, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge_when_they_come_back() {
        let mut runs = Runs::new(100);
        let a = runs.take(10).expect("room");
        let b = runs.take(20).expect("room");
        let c = runs.take(70).expect("room");
        assert_eq!(runs.take(1), None);
        runs.give_back(a);
        runs.give_back(c);
        runs.give_back(b);
        assert_eq!(runs.take(100), Some(Run { first: 0, length: 100 }));
    }

    #[test]
    fn a_run_that_does_not_fit_is_refused_and_costs_nothing() {
        let mut runs = Runs::new(8);
        assert_eq!(runs.take(9), None);
        assert_eq!(runs.take(8), Some(Run { first: 0, length: 8 }));
    }
}
