//! What the config contract has and this build has not yet. It is read and validated like all else, and then refused.

use super::error::Complaint;

/// The features that are refused; whoever builds one deletes its line.
const NOT_YET: &[&str] = &["tls", "icmp", "starttls", "ip: each"];

/// Why `feature` cannot be used, if it cannot.
pub(super) fn refuse(feature: &str) -> Option<Complaint> {
    NOT_YET.contains(&feature).then(|| Complaint::new(format!("`{feature}` is not available in this build yet")))
}
