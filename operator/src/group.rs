//! Drives one CacheGroup from what is to what should be.

pub mod contract;

pub use self::contract::contract;
