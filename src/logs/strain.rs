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
    /// How long its thread was ready to run and got no CPU while it ran, in microseconds.
    #[serde(default)]
    pub starved_us: Option<u64>,
}

impl Strain {
    /// How long the machine kept its thread waiting, in microseconds: late to wake up, then without a CPU. `None`: not known.
    pub fn held_us(&self) -> Option<u64> {
        let woke_late = self.late_us.unwrap_or(0).saturating_sub(self.queued_us.unwrap_or(0));
        Some(self.starved_us?.saturating_add(woke_late).min(super::wire::NUMBER_MAX))
    }
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
    fn what_kept_the_thread_waiting_is_known_or_is_not() {
        for (name, json, expected) in [
            ("in time", r#"{"late_us":90,"queued_us":0,"running":1,"starved_us":0}"#, Some(90)),
            ("waited for a worker", r#"{"late_us":5000,"queued_us":4900,"running":9,"starved_us":7}"#, Some(107)),
            ("not due", r#"{"running":1,"starved_us":7}"#, Some(7)),
            ("a kernel that does not tell", r#"{"late_us":90,"queued_us":0,"running":1,"starved_us":null}"#, None),
            ("nothing at all", "{}", None),
            ("queued longer than late", r#"{"late_us":5,"queued_us":9,"starved_us":1}"#, Some(1)),
            (
                "more than a column holds",
                r#"{"late_us":18446744073709551615,"starved_us":1}"#,
                Some(i64::MAX.unsigned_abs()),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Strain>(json).unwrap().held_us(), expected, "{name}");
        }
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
