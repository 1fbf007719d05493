//! SASL: who we are (KIP-43, KIP-152).
use std::time::Instant;

use super::connection::Connection;
use super::{Error, Sasl};

/// Shows the credentials to the broker.
///
/// # Errors
/// When it refuses them.
pub fn authenticate(_connection: &mut Connection, _sasl: &Sasl, _by: Instant) -> Result<(), Error> {
    Err(Error::Unusable("SASL is not available in this build yet".to_owned()))
}
