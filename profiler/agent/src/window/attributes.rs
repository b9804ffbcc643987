//! What threads' records say of spans beside their ids.

use std::collections::{BTreeMap, HashMap};

use spanprof_context::record::AttributeIterator;
use spanprof_exporter::label;

use super::fold::Fold;
use super::programs::{Program, Programs};
use crate::capture::ActiveSpan;
use crate::spans::{Class, ClassId, Keeping};

/// The attributes of a thread's record that become labels. Others could hold anything, and make every
/// sample its own series.
const SHOWN: [&str; 4] = [label::DESTINATION, label::CONSUMER_GROUP, label::OPERATION, label::SPAN_NAME];

/// The span's attributes that become labels, by name; the last of a name counts.
pub(super) fn shown(fold: &Fold, programs: &Programs, span: ActiveSpan) -> BTreeMap<&'static str, String> {
    let mut shown = BTreeMap::new();
    let Some((process, bytes)) = fold.attributes.get(&span) else { return shown };
    let Some(program) = programs.program(*process) else { return shown };
    for (index, value) in AttributeIterator::over(bytes) {
        if let Some(name) = shown_name(program, index) {
            shown.insert(name, String::from_utf8_lossy(value).into_owned());
        }
    }
    shown
}

fn shown_name(program: &Program, index: u8) -> Option<&'static str> {
    let name = program.attribute_keys.get(usize::from(index))?;
    SHOWN.into_iter().find(|shown| shown == name)
}

/// The classes of a window's spans, each put into words once: there are many spans, and few classes.
pub(super) struct Classes<'a> {
    fold: &'a Fold,
    programs: &'a Programs,
    known: HashMap<Vec<u8>, ClassId>,
    /// The process and what of the record tells classes apart; kept for its room.
    key: Vec<u8>,
}

impl<'a> Classes<'a> {
    pub(super) fn new(fold: &'a Fold, programs: &'a Programs) -> Classes<'a> {
        Classes { fold, programs, known: HashMap::new(), key: Vec::new() }
    }

    /// What the span has in common with others, as far as records say.
    pub(super) fn of(&mut self, span: ActiveSpan, keeping: &mut Keeping) -> ClassId {
        self.key.clear();
        if let Some((process, bytes)) = self.fold.attributes.get(&span)
            && let Some(program) = self.programs.program(*process)
        {
            self.key.extend(process.to_ne_bytes());
            let shown =
                AttributeIterator::over(bytes).filter(|(index, _)| shown_name(program, *index).is_some());
            for (index, value) in shown {
                self.key.push(index);
                self.key.extend(value.len().to_ne_bytes());
                self.key.extend(value);
            }
        }
        if let Some(known) = self.known.get(&self.key) {
            return *known;
        }
        let class = keeping.class(&class(self.fold, self.programs, span));
        self.known.insert(self.key.clone(), class);
        class
    }
}

fn class(fold: &Fold, programs: &Programs, span: ActiveSpan) -> Class {
    let process = fold.attributes.get(&span).map(|(process, _)| *process);
    let program = process.and_then(|process| programs.program(process));
    let mut shown = shown(fold, programs, span);
    let mut text = |name| Class::text(&shown.remove(name).unwrap_or_default());
    Class {
        service: Class::text(program.map_or("", |program| &program.service)),
        name: text(label::SPAN_NAME),
        destination: text(label::DESTINATION),
        group: text(label::CONSUMER_GROUP),
        operation: text(label::OPERATION),
    }
}
