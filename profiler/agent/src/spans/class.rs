//! What spans of one kind have in common, stored once.
//!
//! However many messages flow, their service, span names, destinations, groups and operations are few. Where they are not,
//! because a span's name holds an order's number, the table is full one day, and what is new then shares one class for all.

use std::collections::HashMap;

pub use spanprof_exporter::SpanClass as Class;

/// A class of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(u16);

impl ClassId {
    /// What had no room of its own.
    pub const OTHER: ClassId = ClassId(0);

    /// Its place in tables by class, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All classes that have been seen, at most so many.
#[derive(Debug)]
pub struct Classes {
    known: Vec<Class>,
    ids: HashMap<Class, ClassId>,
    most: usize,
}

impl Classes {
    /// A table with room for so many classes, itself included the one for what has no room; at most 65,535.
    pub fn new(most: u16) -> Classes {
        Classes { known: vec![Class::other()], ids: HashMap::new(), most: usize::from(most.max(1)) }
    }

    /// The class's id; [`ClassId::OTHER`] where it is new and the table is full.
    pub fn intern(&mut self, class: &Class) -> ClassId {
        if let Some(id) = self.ids.get(class) {
            return *id;
        }
        if self.known.len() >= self.most {
            return ClassId::OTHER;
        }
        let id = ClassId(self.known.len() as u16);
        self.known.push(class.clone());
        self.ids.insert(class.clone(), id);
        id
    }

    /// What an id of this table stands for.
    pub fn get(&self, id: ClassId) -> &Class {
        &self.known[id.index()]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Never: there is always the one for what has no room.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Class {
        Class { name: name.into(), ..Class::default() }
    }

    #[test]
    fn what_is_equal_is_stored_once() {
        let mut classes = Classes::new(10);
        let (a, b) = (classes.intern(&named("a")), classes.intern(&named("b")));
        assert_ne!(a, b);
        assert_eq!(classes.intern(&named("a")), a);
        assert_eq!((&*classes.get(b).name, classes.len()), ("b", 3));
    }

    #[test]
    fn a_full_table_puts_what_is_new_together() {
        let mut classes = Classes::new(2);
        let known = classes.intern(&named("known"));
        assert_eq!(classes.intern(&named("one too many")), ClassId::OTHER);
        assert_eq!(classes.intern(&named("known")), known);
        assert_eq!(classes.len(), 2);
    }
}
