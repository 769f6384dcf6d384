//! Pure: which key of a batch each part of the origin's answer belongs to.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::error::{Blame, Error};
use super::loader::{BatchedLoad, Loaded};

/// Memory for the values of one call. The rest of its keys are loaded alone.
pub(super) const MAX_BATCH_BYTES: usize = 16 << 20;
/// Charged for each value in addition to its bytes.
const VALUE_BYTES: usize = 64;

/// The loads of a batch while its answer is read.
pub(super) struct KeyedLoads<'k> {
    keys: &'k [Bytes],
    places: HashMap<&'k [u8], usize>,
    loads: Vec<Option<BatchedLoad>>,
    /// The answer may have the values of keys that it does not name.
    is_incomplete: bool,
    bytes_left: usize,
}

impl<'k> KeyedLoads<'k> {
    /// For `keys`, which are distinct.
    pub(super) fn new(keys: &'k [Bytes]) -> Self {
        Self {
            keys,
            places: keys.iter().enumerate().map(|(place, key)| (&**key, place)).collect(),
            loads: keys.iter().map(|_| None).collect(),
            is_incomplete: false,
            bytes_left: MAX_BATCH_BYTES,
        }
    }

    /// The keys that are texts. The others get `otherwise`.
    pub(super) fn texts(&mut self, otherwise: impl Fn() -> BatchedLoad) -> Vec<&'k str> {
        let keys = self.keys;
        let texts = keys.iter().zip(&mut self.loads).filter_map(|(key, load)| {
            let text = str::from_utf8(key).ok();
            if text.is_none() {
                *load = Some(otherwise());
            }
            text
        });
        texts.collect()
    }

    /// Adds what the answer says about `key`. The first time counts. Breaks when no more fits.
    ///
    /// # Errors
    /// `loaded` is an error of the whole call.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        loaded: Result<Loaded, Error>,
    ) -> Result<ControlFlow<()>, Error> {
        let load = match loaded {
            Ok(loaded) => BatchedLoad::Done(loaded),
            Err(error) if error.blame() == Blame::Key => BatchedLoad::Failed(error),
            Err(error) => return Err(error),
        };
        let bytes = key.len() + load.bytes() + VALUE_BYTES;
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            self.is_incomplete = true;
            return Ok(ControlFlow::Break(()));
        };
        self.bytes_left = left;
        match self.places.get(key) {
            Some(place) => _ = self.loads[*place].get_or_insert(load),
            // The origin may write a key differently, such as in lower case.
            None => self.is_incomplete = true,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The loads in the order of the keys. A key that the answer does not name is absent.
    pub(super) fn finish(self) -> Vec<BatchedLoad> {
        let unnamed = || match self.is_incomplete {
            true => BatchedLoad::LoadAlone,
            false => BatchedLoad::Done(Loaded::Absent),
        };
        self.loads.into_iter().map(|load| load.unwrap_or_else(unnamed)).collect()
    }

    /// The loads if the call failed because of a key, without saying which.
    pub(super) fn all_alone(self) -> Vec<BatchedLoad> {
        self.loads.into_iter().map(|load| load.unwrap_or(BatchedLoad::LoadAlone)).collect()
    }
}

impl BatchedLoad {
    fn bytes(&self) -> usize {
        match self {
            Self::Done(Loaded::Value(value) | Loaded::Tagged { value, .. }) => value.len(),
            Self::Done(Loaded::Absent) | Self::Failed(_) | Self::LoadAlone => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&'static str]) -> Vec<Bytes> {
        keys.iter().copied().map(Bytes::from).collect()
    }

    fn value(text: &'static str) -> Result<Loaded, Error> {
        Ok(Loaded::Value(text.into()))
    }

    /// One word or value per load.
    fn words(loads: Vec<BatchedLoad>) -> Vec<String> {
        let word = |load| match load {
            BatchedLoad::Done(Loaded::Absent) => "absent".to_owned(),
            BatchedLoad::Done(Loaded::Value(value) | Loaded::Tagged { value, .. }) => {
                String::from_utf8_lossy(&value).into_owned()
            }
            BatchedLoad::Failed(error) => error.kind().to_owned(),
            BatchedLoad::LoadAlone => "alone".to_owned(),
        };
        loads.into_iter().map(word).collect()
    }

    #[test]
    fn a_key_that_the_answer_does_not_name_is_absent() {
        let keys = keys(&["a", "b", "c"]);
        let mut loads = KeyedLoads::new(&keys);
        assert!(loads.add(b"c", value("3")).expect("fits").is_continue());
        assert!(loads.add(b"a", value("1")).expect("fits").is_continue());
        assert!(loads.add(b"a", value("later")).expect("fits").is_continue());
        assert_eq!(words(loads.finish()), ["1", "absent", "3"]);
    }

    #[test]
    fn an_answer_with_a_key_that_was_not_requested_leaves_unnamed_keys_to_loads_of_their_own() {
        let keys = keys(&["A", "b"]);
        let mut loads = KeyedLoads::new(&keys);
        assert!(loads.add(b"a", value("1")).expect("fits").is_continue());
        assert!(loads.add(b"b", value("2")).expect("fits").is_continue());
        assert_eq!(words(loads.finish()), ["alone", "2"]);
    }

    #[test]
    fn an_error_of_a_key_is_its_own_and_an_error_of_the_origin_is_that_of_the_call() {
        let keys = keys(&["a", "b"]);
        let mut loads = KeyedLoads::new(&keys);
        let large = Err(Error::TooLarge { max: 1 });
        assert!(loads.add(b"a", large).expect("of a key").is_continue());
        assert_eq!(loads.add(b"b", Err(Error::other("planned"))).expect_err("all").kind(), "other");
        assert_eq!(words(loads.finish()), ["too_large", "absent"]);
    }

    #[test]
    fn values_beyond_the_memory_of_a_call_are_loaded_alone() {
        let keys = keys(&["a", "b", "c"]);
        let mut loads = KeyedLoads::new(&keys);
        let large = || Ok(Loaded::Value(vec![b'x'; MAX_BATCH_BYTES * 2 / 3].into()));
        assert!(loads.add(b"a", large()).expect("fits").is_continue());
        assert!(loads.add(b"b", large()).expect("no error").is_break());
        assert_eq!(words(loads.finish())[1..], ["alone", "alone"]);
    }

    #[test]
    fn keys_that_are_no_texts_get_what_the_database_can_say_about_them() {
        let keys = [Bytes::from_static(b"a"), Bytes::from_static(b"\xff")];
        let mut loads = KeyedLoads::new(&keys);
        assert_eq!(loads.texts(|| BatchedLoad::LoadAlone), ["a"]);
        assert_eq!(words(loads.finish()), ["absent", "alone"]);
    }
}
