//! What the agent itself did to a check: the `run` of a log's `result`.
//!
//! ```json
//! "run":{"late_us":93,"queued_us":0,"running":3,"starved_us":41}
//! ```
//!
//! A check that is measured by a busy machine measures the machine, too. These figures are what tells the two apart.

use serde::{Deserialize, Serialize};

/// How a check fared with the agent that ran it. What is not known is `None` (null on the wire), never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strain {
    /// How long after its due it began, in microseconds; `None` (left out on the wire) for a check that was not due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_us: Option<u64>,
    /// How much of that went by before a worker had it in hand: all were busy, or it was handed out late. The rest is what the
    /// worker took to wake up, having waited for the due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_us: Option<u64>,
    /// How many checks this process ran at once when it began, itself included.
    #[serde(default)]
    pub running: Option<u32>,
    /// How long its thread was ready to run and got no CPU while it ran, in microseconds. Threads that look up names, and plugins,
    /// are not in it, nor is what a hypervisor took.
    #[serde(default)]
    pub starved_us: Option<u64>,
}

/// What of a `result` holds the strain.
#[derive(Deserialize)]
pub(super) struct WithRun {
    pub(super) run: Strain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_read_as_far_as_it_goes() {
        let read = |json: &str| serde_json::from_str::<Strain>(json).map(|strain| strain.starved_us).ok();
        assert_eq!(read("{}"), Some(None));
        assert_eq!(read(r#"{"late_us":90,"starved_us":7,"stolen_us":3}"#), Some(Some(7)));
        assert_eq!(read(r#"{"starved_us":-1}"#), None);
    }

    #[test]
    fn what_is_not_known_is_null_and_what_does_not_apply_is_left_out() {
        let text = |strain: Strain| serde_json::to_string(&strain).unwrap();
        let once = Strain { running: Some(2), ..Strain::default() };
        assert_eq!(text(once), r#"{"running":2,"starved_us":null}"#);
        let due = Strain { late_us: Some(90), queued_us: Some(0), starved_us: Some(12), ..once };
        assert_eq!(text(due), r#"{"late_us":90,"queued_us":0,"running":2,"starved_us":12}"#);
    }
}
