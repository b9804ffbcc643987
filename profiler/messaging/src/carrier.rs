//! What carries a context: the properties or headers of a message, seen through two small traits.
//!
//! A client's own type is carried by a newtype of a few lines, or by [`reading`] and a closure. Values are bytes where they
//! are read, as some protocols' are, and text where they are written.
//!
//! Refused: OpenTelemetry's `Extractor` and `Injector`. They read text only, list all keys, and make an owned `String` of
//! each key and value that they write.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

/// Reads a message's properties or headers.
///
/// ```
/// use spanprof_messaging::Carrier;
/// struct Headers(Vec<(String, Vec<u8>)>); // some client's own type
/// struct Wrapped<'a>(&'a Headers);
/// impl Carrier for Wrapped<'_> {
///     fn value(&self, key: &str) -> Option<&[u8]> {
///         self.0.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
///     }
/// }
/// ```
pub trait Carrier {
    /// The value of a key, which is compared exactly. Where it stands more than once, the one that counts by the protocol.
    fn value(&self, key: &str) -> Option<&[u8]>;
}

/// Writes a message's properties or headers.
pub trait CarrierMut: Carrier {
    /// Sets a value in place of those that the key may have.
    fn set_value(&mut self, key: &str, value: &str);

    /// Removes all values of a key.
    fn remove_value(&mut self, key: &str);
}

impl<C: Carrier + ?Sized> Carrier for &C {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        (**self).value(key)
    }
}

impl<C: Carrier + ?Sized> Carrier for &mut C {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        (**self).value(key)
    }
}

impl<C: CarrierMut + ?Sized> CarrierMut for &mut C {
    #[inline]
    fn set_value(&mut self, key: &str, value: &str) {
        (**self).set_value(key, value);
    }

    #[inline]
    fn remove_value(&mut self, key: &str) {
        (**self).remove_value(key);
    }
}

/// Carries nothing, and takes what it is given to nowhere: for messages without room, such as those of MQTT 3.1.1.
impl Carrier for () {
    #[inline]
    fn value(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

impl CarrierMut for () {
    #[inline]
    fn set_value(&mut self, _: &str, _: &str) {}

    #[inline]
    fn remove_value(&mut self, _: &str) {}
}

/// Nothing, where a message has no headers at all.
impl<C: Carrier> Carrier for Option<C> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.as_ref()?.value(key)
    }
}

/// The first value of a key counts.
impl<K: AsRef<str>, V: AsRef<[u8]>> Carrier for [(K, V)] {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value.as_ref())
    }
}

/// The first value of a key counts.
impl<K: AsRef<str>, V: AsRef<[u8]>> Carrier for Vec<(K, V)> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.as_slice().value(key)
    }
}

impl<K, V> CarrierMut for Vec<(K, V)>
where
    K: AsRef<str> + for<'a> From<&'a str>,
    V: AsRef<[u8]> + for<'a> From<&'a str>,
{
    fn set_value(&mut self, key: &str, value: &str) {
        self.remove_value(key);
        self.push((key.into(), value.into()));
    }

    fn remove_value(&mut self, key: &str) {
        self.retain(|(name, _)| name.as_ref() != key);
    }
}

impl<K, V, S> Carrier for HashMap<K, V, S>
where
    K: Borrow<str> + Eq + Hash,
    V: AsRef<[u8]>,
    S: BuildHasher,
{
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        HashMap::get(self, key).map(AsRef::as_ref)
    }
}

impl<K, V, S> CarrierMut for HashMap<K, V, S>
where
    K: Borrow<str> + Eq + Hash + for<'a> From<&'a str>,
    V: AsRef<[u8]> + for<'a> From<&'a str>,
    S: BuildHasher,
{
    fn set_value(&mut self, key: &str, value: &str) {
        self.insert(key.into(), value.into());
    }

    fn remove_value(&mut self, key: &str) {
        HashMap::remove(self, key);
    }
}

impl<K: Borrow<str> + Ord, V: AsRef<[u8]>> Carrier for BTreeMap<K, V> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        BTreeMap::get(self, key).map(AsRef::as_ref)
    }
}

impl<K, V> CarrierMut for BTreeMap<K, V>
where
    K: Borrow<str> + Ord + for<'a> From<&'a str>,
    V: AsRef<[u8]> + for<'a> From<&'a str>,
{
    fn set_value(&mut self, key: &str, value: &str) {
        self.insert(key.into(), value.into());
    }

    fn remove_value(&mut self, key: &str) {
        BTreeMap::remove(self, key);
    }
}

