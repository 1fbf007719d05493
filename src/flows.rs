//! The flows of this process: a pump each, on a thread of its own, and what they have done. Health and metrics read it here.

use std::sync::Arc;
use std::time::Duration;

use crate::flow::{Backoff, DRAIN_MAX, Figures, Pump, Sink, Source, pump};
use crate::jobs::{Jobs, Stop, step_back};
use crate::kafka;

/// What one pump carries and has done.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What it carries: `spool to store`.
    pub name: String,
    /// What it has done.
    pub figures: Arc<Figures>,
    /// What its Kafka client has done, if it has one.
    pub kafka: Option<Arc<kafka::figures::Figures>>,
}

impl Flow {
    /// Between two ends that are here.
    pub(crate) fn embedded(name: &str) -> Self {
        Flow { name: name.to_owned(), figures: Arc::default(), kafka: None }
    }

    /// To a topic or from it.
    pub(crate) fn with_kafka(name: String) -> Self {
        Flow { name, figures: Arc::default(), kafka: Some(Arc::default()) }
    }
}

const STACK: usize = 512 * 1024;
const LIMIT_STACK: usize = 128 * 1024;

/// How a pump waits after a fault: a store or broker that is restarted is met within a second, one that stays away is asked twice a
/// minute.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };

/// Starts a flow on a thread named `thread`, until `stop` is set and its source is empty. Sets `over` after its last step, when
/// both ends are closed.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start<S, K>(
    jobs: &Jobs,
    thread: &str,
    flow: &Flow,
    (source, sink): (S, K),
    (stop, over): (&Stop, &Stop),
) -> Result<(), String>
where
    S: Source + Send + 'static,
    K: Sink + Send + 'static,
{
    let (name, figures, stop, over) = (flow.name.clone(), flow.figures.clone(), stop.clone(), SetAtEnd(over.clone()));
    jobs.start(thread, STACK, move |pulse| {
        let _over = over;
        // Dropped before it: a consumer says goodbye to its group.
        let (mut source, mut sink) = (source, sink);
        step_back();
        let how = Pump { name: &name, backoff: BACKOFF, figures: &figures, pulse, stop: &stop };
        pump(&mut source, &mut sink, &how).map_err(|error| error.0)
    })
}

/// The word to stop for what must not hold up the end: given [`DRAIN_MAX`] after `stop`, or when whoever has it is done and sets
/// it. Until then the batch in hand can still be delivered and committed.
///
/// # Errors
/// When the thread that waits cannot be started.
pub(crate) fn last_word(jobs: &Jobs, thread: &str, stop: &Stop) -> Result<Stop, String> {
    let last = Stop::default();
    let (stop, given) = (stop.clone(), last.clone());
    jobs.start(thread, LIMIT_STACK, move |_| {
        // Nobody sends on it: it closes.
        let _ = stop.channel().recv();
        given.wait(DRAIN_MAX);
        given.set();
        Ok(())
    })?;
    Ok(last)
}

/// Gives the word when it is dropped, so also when the thread that holds it panics.
pub(crate) struct SetAtEnd(pub(crate) Stop);

impl Drop for SetAtEnd {
    fn drop(&mut self) {
        self.0.set();
    }
}
