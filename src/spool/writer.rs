//! The end that takes logs in, and its loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, select};

use super::append::Appender;
use crate::clock::Timestamp;
use crate::flow::{Backoff, Fault};
use crate::jobs::{Pulse, Stop};
use crate::logs::Log;

/// Logs that wait for one flush in memory, at most; then it comes early.
pub const GROUP_LOGS_MAX: usize = 4_096;
/// How often the channel is emptied while a group gathers: a wake-up for each log would cost more than the log.
const GATHER_SLICE: Duration = Duration::from_millis(50);
/// A nap that brings no more than these was not worth it.
const NAP_LOGS_MIN: usize = 2;
/// How long a full spool or a failing disk is waited for after the word to stop, in all.
pub const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to wait before the next try.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(10) };
/// A try that takes longer than this, the pause after it included, is stuck in the disk.
const PULSE_LIMIT: Duration = Duration::from_secs(30);

/// Logs that were lost since they could not be kept before stopping, among the figures of what was dropped.
const UNKEPT: &str = "not_kept_at_stop";

/// The end that takes logs in. Gives each its `seq`.
#[derive(Debug)]
pub struct Writer {
    pub(super) appender: Appender,
    /// When waiting ends, once the word to stop was seen while waiting.
    pub(super) give_up_at: Option<Instant>,
}

/// Takes logs in until their channel closes, and commits them together every `flush`. Never wakes while nothing comes.
///
/// A spool that is full and told to block, and a disk that fails, are waited for, so that the channel fills and whoever sends
/// waits too. Once `stop` is set the waiting ends after `STOP_WAIT_MAX`; what could not be kept is counted and said. `pulse`
/// rests while no logs come, and is set anew with each try.
///
/// # Errors
/// A sentence for people, when the spool is damaged, or logs could not be kept before stopping; it says how many were lost.
pub fn write(
    mut writer: Writer,
    logs: &Receiver<Log>,
    flush: Duration,
    stop: &Stop,
    pulse: &Pulse,
) -> Result<(), String> {
    let (mut group, mut quiet) = (Vec::new(), true);
    pulse.rest();
    while let Ok(log) = logs.recv() {
        group.push(log);
        gather(&mut group, logs, flush, quiet, stop);
        quiet = group.len() <= NAP_LOGS_MIN;
        if let Err(Broken { reason, unkept }) = writer.keep(&group, stop, pulse) {
            // Those that wait in the channel are lost with it.
            let lost = unkept + logs.try_iter().count();
            writer.count_unkept(lost);
            return Err(format!("{reason}; logs lost: {lost}"));
        }
        pulse.rest();
        group.clear();
    }
    match writer.unkept() {
        0 => Ok(()),
        unkept => Err(format!("logs that could not be kept before stopping: {unkept}")),
    }
}

/// A spool that will not take these logs, nor others.
struct Broken {
    reason: String,
    unkept: usize,
}

/// Adds what comes within `flush`. `quiet`: hardly anything did the time before.
fn gather(group: &mut Vec<Log>, logs: &Receiver<Log>, flush: Duration, quiet: bool, stop: &Stop) {
    let until = Instant::now() + flush;
    let crowd = logs.capacity().unwrap_or(usize::MAX) / 2;
    let mut napped = quiet;
    loop {
        let before = group.len();
        while group.len() < GROUP_LOGS_MAX {
            match logs.try_recv() {
                Ok(log) => group.push(log),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || group.len() >= GROUP_LOGS_MAX {
            return;
        }
        // Nobody shall wait for a nap of ours: not who sends, in a small channel, and not who stops. And where a nap brought
        // next to nothing, the next log is waited for: an agent with little to do wakes no more than it has to.
        let brought = group.len() - before;
        let wait_for_one = brought >= crowd || (napped && brought <= NAP_LOGS_MIN);
        if wait_for_one || stop.wait(left.min(GATHER_SLICE)) {
            match logs.recv_timeout(left) {
                Ok(log) => group.push(log),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
        napped = !wait_for_one;
    }
}

impl Writer {
    pub(super) fn new(appender: Appender) -> Self {
        Writer { appender, give_up_at: None }
    }

    pub(super) fn last_due(&self) -> HashMap<Arc<str>, Timestamp> {
        self.appender.last_due()
    }

    /// Keeps the first of `logs`, as many as one transaction takes, and says how many: at least one. What [`write()`] does with
    /// each group, for who has no channel.
    ///
    /// # Errors
    /// See [`Fault`]; after one, none of `logs` is kept.
    pub fn append(&mut self, logs: &[Log]) -> Result<usize, Fault> {
        self.appender.append(logs)
    }

    /// Keeps all of `logs`, however long it takes, unless told to stop.
    fn keep(&mut self, mut logs: &[Log], stop: &Stop, pulse: &Pulse) -> Result<(), Broken> {
        let mut failures = 0;
        while !logs.is_empty() {
            pulse.back_in(PULSE_LIMIT);
            match self.append(logs) {
                Ok(count) => {
                    logs = &logs[count..];
                    failures = 0;
                    self.show(None);
                }
                Err(Fault::Broken(reason)) => return Err(Broken { reason, unkept: logs.len() }),
                Err(Fault::Retry(reason)) => {
                    self.show(Some(reason));
                    failures += 1;
                    // Nobody else tries at the same time, so there is nothing to scatter.
                    if !self.wait(RETRY.delay(failures, 0.0), stop) {
                        self.count_unkept(logs.len());
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for a next try: until logs were handed on, the word to stop comes, or `pause` is over. False: no more tries.
    fn wait(&mut self, pause: Duration, stop: &Stop) -> bool {
        let room = &self.appender.shared.room.1;
        if stop.is_set() {
            let until = *self.give_up_at.get_or_insert_with(|| Instant::now() + STOP_WAIT_MAX);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let _ = room.recv_timeout(pause.min(left));
        } else {
            select! {
                recv(room) -> _ => {}
                recv(stop.channel()) -> _ => {}
                default(pause) => {}
            }
        }
        true
    }

    /// Says a change of state once, not once a try.
    fn show(&self, error: Option<String>) {
        let mut figures = self.appender.shared.figures();
        if figures.error != error {
            match &error {
                Some(reason) => log::error!("{reason}; logs wait in memory until it takes them"),
                None => log::info!("the spool takes logs again"),
            }
            figures.error = error;
        }
    }

    fn count_unkept(&self, count: usize) {
        *self.appender.shared.figures().dropped.entry(UNKEPT).or_default() += count as u64;
    }

    fn unkept(&self) -> u64 {
        self.appender.shared.figures().dropped.get(UNKEPT).copied().unwrap_or(0)
    }
}
