//! Loads that share a call of the origin, whatever started them.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::origin::{BatchLoader, BatchedLoad, Loader};

/// Counts the calls, and answers with their number.
#[derive(Default)]
struct Batched {
    calls: AtomicUsize,
}

impl Batched {
    fn call(&self) -> Loaded {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        Loaded::Value(number.to_string().into())
    }
}

impl Loader for Batched {
    fn load<'l>(&'l self, _: &'l [u8]) -> BoxFuture<'l, Result<Loaded, origin::Error>> {
        std::future::ready(Ok(self.call())).boxed()
    }

    fn batch(&self) -> Option<&dyn BatchLoader> {
        Some(self)
    }
}

impl BatchLoader for Batched {
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, origin::Error>> {
        let value = self.call();
        let loads = keys.iter().map(|_| BatchedLoad::Done(value.clone())).collect();
        std::future::ready(Ok(loads)).boxed()
    }
}

/// Reads three keys with one request.
async fn read(rig: &Rig) -> Vec<Answer> {
    let keys = [&b"a"[..], b"b", b"c"];
    let reads = keys.iter().map(|key| ("g", *key, Caller::Application));
    let mut answers = Vec::new();
    for lookup in rig.cache.get_many(reads) {
        answers.push(match lookup {
            Lookup::Done(answer) => answer.expect("a value"),
            Lookup::Wait(wait) => wait.answer(rig.cache.default_deadline()).await.expect("a value"),
        });
    }
    sleep(Duration::from_millis(5)).await;
    answers
}

#[tokio::test(start_paused = true)]
async fn misses_early_refreshes_and_reloads_of_stale_entries_of_one_request_share_a_call() {
    let (rig, loader) = (plain(), Arc::new(Batched::default()));
    // Early enough that a read of a fresh entry always reloads it.
    let early = Freshness { early_refresh_percent: u32::MAX, ..FRESHNESS };
    rig.apply(FRESHNESS, OriginLimits::new(8, 500), loader.clone());
    let value = |answers: &[Answer]| {
        let texts: Vec<_> = answers.iter().map(|answer| answer.present().cloned()).collect();
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        String::from_utf8(texts[0].clone().expect("present").to_vec()).expect("a number")
    };
    assert_eq!(value(&read(&rig).await), "1", "misses");
    pass(1_100).await;
    let stale = read(&rig).await;
    assert!(stale.iter().all(Answer::is_stale) && value(&stale) == "1");
    assert_eq!(value(&read(&rig).await), "2", "reloaded");
    rig.apply(early, OriginLimits::new(8, 500), loader.clone());
    assert_eq!(value(&read(&rig).await), "2");
    assert_eq!(loader.calls.load(Ordering::SeqCst), 3, "refreshed early");
}
