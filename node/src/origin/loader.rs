//! The trait of an origin, and a function as an origin.

use bytes::Bytes;
use futures::future::BoxFuture;

use super::error::Error;

/// What an origin returns for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The key's value, which may be empty.
    Value(Bytes),
    /// A value and the tags by which it can be invalidated, within the limits of
    /// [`check_tags`](super::check_tags).
    Tagged {
        /// As in [`Loaded::Value`].
        value: Bytes,
        /// Any texts or bytes, in any order.
        tags: Vec<Bytes>,
    },
    /// There is no such key.
    Absent,
}

impl Loaded {
    /// A value, tagged if there are tags.
    pub(super) fn with_tags(value: Bytes, tags: Vec<Bytes>) -> Self {
        if tags.is_empty() { Self::Value(value) } else { Self::Tagged { value, tags } }
    }
}

/// What a call for several keys says about one of them.
#[derive(Debug)]
pub enum BatchedLoad {
    /// The key was loaded.
    Done(Loaded),
    /// The load of this key failed; the others are not affected.
    Failed(Error),
    /// Only a call for this key alone can tell.
    LoadAlone,
}

/// Loads keys, each on its own.
///
/// # Cancel safety
/// A load may be dropped at any await, and must not affect later loads.
pub trait Loader: Send + Sync {
    /// Loads `key`.
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>>;

    /// The form that loads several keys with one call; `None` if there is none.
    fn batch(&self) -> Option<&dyn BatchLoader> {
        None
    }

    /// Prepares for the first load, in the background. Called on a runtime when a member adds the
    /// group. Logs what would make loads fail.
    fn warm(&self) {}

    /// What loads wait for now, if it is not the origin's answer. Part of the error of a load that
    /// timed out.
    fn pending(&self) -> Option<String> {
        None
    }
}

/// Loads several keys with one call.
///
/// # Cancel safety
/// As for [`Loader`].
pub trait BatchLoader: Send + Sync {
    /// Loads `keys`, which are distinct. The result has one item per key, in their order.
    ///
    /// # Errors
    /// The call failed, and every key with it.
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, Error>>;
}

/// Makes a loader from a function of the key.
///
/// ```
/// use larder_node::origin::{Loaded, from_fn};
///
/// let loader = from_fn(|key: bytes::Bytes| async move {
///     if key == "Tom" { Ok(Loaded::Value("630".into())) } else { Ok(Loaded::Absent) }
/// });
/// # let _: &dyn larder_node::origin::Loader = &loader;
/// ```
pub fn from_fn<F, Load>(load: F) -> FromFn<F>
where
    F: Fn(Bytes) -> Load + Send + Sync,
    Load: Future<Output = Result<Loaded, Error>> + Send + 'static,
{
    FromFn(load)
}

/// The loader that [`from_fn`] makes.
#[derive(Debug, Clone)]
pub struct FromFn<F>(F);

impl<F, Load> Loader for FromFn<F>
where
    F: Fn(Bytes) -> Load + Send + Sync,
    Load: Future<Output = Result<Loaded, Error>> + Send + 'static,
{
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        Box::pin((self.0)(Bytes::copy_from_slice(key)))
    }
}
