//! Panics on this thread: every one is a finding, also one that a task's handle reports to nobody.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static TAKEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Records the panics of this thread from now on, and prints none of them.
pub(crate) fn begin() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let recorded = TAKEN.with(|taken| {
                taken
                    .borrow_mut()
                    .as_mut()
                    .map(|texts| texts.push(info.to_string().replace('\n', " ")))
                    .is_some()
            });
            if !recorded {
                print(info);
            }
        }));
    });
    TAKEN.with(|taken| *taken.borrow_mut() = Some(Vec::new()));
}

/// The panics since [`begin`], which records no more of them.
pub(crate) fn taken() -> Vec<String> {
    TAKEN.with(|taken| taken.borrow_mut().take()).unwrap_or_default()
}
