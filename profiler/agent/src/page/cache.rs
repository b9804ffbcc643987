//! The last few results of costly work: a page that looks again every few seconds asks for what it had.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// Results that are kept.
const MOST: usize = 8;

/// Results by what they were made of, the newest in front.
#[derive(Debug)]
pub(super) struct Cache<K> {
    results: VecDeque<(K, Bytes)>,
    /// What all results may take, in bytes.
    limit: usize,
}

impl<K: PartialEq> Cache<K> {
    /// Keeps so many bytes at most.
    pub(super) fn new(limit: usize) -> Cache<K> {
        Cache { results: VecDeque::new(), limit }
    }

    /// The result of this.
    pub(super) fn get(&mut self, key: &K) -> Option<Bytes> {
        let place = self.results.iter().position(|(of, _)| of == key)?;
        let found = self.results.remove(place)?;
        let bytes = found.1.clone();
        self.results.push_front(found);
        Some(bytes)
    }

    /// Keeps a result; the ones that were asked for the longest ago make room.
    pub(super) fn put(&mut self, key: K, bytes: Bytes) {
        self.results.push_front((key, bytes));
        let mut total = 0;
        let fits = self.results.iter().take(MOST).take_while(|(_, bytes)| {
            total += bytes.len();
            total <= self.limit
        });
        let fits = fits.count();
        self.results.truncate(fits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_lately_stays_within_the_limit() {
        let mut cache = Cache::new(10);
        for key in 0..3 {
            cache.put(key, Bytes::from(vec![0; 4]));
        }
        assert!(cache.get(&0).is_none());
        assert!(cache.get(&1).is_some());
        cache.put(3, Bytes::from(vec![0; 4]));
        assert!(cache.get(&1).is_some() && cache.get(&2).is_none());
        cache.put(4, Bytes::from(vec![0; 11]));
        assert!(cache.get(&4).is_none(), "what is too large for all of it is not kept");
        for key in 0..100 {
            cache.put(key, Bytes::new());
        }
        assert_eq!(cache.results.len(), MOST);
    }
}
