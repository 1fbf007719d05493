//! Something that goes on while something else is done.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// Does `load`, which ends when it is told that all is over, while `meanwhile` goes on, also to its panic; what the load came to.
pub fn during<T: Send>(meanwhile: impl FnOnce(), load: impl FnOnce(&AtomicBool) -> T + Send) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| load(&over));
        let load_ends = SetAtEnd(&over);
        meanwhile();
        drop(load_ends);
        load.join().unwrap()
    })
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