/// Pairs of which the last value of a key counts, such as Kafka's headers.
///
/// ```
/// use spanprof_messaging::carrier::{Carrier, LastWins};
/// let headers = [("key", "first"), ("key", "last")];
/// assert_eq!(headers.value("key"), Some("first".as_bytes()));
/// assert_eq!(LastWins(&headers[..]).value("key"), Some("last".as_bytes()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LastWins<T>(pub T);

impl<K: AsRef<str>, V: AsRef<[u8]>> Carrier for LastWins<&[(K, V)]> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rfind(|(name, _)| name.as_ref() == key).map(|(_, value)| value.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> Carrier for LastWins<&mut Vec<(K, V)>> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().rfind(|(name, _)| name.as_ref() == key).map(|(_, value)| value.as_ref())
    }
}

impl<K, V> CarrierMut for LastWins<&mut Vec<(K, V)>>
where
    K: AsRef<str> + for<'a> From<&'a str>,
    V: AsRef<[u8]> + for<'a> From<&'a str>,
{
    fn set_value(&mut self, key: &str, value: &str) {
        self.0.set_value(key, value);
    }

    fn remove_value(&mut self, key: &str) {
        self.0.remove_value(key);
    }
}

/// A carrier of a closure that reads, made by [`reading`].
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a, F> {
    read: F,
    carried: PhantomData<&'a [u8]>,
}

/// Carries any client's message in one line, for reading.
///
/// ```
/// use spanprof_messaging::{TraceContext, carrier::reading};
/// let properties = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
/// let message = reading(|key| properties.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_bytes()));
/// assert!(TraceContext::extract(&message).is_some());
/// ```
#[inline]
pub fn reading<'a, F: Fn(&str) -> Option<&'a [u8]>>(read: F) -> Reading<'a, F> {
    Reading { read, carried: PhantomData }
}

impl<'a, F: Fn(&str) -> Option<&'a [u8]>> Carrier for Reading<'a, F> {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        (self.read)(key)
    }
}

/// A carrier of a closure that writes, made by [`writing`].
#[derive(Clone, Copy, Debug)]
pub struct Writing<F>(F);

/// Carries any client's message in one line, for writing: `None` says that the key has to go. It has nothing to read.
///
/// ```
/// use spanprof_messaging::{TraceContext, carrier::writing};
/// let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
/// let mut properties = Vec::new();
/// context.inject(&mut writing(|key: &str, value: Option<&str>| {
///     if let Some(value) = value {
///         properties.push((key.to_owned(), value.to_owned()));
///     }
/// }));
/// assert_eq!(properties.len(), 1);
/// ```
#[inline]
pub fn writing<F: FnMut(&str, Option<&str>)>(write: F) -> Writing<F> {
    Writing(write)
}

impl<F> Carrier for Writing<F> {
    #[inline]
    fn value(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

impl<F: FnMut(&str, Option<&str>)> CarrierMut for Writing<F> {
    #[inline]
    fn set_value(&mut self, key: &str, value: &str) {
        (self.0)(key, Some(value));
    }

    #[inline]
    fn remove_value(&mut self, key: &str) {
        (self.0)(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds_one_value(mut carrier: impl CarrierMut) {
        assert_eq!(carrier.value("traceparent"), None);
        carrier.set_value("traceparent", "1");
        carrier.set_value("Traceparent", "other");
        carrier.set_value("traceparent", "2");
        assert_eq!(carrier.value("traceparent"), Some(&b"2"[..]));
        carrier.remove_value("traceparent");
        assert_eq!(carrier.value("traceparent"), None);
        assert_eq!(carrier.value("Traceparent"), Some(&b"other"[..]));
    }

    #[test]
    fn the_standard_collections_carry() {
        holds_one_value(HashMap::<String, String>::new());
        holds_one_value(HashMap::<String, Vec<u8>>::new());
        holds_one_value(BTreeMap::<String, String>::new());
        holds_one_value(BTreeMap::<Box<str>, Vec<u8>>::new());
        holds_one_value(Vec::<(String, String)>::new());
        holds_one_value(Vec::<(String, Vec<u8>)>::new());
        holds_one_value(&mut Vec::<(String, String)>::new());
        holds_one_value(LastWins(&mut Vec::<(String, Vec<u8>)>::new()));
    }

    #[test]
    fn writing_leaves_no_duplicate_behind() {
        let mut pairs = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        pairs.set_value("a", "3");
        assert_eq!(pairs, [("a".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn nothing_carries_nothing() {
        ().set_value("a", "1");
        assert_eq!(().value("a"), None);
        assert_eq!(None::<HashMap<String, String>>.value("a"), None);
        assert_eq!(Some(&[("a", "1")][..]).value("a"), Some(&b"1"[..]));
    }
}
